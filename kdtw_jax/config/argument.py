"""The argument of a config file: what stands after the colon of `--config=FILE:ARGUMENT`."""

from collections.abc import Iterable
from typing import NamedTuple

import ml_collections


class Argument(NamedTuple):
  """What the argument says.

  Attributes:
    mode: one of the file's modes, "" for the default.
    options: the file's options by name, given or default.
  """

  mode: str
  options: ml_collections.ConfigDict


def parse_arg(arg: str | None, modes: Iterable[str] = (), **options: str) -> Argument:
  """Reads an argument such as `smoke` or `pair=en-fr,student=t5-base,smoke`.

  Args:
    arg: the text after the colon, or None or "" where there is none.
    modes: the modes that this config file offers besides the default "".
    **options: the options that it offers, with their defaults.

  Returns:
    The mode and the options.

  Raises:
    ValueError: for a mode or an option that the file does not offer, or two modes.
  """
  modes, found, mode = tuple(modes), dict(options), ""
  offered = ", ".join([*modes, *(f"{name}=..." for name in options)])
  for part in filter(None, (arg or "").split(",")):
    name, is_option, value = part.partition("=")
    if is_option and name in options and value:
      found[name] = value
    elif not is_option and part in modes and not mode:
      mode = part
    else:
      raise ValueError(
          f"config argument {part!r} is unknown or said twice; this file offers " f"{offered}"
      )
  return Argument(mode, ml_collections.ConfigDict(found))
