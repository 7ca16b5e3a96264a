"""The files of a report: numbers, table, plots and page; and the page that compares runs."""

from collections.abc import Sequence
import os
from pathlib import Path
from urllib.parse import quote

from kdtw_jax.evaluation.record import Metrics, write_metrics
from kdtw_jax.files import write_atomically
from kdtw_jax.report import charts
from kdtw_jax.report.page import render_page
from kdtw_jax.report.runs import Run, names
from kdtw_jax.report.runs_page import render_runs
from kdtw_jax.report.table import write_tradeoff_csv

METRICS_FILE = "metrics.json"
TABLE_FILE = "tradeoff.csv"
PAGE_FILE = "report.html"


def write_report(metrics: Metrics, workdir: Path | str) -> Path:
  """Writes metrics.json, tradeoff.csv, the plots (PNG and SVG) and report.html.

  Args:
    metrics: the run's numbers.
    workdir: the folder; made if it does not exist.

  Returns:
    The path of the page.

  Raises:
    ValueError: if a number is not finite; names the field.
  """
  from kdtw_jax.report import drawing  # here: matplotlib takes a second, and most runs do not draw

  workdir = Path(workdir)
  workdir.mkdir(parents=True, exist_ok=True)
  write_metrics(metrics, workdir / METRICS_FILE)
  splits = {split: metrics.curves.get(split, ()) for split in ("test", "validation")}
  write_tradeoff_csv(splits, workdir / TABLE_FILE)
  drawing.save(charts.saved(metrics), workdir)
  return write_page(metrics, workdir / PAGE_FILE)


def write_page(metrics: Metrics, page: Path) -> Path:
  """Writes the page of a run alone, and returns its path."""
  return write_atomically(page, render_page(metrics))


def write_comparison(runs: Sequence[tuple[Path, Metrics]], page: Path) -> Path:
  """Writes the page that compares runs, with links to the pages that they have.

  Args:
    runs: metrics file and numbers of each run, two or more.
    page: the file to write.

  Returns:
    The path of the page.

  Raises:
    ValueError: if a run is given twice, or they have not one metric and test set.
  """
  shown = [
      Run(name, metrics, _address(file, page.parent))
      for name, (file, metrics) in zip(names([file for file, _ in runs]), runs, strict=True)
  ]
  return write_atomically(page, render_runs(shown))


def _address(file: Path, start: Path) -> str:
  """Returns the address of the page beside a metrics file, seen from a folder; "" without one."""
  page = file.with_name(PAGE_FILE)
  if file.name != METRICS_FILE or not page.is_file():
    return ""
  return quote(Path(os.path.relpath(page, start)).as_posix())
