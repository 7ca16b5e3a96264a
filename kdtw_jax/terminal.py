"""Terminal output of a running stage: a progress bar, or log lines if there is no terminal.

The same scalars go to TensorBoard, and to `log.jsonl`, from which a report draws them. Nothing here
touches a device array.
"""

from collections.abc import Iterable, Mapping
import contextlib
import json
import math
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

from kdtw_jax import tensorboard
from kdtw_jax.files import write_atomically

LOG_FILE = "log.jsonl"
_MOST_POINTS = 200  # of a learning curve


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


def read_log(folder: Path) -> dict[str, tuple[float, ...]]:
  """Reads what a stage logged.

  Args:
    folder: the stage's folder.

  Returns:
    Values by name, `step` among them, evenly thinned if there are many; {} if nothing was logged.
    Names that were not finite throughout are left out.
  """
  rows = _logged(folder / LOG_FILE)
  rows = rows[:: -max(math.ceil(len(rows) / _MOST_POINTS), 1)][::-1]  # the last point stays
  columns = {name: [row.get(name) for row in rows] for name in (rows[0] if rows else ())}
  return {
      name: tuple(float(value) for value in values if value is not None)
      for name, values in columns.items()
      if None not in values
  }


def _logged(path: Path) -> list[dict[str, float | int | None]]:
  """Returns the whole lines of a log; a kill may have left a part of one at its end."""
  text = path.read_text(encoding="utf-8") if path.is_file() else ""
  return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("}\n")]


class StageProgress:
  """The progress bar and the logs of one stage, as a context manager."""

  def __init__(
      self, stage: str, *, first_step: int, steps: int, folder: Path, console: Console | None = None
  ):
    """Takes the stage's name, its first and last step, and the folder for its logs.

    What was logged after the first step is dropped: a resumed stage logs it again.
    """
    self._stage, self._first, self._steps = stage, first_step, steps
    self._console = console or Console()
    self._writer = tensorboard.open_run(folder, first_step=first_step)
    kept = [row for row in _logged(folder / LOG_FILE) if (row["step"] or 0) <= first_step]
    lines = "".join(map(_line, kept))
    self._log = write_atomically(folder / LOG_FILE, lines).open("a", encoding="utf-8")
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
    with contextlib.suppress(OSError):  # the terminal may be gone
      self._bar.stop()
    self._writer.close()
    self._log.close()

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
    for name, value in {**scalars, "tokens_per_second": rate}.items():
      self._writer.add_scalar(f"train/{name}", value, step)
    self._log.write(_line({"step": step, **scalars}))
    self._log.flush()
    note = f"{rate:,.0f} tok/s  loss {scalars['loss']:.3f}"
    with contextlib.suppress(OSError):  # the terminal may be gone
      self._bar.update(self._task, completed=step, note=note)
      if not self._console.is_terminal:
        left = seconds / max(step - self._first, 1) * (self._steps - step)
        line = f"{self._stage:<13} {step}/{self._steps}  ETA {_clock(left)}  {note}"
        self._console.print(line, highlight=False)


def _line(row: Mapping[str, float | int | None]) -> str:
  """Formats a row of the log; a value that is not finite becomes null."""
  known = {k: v if v is not None and math.isfinite(v) else None for k, v in row.items()}
  return json.dumps(known) + "\n"
