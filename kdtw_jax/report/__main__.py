"""Rebuilds a run's report: `python -m kdtw_jax.report runs/demo`."""

import argparse
from pathlib import Path
import sys

from kdtw_jax.evaluation.record import read_metrics
from kdtw_jax.report.build import METRICS_FILE, write_report
from kdtw_jax.report.terminal import print_summary


def main(argv: list[str] | None = None) -> int:
  """Runs the command.

  Args:
    argv: the arguments; those of the process by default.

  Returns:
    The exit status: 0, or 2 if the workdir has no readable metrics.
  """
  parser = argparse.ArgumentParser(prog="python -m kdtw_jax.report", description=__doc__)
  parser.add_argument("workdir", type=Path, help=f"folder that holds {METRICS_FILE}")
  workdir = parser.parse_args(argv).workdir
  try:
    metrics = read_metrics(workdir / METRICS_FILE)
  except (FileNotFoundError, ValueError) as error:
    print(error, file=sys.stderr)
    return 2
  print_summary(metrics, write_report(metrics, workdir))
  return 0


if __name__ == "__main__":
  sys.exit(main())
