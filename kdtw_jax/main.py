"""Command line: `python -m kdtw_jax.main --config=configs/demo.py --workdir=runs/demo`."""

import logging as std_logging
import os
import sys
from typing import Any

from absl import app, flags
import ml_collections
from ml_collections import config_flags

from kdtw_jax import config as config_lib
from kdtw_jax import preemption, processes
from kdtw_jax.config import command_line

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "Config file, with an argument after a colon: configs/demo.py:smoke",
    lock_config=True,
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; made, or resumed")
_COORDINATOR = flags.DEFINE_string(
    "coordinator",
    None,
    "Of several processes that are not found by themselves: HOST:PORT of the first",
)
_PROCESSES = flags.DEFINE_integer("processes", None, "How many they are")
_PROCESS = flags.DEFINE_integer("process", None, "Which of them this one is, from 0")
flags.DEFINE_bool("debug", False, "Show the traceback of a user error")


def cli() -> None:
  """Parses the command line and runs it; user errors and signals end in a line, no traceback."""
  preemption.install()
  if os.getcwd() not in sys.path:  # an installed command, unlike python -m, omits it
    sys.path.insert(0, os.getcwd())
  app.run(main, flags_parser=_parse)


def _parse(argv: list[str]) -> list[str]:
  """Returns the arguments that are not flags."""
  failure = None
  argv = command_line.with_config_found(argv)
  try:
    words = flags.FLAGS(argv)
  except Exception as error:
    if "--debug" in argv:
      raise
    failure = error
  if failure or not isinstance(_CONFIG.value, ml_collections.ConfigDict):
    sys.exit(f"error: {command_line.explain(argv, failure)}")
  return words


def main(argv: list[str]) -> None:
  """Runs what the flags specify."""
  try:
    _run(argv)
  except (ValueError, OSError) as error:
    if flags.FLAGS["debug"].value:
      raise
    sys.exit(f"error: {command_line.one_line(error)}")


def quiet_libraries() -> None:
  """Keeps the terminal free of idle talk, and of what orbax says of errors that it also raises."""
  for chatty in ("absl", "jax", "matplotlib"):  # orbax and others log to absl's
    std_logging.getLogger(chatty).setLevel(std_logging.WARNING)
  std_logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname)
  # Tasks of a save that failed, when they are collected.
  std_logging.getLogger("asyncio").addFilter(lambda record: "orbax" not in record.getMessage())

  def hook(unraisable: Any) -> None:
    if str(unraisable.exc_value) != "Event loop is closed":  # the rest of a save that failed
      sys.__unraisablehook__(unraisable)

  sys.unraisablehook = hook


def _run(argv: list[str]) -> None:
  if len(argv) > 1:
    raise ValueError(f"{argv[1]!r} is no flag; overrides look like --config.seed=1")
  workdir = _WORKDIR.value or ""
  if not workdir.strip():
    raise ValueError(
        f"--workdir={workdir}: is missing: name a folder for the run, e.g. --workdir=runs/demo"
    )
  config_lib.validate(_CONFIG.value)
  flags_given = os.environ.get("XLA_FLAGS", "")
  os.environ["XLA_FLAGS"] = f"{flags_given} {_CONFIG.value.xla_flags}".strip()
  quiet_libraries()
  processes.start(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
  from kdtw_jax import run  # only now, so that a typo is reported before JAX loads
  from kdtw_jax.training.loop import NonFiniteError

  try:
    run.train_and_evaluate(_CONFIG.value, workdir)
  except NonFiniteError as error:
    raise ValueError(error) from error


if __name__ == "__main__":
  cli()
