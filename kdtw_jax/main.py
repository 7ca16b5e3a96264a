"""Command line: `python -m kdtw_jax.main --config=configs/demo.py --workdir=runs/demo`."""

import logging as std_logging
import os
import sys

from absl import app, flags
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "Config file, with an argument after a colon: configs/demo.py:smoke",
    lock_config=True,
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; made, or resumed")
flags.mark_flags_as_required(["config", "workdir"])


def main(argv: list[str]) -> None:
  """Parses flags and runs the experiment; user errors end in one line, not a traceback."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments {argv[1:]}; overrides look like --config.seed=1")
  flags_given = os.environ.get("XLA_FLAGS", "")
  os.environ["XLA_FLAGS"] = f"{flags_given} {_CONFIG.value.xla_flags}".strip()
  for chatty in ("absl", "jax"):  # orbax and others report to absl's
    std_logging.getLogger(chatty).setLevel(std_logging.WARNING)
  from kdtw_jax import run  # after the flags: a typo should not wait for JAX to load
  from kdtw_jax.training.loop import NonFiniteError

  try:
    run.train_and_evaluate(_CONFIG.value, _WORKDIR.value)
  except (ValueError, OSError, NonFiniteError) as error:
    if flags.FLAGS["debug"].value:
      raise
    sys.exit(f"error: {error}")


flags.DEFINE_bool("debug", False, "Show the traceback of a user error")

if __name__ == "__main__":
  app.run(main)
