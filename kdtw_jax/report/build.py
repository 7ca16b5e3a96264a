"""The files of a report: numbers, table, plots and page."""

from pathlib import Path

from kdtw_jax.evaluation.record import Metrics, write_metrics
from kdtw_jax.files import write_atomically
from kdtw_jax.report import plots
from kdtw_jax.report.page import render_page
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
  workdir = Path(workdir)
  workdir.mkdir(parents=True, exist_ok=True)
  write_metrics(metrics, workdir / METRICS_FILE)
  splits = {split: metrics.curves.get(split, ()) for split in ("test", "validation")}
  write_tradeoff_csv(splits, workdir / TABLE_FILE)
  figures = plots.save(plots.all_figures(metrics), workdir)
  return write_atomically(workdir / PAGE_FILE, render_page(metrics, figures))
