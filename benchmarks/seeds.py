"""Markdown tables of one experiment over its seeds: the mean, and the range in brackets.

python benchmarks/seeds.py results/multi30k/seed*/metrics.json
"""

from collections.abc import Iterable, Sequence
import sys

import numpy as np

from kdtw_jax.evaluation.record import Comparison, Metrics, read_metrics
from kdtw_jax.report import summary

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


def comparisons(runs: Runs) -> str:
  """Tabulates the handover against each method, run by run, with 95% intervals."""
  found: dict[tuple, list[Comparison]] = {}
  for run in runs:
    for row in run.comparisons:
      found.setdefault((row.budget, row.equal, row.title), []).append(row)
  rows = []
  for (budget, equal, title), same in found.items():
    if len(same) == len(runs):
      differences = "; ".join(
          f"{row.delta:+.1f} ({row.interval[0]:+.1f} to {row.interval[1]:+.1f})" for row in same
      )
      ours = "; ".join(
          _spent(row.handover, row.equal, row.handover_share, row.handover_cost) for row in same
      )
      theirs = "; ".join(
          _spent(row.baseline_score, row.equal, row.baseline_share, row.baseline_cost)
          + ("" if row.reached else " (its nearest)")
          for row in same
      )
      rows.append([f"{budget:.0%}", equal, title, ours, theirs, differences])
  header = ["budget", "equal", "handover against", "handover", "other", "difference, each run"]
  return table(header, rows)


def _spent(score: float, equal: str, share: float, cost: float) -> str:
  return f"{score:.1f} @ {f'{100 * share:.0f}%' if equal == 'share' else f'{cost:.2f}'}"


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
  runs = [read_metrics(name) for name in sys.argv[1:]]
  if not runs:
    sys.exit(__doc__)
  print(runs[0].signature, "\n")
  for part in (references, equal_shares, comparisons, frontier, budgets):
    print(part(runs), "\n")


if __name__ == "__main__":
  main()
