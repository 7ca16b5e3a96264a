"""A task's whole path in a minute: its config's `:smoke` on made-up data and tiny published models.

    python tests/smoke_task.py wmt [--workdir=runs/smoke-wmt] [further flags of kdtw_jax.main]

The data come from `tfds.testing.mock_data`, the models from tests/tiny_published.py: nothing is
downloaded. All else is what `python -m kdtw_jax.main --config=configs/wmt.py` does.
"""

import os
from pathlib import Path
import sys
from unittest import mock

import tensorflow_datasets as tfds

from kdtw_jax import config
from kdtw_jax import main as command_line


def main() -> None:
  """Writes the models and runs the config."""
  if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
    sys.exit(__doc__)
  task, *further = sys.argv[1:]
  workdir = next(
      (flag.partition("=")[2] for flag in further if flag.startswith("--workdir=")),
      f"runs/smoke-{task}",
  )
  os.environ["XLA_FLAGS"] = config.fast_compile_flags()  # read when JAX starts, with these models
  import tiny_published

  teacher, student = tiny_published.write_pair(Path(workdir) / "published")
  flags = [
      f"--config=configs/{task}.py:smoke",
      f"--config.teacher.pretrained={teacher}",
      f"--config.student.pretrained={student}",
      f"--workdir={workdir}",
      *further,
  ]
  with tfds.testing.mock_data(num_examples=64), mock.patch.object(sys, "argv", ["main", *flags]):
    command_line.cli()


if __name__ == "__main__":
  main()
