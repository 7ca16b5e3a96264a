"""Terminal output of a running stage: a progress bar, or log lines if there is no terminal.

The same scalars go to TensorBoard. Nothing here touches a device array.
"""

from collections.abc import Iterable
from pathlib import Path
import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    track,
)
from tensorboardX import SummaryWriter


def _clock(seconds: float) -> str:
  minutes, seconds = divmod(round(seconds), 60)
  return f"{minutes}:{seconds:02d}"


def print_line(stage: str, text: str) -> None:
  """Prints one line about a stage."""
  Console().print(f"{stage:<13} {text}", highlight=False, markup=False, soft_wrap=True)


def tracked(steps: range, description: str) -> Iterable[int]:
  """Iterates over `steps` with a bar on a terminal, or after one line elsewhere."""
  console = Console()
  if len(steps) < 2:
    return steps
  if not console.is_terminal:
    print_line(description, f"{len(steps)} steps")
  return track(steps, f"{description:<13}", console=console, disable=not console.is_terminal)


class StageProgress:
  """The progress bar and TensorBoard writer of one stage, as a context manager."""

  def __init__(
      self,
      stage: str,
      *,
      first_step: int,
      steps: int,
      log_dir: Path,
      console: Console | None = None,
  ):
    """Takes the stage's name, its first and last step, and TensorBoard's folder."""
    self._stage, self._first, self._steps = stage, first_step, steps
    self._console = console or Console()
    self._writer = SummaryWriter(str(log_dir), purge_step=first_step + 1)
    self._started = time.monotonic()
    self._tokens = 0
    self._bar = Progress(
        TextColumn("{task.description:<13}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=self._console,
        disable=not self._console.is_terminal,
    )
    self._task = self._bar.add_task(stage, total=steps, completed=first_step, note="")

  def __enter__(self):
    self._bar.start()
    return self

  def __exit__(self, *unused):
    self._bar.stop()
    self._writer.close()

  def log(self, step: int, scalars: dict[str, float], *, tokens: int) -> None:
    """Shows the scalars of a step.

    Args:
      step: number of steps taken.
      scalars: values by name; the bar shows `loss`.
      tokens: target tokens since the last call.
    """
    self._tokens += tokens
    seconds = max(time.monotonic() - self._started, 1e-9)
    rate = self._tokens / seconds
    for name, value in scalars.items():
      self._writer.add_scalar(f"{self._stage}/{name}", value, step)
    self._writer.add_scalar(f"{self._stage}/tokens_per_second", rate, step)
    note = f"{rate:,.0f} tok/s  loss {scalars['loss']:.3f}"
    self._bar.update(self._task, completed=step, note=note)
    if not self._console.is_terminal:
      left = seconds / max(step - self._first, 1) * (self._steps - step)
      self._console.print(
          f"{self._stage:<13} {step}/{self._steps}  ETA {_clock(left)}  {note}", highlight=False
      )
