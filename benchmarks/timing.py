"""Calls timed in turns, and a table of what was measured: for decode.py and train.py."""

from collections.abc import Callable
import time

import numpy as np
from rich.console import Console
from rich.table import Table

Runs = dict[str, Callable[[int], object]]


def interleaved(calls: Runs, runs: int) -> dict[str, np.ndarray]:
  """Measures the seconds of each call, in turns, so that slow moments affect all calls."""
  seconds = {name: [] for name in calls}
  for call in calls.values():
    call(0)  # compiles
  for run in range(runs):
    for name, call in calls.items():
      started = time.perf_counter()
      call(run)
      seconds[name].append(time.perf_counter() - started)
  return {name: np.array(times) for name, times in seconds.items()}


def show(console: Console, title: str, rows: dict[str, dict], columns: dict[str, str]) -> None:
  """Prints a table: a row per system, the columns from `{key: format}`."""
  table = Table(title=title, title_justify="left")
  table.add_column("")
  for key in columns:
    table.add_column(key.replace("_", " "), justify="right")
  for name, row in rows.items():
    table.add_row(
        name, *(format(row[key], form) if key in row else "" for key, form in columns.items())
    )
  console.print(table)
