"""Scalars for TensorBoard, which takes each folder of events for a run and draws each tag once.

So that curves lie over each other, runs share tags: every stage has its loss as `train/loss`, every
method its scores as `evaluation/test/bleu`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tensorboardX import SummaryWriter

Curves = Mapping[str, Sequence[tuple[int, float]]]  # (step, value) by tag

_EVENTS = "events.out.tfevents.*"


def open_run(folder: Path, *, first_step: int) -> SummaryWriter:
  """Opens the run of a stage to log on after a step; drops what was logged after it before.

  Args:
    folder: the run's folder; its name is that of the run.
    first_step: the last step whose scalars are kept, 0 at the start of a stage.

  Returns:
    The writer, to be closed.
  """
  return SummaryWriter(
      str(folder),
      purge_step=first_step + 1,
      filename_suffix=f".{first_step}",  # else a file of the same second would be replaced
  )


def write_runs(folder: Path, runs: Mapping[str, Curves]) -> None:
  """Writes whole runs into a folder, in place of those that are in it.

  Args:
    folder: has a folder for each run.
    runs: curves by the name of the run; steps ascend.
  """
  for events in folder.rglob(_EVENTS):
    events.unlink()
  for name, curves in runs.items():
    with SummaryWriter(str(folder / name)) as writer:
      for tag, points in curves.items():
        for step, value in points:
          writer.add_scalar(tag, value, step)
