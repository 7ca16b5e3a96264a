"""One-line explanations of command lines that config_flags refused.

config_flags runs the config file and sets its fields while it parses flags, and raises a different
exception for each kind of mistake. This module repeats the steps one by one to find the mistake.
"""

from collections.abc import Iterator
from importlib import metadata
import os
import runpy
import sys
import traceback
from typing import Any

from absl import flags
import ml_collections
from ml_collections.config_flags import tuple_parser

from kdtw_jax.config.rules import unknown_field

_MOST_SAID = 200  # characters kept of a message that is not ours
_PARSERS = {
    bool: (flags.BooleanParser(), "true or false"),
    int: (flags.IntegerParser(), "a whole number"),
    float: (flags.FloatParser(), "a number"),
    tuple: (tuple_parser.TupleParser(), "a tuple in quotation marks, e.g. '(0.1, 0.2)'"),
}


def with_config_found(argv: list[str]) -> list[str]:
  """Finds the config file, and lets it import `configs.common` beside it.

  A path that is no file of the working directory may be one that came with the installed package,
  such as `configs/demo.py`.

  Args:
    argv: the command line.

  Returns:
    The command line, with the path of the installed file where that is meant.
  """
  found = []
  for flag in argv:
    path = flag.removeprefix("--config=").partition(":")[0]
    if flag.startswith("--config=") and path:
      at = path if os.path.exists(path) else _installed(path) or path
      sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(at))))
      flag = flag.replace(path, at, 1)
    found.append(flag)
  return found


def _installed(path: str) -> str | None:
  """Returns where a file of `share/kdtw_jax/` was installed, if it was."""
  try:
    files = metadata.files("kdtw_jax") or []
  except metadata.PackageNotFoundError:  # the sources alone are on the path
    return None
  own = [file for file in files if file.as_posix().endswith(f"share/kdtw_jax/{path}")]
  return os.path.normpath(str(own[0].locate())) if own else None


def one_line(error: BaseException) -> str:
  """Returns an error's message without line breaks, or the error's type if it has none."""
  said = " ".join(str(error).splitlines()).strip()
  return said or type(error).__name__


def explain(argv: list[str], error: Exception | None) -> str:
  """Finds the mistake in a command line.

  Args:
    argv: the command line, program name first.
    error: the exception that parsing raised, if any.

  Returns:
    The flag, its value and the remedy, or the error's own message if it is not about a config.
  """
  argument, overrides = None, []
  missing = "--config: is missing: name a config file, e.g. --config=configs/demo.py"
  for flag, value in _flags(argv[1:]):
    if flag == "config":
      argument = value
    elif flag.startswith("config."):
      if argument is None:
        return f"--{flag}: must stand after --config=FILE, whose field it sets"
      overrides.append((flag.removeprefix("config."), value and value[:_MOST_SAID]))
  if not argument:
    return missing
  try:
    config = _load(argument)
    for field, text in overrides:
      _check(config, field, text)
  except ValueError as found:
    return one_line(found)
  return one_line(error)[:_MOST_SAID] if error else missing


def _flags(words: list[str]) -> Iterator[tuple[str, str | None]]:
  """Yields each flag's name and value as absl reads them; a last flag without a value gets None."""
  for i, word in enumerate(words):
    if word == "--":
      return
    if not word.startswith("-"):
      continue
    name, has_value, value = word.lstrip("-").partition("=")
    following = words[i + 1] if i + 1 < len(words) else None
    yield name, value if has_value else following


def _load(argument: str) -> ml_collections.ConfigDict:
  """Runs a config file; raises ValueError that names the file, the line and the mistake."""
  path, *rest = argument.split(":", 1)
  if not os.path.isfile(path):
    kind = "a folder" if os.path.isdir(path) else "no file"
    raise ValueError(f"--config={argument}: {path} is {kind}: name a config file")
  try:
    config = runpy.run_path(path)["get_config"](*rest)
  except KeyError as error:
    if error.args != ("get_config",):
      raise _in_file(argument, error) from error
    raise ValueError(f"--config={argument}: defines no get_config(arg=None): write one") from error
  except SyntaxError as error:
    raise ValueError(
        f"--config={argument}: {error.filename}, line {error.lineno}: {error.msg}: no Python"
    ) from error
  except Exception as error:
    raise _in_file(argument, error) from error
  if not isinstance(config, ml_collections.ConfigDict):
    raise ValueError(
        f"--config={argument}: get_config() gives a {type(config).__name__}: make it "
        "modify and return kdtw_jax.config.defaults()"
    )
  return config


def _in_file(argument: str, error: Exception) -> ValueError:
  """Rewords an error from a config file; keeps a ValueError's message, and locates all others."""
  said = one_line(error)[:_MOST_SAID]
  if type(error) is ValueError:
    return ValueError(f"--config={argument}: {said}")
  path = argument.split(":", 1)[0]
  lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
  where = f"{path}, line {lines[-1]}" if lines else path
  return ValueError(
      f"--config={argument}: {where}: {type(error).__name__}: {said}; --debug shows the traceback"
  )


def _check(config: ml_collections.ConfigDict, field: str, text: str | None) -> None:
  """Raises ValueError if the config has no such field, or the text is no value for it."""
  held: Any = config
  for name in field.split("."):
    if not isinstance(held, ml_collections.ConfigDict):
      raise ValueError(f"config.{field}={text}: config.{field.rpartition('.')[0]} has no fields")
    if name not in held:
      hint = ""
      if field.startswith("evaluation.dials."):
        hint = f"; of another policy: --config.evaluation.dials=\"{{'{name}': (0.1, 0.3)}}\""
      raise ValueError(unknown_field(field, str(text), name, list(held)) + hint)
    held = held[name]
  if isinstance(held, ml_collections.ConfigDict):
    raise ValueError(
        f"config.{field}={text}: is a section, with the fields {', '.join(held)}: set one of them"
    )
  if text is None:
    raise ValueError(f"config.{field}: needs a value: --config.{field}=...")
  parser, meant = _PARSERS.get(type(held), (None, ""))
  try:
    if parser:
      parser.parse(text)
  except Exception as error:
    raise ValueError(f"config.{field}={text}: must be {meant}") from error
