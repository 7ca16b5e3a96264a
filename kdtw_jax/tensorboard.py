"""Scalars for TensorBoard, which takes each folder of events for a run and draws each tag once.

So that curves lie over each other, runs share tags: every stage has its loss as `train/loss`, every
method its scores as `evaluation/test/bleu`. All scalars are written here; a run of W&B, if one is
open, gets the same ones (`tracking.py`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
import sys
from typing import Any

from kdtw_jax import tracking

Curves = Mapping[str, Sequence[tuple[int, float]]]  # (step, value) by tag

_EVENTS = "events.out.tfevents.*"


def _summary_writer(folder: Path, **options: Any) -> Any:
  """Opens a `SummaryWriter` of tensorboardX.

  It imports torch where that is installed, which takes seconds, to know its tensors. None are
  logged here, so it is told that there is none.
  """
  hidden = "tensorboardX" not in sys.modules and "torch" not in sys.modules
  if hidden:
    sys.modules["torch"] = None  # pyright: ignore[reportArgumentType]
  try:
    import tensorboardX
  finally:
    if hidden:
      del sys.modules["torch"]
  return tensorboardX.SummaryWriter(str(folder), **options)


class StageWriter:
  """The run of a stage, which logs on after a step; what was logged after it before is dropped."""

  def __init__(self, folder: Path, *, first_step: int, logged_to: int = 0):
    """Opens the run.

    Args:
      folder: the run's folder; its name is that of the run.
      first_step: the last step whose scalars are kept, 0 at the start of a stage.
      logged_to: the last step that was logged before. W&B drops nothing, so it gets no step twice.
    """
    self._name, self._logged_to = folder.name, logged_to
    self._writer = _summary_writer(
        folder,
        purge_step=first_step + 1,
        filename_suffix=f".{first_step}",  # else a file of the same second would be replaced
    )

  def log(self, step: int, scalars: Mapping[str, float]) -> None:
    """Writes the scalars of a step, by tag."""
    for tag, value in scalars.items():
      self._writer.add_scalar(tag, value, step)
    if step > self._logged_to:
      tracking.log(self._name, step, scalars)

  def close(self) -> None:
    """Ends the writing."""
    self._writer.close()


def write_runs(folder: Path, runs: Mapping[str, Curves]) -> None:
  """Writes whole runs into a folder, in place of those that are in it.

  Args:
    folder: has a folder for each run.
    runs: curves by the name of the run; steps ascend.
  """
  for events in folder.rglob(_EVENTS):
    events.unlink()
  for name, curves in runs.items():
    with _summary_writer(folder / name) as writer:
      for tag, points in curves.items():
        for step, value in points:
          writer.add_scalar(tag, value, step)
  tracking.log_curves(folder.name, runs)
