"""`kdtw report`: the page of a run drawn anew, or one page that compares runs."""

import argparse
from pathlib import Path

SUMMARY = "draw the page of a run anew, or one page that compares runs"
EXAMPLES = """\
  kdtw report runs/demo
  kdtw report runs/demo runs/mine --out=compared.html
A RUN is a workdir, or a metrics.json. One run gets the files that it wrote itself: report.html,
plots and tables; with --out only the page, there, which a metrics file of another name needs.
Several must have been scored on one test set by one metric."""
COMPARISON_FILE = "comparison.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Adds the command's arguments."""
  parser.add_argument(
      "runs", nargs="+", metavar="RUN", help="workdir of a run, or its metrics.json"
  )
  parser.add_argument(
      "--out", metavar="FILE", help=f"page to write ({COMPARISON_FILE} for several)"
  )


def run(args: argparse.Namespace) -> None:
  """Writes the page; raises ValueError or OSError if a run is unreadable or they do not compare."""
  from kdtw_jax import report
  from kdtw_jax.evaluation.record import read_metrics

  paths = [Path(name) for name in args.runs]
  files = [path / report.METRICS_FILE if path.is_dir() else path for path in paths]
  found = [read_metrics(file) for file in files]
  out = Path(args.out) if args.out else None
  if out is not None and out.is_dir():
    raise ValueError(f"--out={out}: is a folder: name a file, e.g. {out / COMPARISON_FILE}")
  if len(found) > 1:
    runs = list(zip(files, found, strict=True))
    page = report.write_comparison(runs, out or Path(COMPARISON_FILE))
    report.print_runs(list(zip(paths, found, strict=True)), page)
    return
  (file,), (metrics,) = files, found
  if out is None and file.name != report.METRICS_FILE:
    own = file.with_name(report.METRICS_FILE)
    raise ValueError(f"{file}: would replace {own}: give --out=FILE")
  page = report.write_page(metrics, out) if out else report.write_report(metrics, file.parent)
  report.print_summary(metrics, page)
