"""Runs of TensorBoard: one a folder, gone on with or replaced, never with a point twice."""

import subprocess
import sys

import pytest

from kdtw_jax import tensorboard
from tests.event_files import events, logged, runs


def test_a_run_starts_and_logs_without_torch_and_matplotlib(tmp_path):
  """They take seconds to import; tensorboardX imports torch where it is installed."""
  program = f"""
import pathlib, sys
import kdtw_jax.main, kdtw_jax.run
kdtw_jax.run.devices.make_mesh(data=-1, fsdp=1, tensor=1)
from kdtw_jax import tensorboard
tensorboard.write_runs(pathlib.Path({str(tmp_path)!r}), {{"a": {{"x": [(0, 1.0)]}}}})
print([name for name in ("torch", "matplotlib", "transformers") if name in sys.modules])
"""
  done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
  assert done.stdout == "[]\n"
  assert logged(tmp_path / "a") == {"x": [(0, 1.0)]}


def log(folder, first_step, *steps):
  writer = tensorboard.StageWriter(folder, first_step=first_step)
  for step in steps:
    writer.log(step, {"train/loss": step + first_step / 10})
  writer.close()


def test_a_run_that_goes_on_drops_what_comes_again(tmp_path):
  log(tmp_path, 0, 1, 2, 3, 4)
  log(tmp_path, 2, 3, 4, 5)  # within the second in which the first file was made
  first, _ = sorted(tmp_path.iterdir())
  assert len([event for event in events(first) if event.summary.value]) == 4
  assert logged(tmp_path)["train/loss"] == [
      (1, 1.0),
      (2, 2.0),
      *[(step, pytest.approx(step + 0.2)) for step in (3, 4, 5)],
  ]


def test_whole_runs_take_the_place_of_those_before(tmp_path):
  tensorboard.write_runs(tmp_path, {"a": {"x": [(0, 1.0)]}, "gone": {"x": [(0, 1.0)]}})
  written = {"a": {"x": [(0, 2.0), (7, 3.0)], "y": [(1, 4.0)]}, "b": {"x": [(2, 5.0)]}}
  tensorboard.write_runs(tmp_path, written)
  assert runs(tmp_path) == written
  tensorboard.write_runs(tmp_path / "new", {})
  assert runs(tmp_path / "new") == {}
