"""Writes everything that a run reports: numbers, table, plots and page."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdtw_jax.evaluation.tradeoff import write_tradeoff_csv
from kdtw_jax.files import write_atomically, write_json
from kdtw_jax.report import plots, summary
from kdtw_jax.report.metrics_json import plain, read_json
from kdtw_jax.report.page import render_page

METRICS_FILE = "metrics.json"
TABLE_FILE = "tradeoff.csv"
PAGE_FILE = "report.html"


def write_report(metrics: Mapping[str, Any], workdir: Path | str) -> Path:
  """Writes metrics.json, tradeoff.csv, the plots (PNG and SVG) and report.html.

  Args:
    metrics: the run's numbers; whatever is missing is left out of the page.
    workdir: the folder; made if it is not there.

  Returns:
    The path of the page.
  """
  workdir = Path(workdir)
  workdir.mkdir(parents=True, exist_ok=True)
  metrics = plain(metrics)
  write_json(workdir / METRICS_FILE, metrics)
  splits = {
      "test": summary.curves(metrics),
      "validation": summary.curves(metrics, "validation_methods"),
  }
  write_tradeoff_csv(splits, workdir / TABLE_FILE)
  figures = plots.save(plots.all_figures(metrics), workdir)
  return write_atomically(workdir / PAGE_FILE, render_page(metrics, figures))


def rebuild_report(workdir: Path | str) -> Path:
  """Writes the report of a run again from its metrics.json.

  Args:
    workdir: the folder that holds it.

  Returns:
    The path of the page.

  Raises:
    FileNotFoundError: if the folder has no metrics.json.
    ValueError: if that file is damaged.
  """
  return write_report(read_json(Path(workdir) / METRICS_FILE), workdir)
