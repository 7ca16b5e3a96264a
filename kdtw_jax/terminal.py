"""Terminal output of a running stage: one bar that is redrawn, or log lines without a terminal.

The same scalars go to TensorBoard, and to `log.jsonl`, from which a report draws them. Nothing here
touches a device array.
"""

from collections.abc import Iterator, Mapping
import contextlib
import json
import math
from pathlib import Path
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from kdtw_jax import processes, tensorboard
from kdtw_jax.files import write_atomically

LOG_FILE = "log.jsonl"
_MOST_POINTS = 200  # of a learning curve
_RATE_OVER = 600  # seconds over which a bar takes its speed; log points may be minutes apart


def print_line(stage: str, text: str) -> None:
  """Prints one line about a stage."""
  _console().print(f"{stage:<13} {text}", highlight=False, markup=False, soft_wrap=True)


def _console() -> Console:
  """Returns the terminal; of several processes, the first one speaks."""
  return Console(quiet=not processes.is_first())


def tracked(steps: range, description: str) -> Iterator[int]:
  """Iterates over `steps` with a bar on a terminal, or after one line elsewhere."""
  if len(steps) < 2:
    yield from steps
    return
  if not _console().is_terminal:
    print_line(description, f"{len(steps)} steps")
  with Bar(description, total=len(steps)) as bar:
    for step in steps:
      yield step
      bar.advance()


class Bar:
  """What is done of some steps, and the time that the rest will take, as a context manager."""

  def __init__(self, name: str, *, total: int = 0, done: int = 0, console: Console | None = None):
    """Takes the name to show, the number of steps, and how many were done before."""
    self.console = console or _console()
    self._name, self._total, self._first, self._done = name, total, done, done
    self._started = time.monotonic()
    self._progress = Progress(
        TextColumn("{task.description:<13}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=self.console,
        disable=not self.console.is_terminal,
        speed_estimate_period=_RATE_OVER,
    )
    self._task = self._progress.add_task(name, total=total, completed=done, note="")

  def __enter__(self):
    self._progress.start()
    return self

  def __exit__(self, *unused):
    with contextlib.suppress(OSError):  # the terminal may be gone
      self._progress.stop()

  def expect(self, total: int) -> None:
    """Sets the number of steps."""
    self._total = total
    self._progress.update(self._task, total=total)

  def advance(self, steps: int = 1) -> None:
    """Counts steps that are done; prints nothing without a terminal."""
    self._done += steps
    with contextlib.suppress(OSError):
      self._progress.update(self._task, completed=self._done)

  def say(self, note: str) -> None:
    """Shows some words beside the bar, or a line with them, what is done, and the time left."""
    with contextlib.suppress(OSError):
      self._progress.update(self._task, note=note)
      if not self.console.is_terminal:
        line = f"{self._name:<13} {self._done}/{self._total}  ETA {self._time_left()}  {note}"
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

  def _time_left(self) -> str:
    done = self._done - self._first
    if not done:
      return "-:--"
    seconds = time.monotonic() - self._started
    minutes, seconds = divmod(round(seconds / done * max(self._total - self._done, 0)), 60)
    return f"{minutes}:{seconds:02d}"


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
    steps_before = {int(row["step"] or 0): row for row in _logged(folder / LOG_FILE)}
    self._writer = tensorboard.StageWriter(
        folder, first_step=first_step, logged_to=max(steps_before, default=0)
    )
    kept = [row for step, row in steps_before.items() if step <= first_step]
    lines = "".join(map(_line, kept))
    self._log = write_atomically(folder / LOG_FILE, lines).open("a", encoding="utf-8")
    self._started, self._tokens, self._step = time.monotonic(), 0, first_step
    self._bar = Bar(stage, total=steps, done=first_step, console=console)

  def __enter__(self):
    self._bar.__enter__()
    return self

  def __exit__(self, *unused):
    self._bar.__exit__()
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
    rate = self._tokens / max(time.monotonic() - self._started, 1e-9)
    shown = {**scalars, "tokens_per_second": rate}
    self._writer.log(step, {f"train/{name}": value for name, value in shown.items()})
    self._log.write(_line({"step": step, **scalars}))
    self._log.flush()
    self._bar.advance(step - self._step)
    self._step = step
    self._bar.say(f"{rate:,.0f} tok/s  loss {scalars['loss']:.3f}")


class Unlogged:
  """Stands for the `StageProgress` of a stage in the processes that leave logs to the first."""

  def __enter__(self):
    return self

  def __exit__(self, *unused):
    pass

  def log(self, step: int, scalars: dict[str, float], *, tokens: int) -> None:
    """Logs nothing."""


def _line(row: Mapping[str, float | int | None]) -> str:
  """Formats a row of the log; a value that is not finite becomes null."""
  known = {k: v if v is not None and math.isfinite(v) else None for k, v in row.items()}
  return json.dumps(known) + "\n"
