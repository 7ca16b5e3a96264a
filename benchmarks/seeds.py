"""Markdown tables of one experiment over its seeds: the mean, and the range in brackets.

python -m benchmarks.seeds results/multi30k/seed*/metrics.json
"""

import argparse
from collections.abc import Iterable, Sequence

import numpy as np

from kdtw_jax.evaluation.hull_record import Gap, HullComparison
from kdtw_jax.evaluation.record import Metrics, read_metrics
from kdtw_jax.report import hulls, summary

Runs = Sequence[Metrics]


def over_seeds(values: Iterable[float | None], digits: int = 1) -> str:
  """Formats `mean [low, high]` over the seeds, or a dash if one of them has no value."""
  found = list(values)
  known = [value for value in found if value is not None]
  if len(known) < len(found):
    return "–"
  mean = f"{np.mean(known):.{digits}f}"
  if len(known) == 1:
    return mean
  return f"{mean} [{min(known):.{digits}f}, {max(known):.{digits}f}]"


def table(header: list[str], rows: list[list[str]]) -> str:
  """Formats a Markdown table."""
  lines = [header, ["---"] * len(header), *rows]
  return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def references(runs: Runs) -> str:
  """Tabulates scores of teacher and students alone; for a single run with 95% intervals."""
  first = runs[0].alone
  keys = [key for key in summary.METRIC_TITLES if key in next(iter(first.values())).scores]
  rows = []
  for name, alone in first.items():
    cells = [over_seeds(run.alone[name].scores[key] for run in runs) for key in keys]
    if len(runs) == 1:
      cells = [
          f"{cell} ({alone.intervals[key][0]:.1f} to {alone.intervals[key][1]:.1f})"
          if key in alone.intervals
          else cell
          for cell, key in zip(cells, keys, strict=True)
      ]
    rows.append([summary.REFERENCE_TITLES[name], *cells])
  return table(["alone", *(summary.METRIC_TITLES[key] for key in keys)], rows)


def equal_shares(runs: Runs) -> str:
  """Tabulates scores at equal shares of teacher tokens, for methods that all runs have."""
  tables = [{row.curve.method: row for row in summary.equal_share_table(run)} for run in runs]
  rows = []
  for method, first in tables[0].items():
    if all(method in table for table in tables):
      same = [table[method] for table in tables]
      rows.append(
          [
              first.curve.title,
              *map(over_seeds, zip(*(row.scores for row in same), strict=True)),
              over_seeds((row.area for row in same), 2),
              over_seeds((row.volume for row in same), 2),
          ]
      )
  return table(["", *(f"{share:.0%}" for share in summary.EQUAL_SHARES), "area", "volume"], rows)


def hull_comparisons(runs: Runs) -> str:
  """Tabulates each family against the hull of all other methods, over the seeds and run by run."""
  by_run = [{hulls.kind(found): found for found in run.hulls} for run in runs]
  rows = []
  for kind, first in by_run[0].items():
    if all(kind in found for found in by_run):
      same = hulls.beside([found[kind] for found in by_run])
      rows += [_hull_row(runs, first, at, gaps) for at, gaps in same]
  header = ["family", "at", "score", "family’s hull", "hull of the others", "difference"]
  if not rows:
    return ""
  return table([*header, "difference (95% interval; p), each run", "of the way, %"], rows)


def _hull_row(runs: Runs, first: HullComparison, at: str, gaps: list[Gap | None]) -> list[str]:
  score = first.score
  ways = [
      hulls.way(run, score, gap.ours.scores[score]) if gap else None
      for run, gap in zip(runs, gaps, strict=True)
  ]
  return [
      first.family,
      at,
      summary.METRIC_TITLES[score],
      over_seeds(gap and gap.ours.scores[score] for gap in gaps),
      over_seeds(gap and gap.others.scores[score] for gap in gaps),
      over_seeds(gap and gap.delta for gap in gaps),
      "; ".join(map(_difference, gaps)),
      over_seeds((None if way is None else 100 * way for way in ways), 0),
  ]


def _difference(gap: Gap | None) -> str:
  """Says what a run gains, and what the sides cost where one of them ends before the price."""
  if gap is None:
    return "–"
  low, high = gap.interval
  words = f"{gap.delta:+.1f} ({low:+.1f} to {high:+.1f}; p = {gap.p_value:.3f})"
  return words if gap.reached else f"{words} at {gap.ours.price:.3f} and {gap.others.price:.3f}"


def frontier(runs: Runs) -> str:
  """Tabulates the first run's points that no other beats in both quality and teacher calls."""
  return table(
      ["frontier of the first run", "setting", "calls, %", "cost", "score"],
      [
          [
              row.curve.title,
              row.label,
              f"{100 * row.calls:.1f}",
              f"{row.cost:.2f}",
              f"{row.score:.1f}",
          ]
          for row in summary.frontier(runs[0])
      ],
  )


def budgets(runs: Runs) -> str:
  """Tabulates the stated and the realised use of the teacher."""
  rows = []
  for same in zip(*(run.budgets for run in runs), strict=True):
    rows.append(
        [
            f"{same[0].budget:.0%}",
            "seen" if same[0].seen else "unseen",
            "seen" if same[0].template_seen else "unseen",
            over_seeds(100 * row.realised for row in same),
            over_seeds(100 * row.predicted for row in same),
            over_seeds(100 * row.violations for row in same),
        ]
    )
  return table(["budget", "number", "wording", "use, %", "V_C, %", "sentences above, %"], rows)


def main() -> None:
  """Prints all tables."""
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("metrics", nargs="+", help="metrics.json of each seed")
  runs = [read_metrics(name) for name in parser.parse_args().metrics]
  print(runs[0].signature, "\n")
  for part in (references, equal_shares, hull_comparisons, frontier, budgets):
    if tabulated := part(runs):
      print(tabulated, "\n")


if __name__ == "__main__":
  main()
