"""Markdown tables of one experiment over its seeds: the mean, and the range in brackets.

python benchmarks/seeds.py results/multi30k/seed*/metrics.json
"""

from collections.abc import Iterable
from pathlib import Path
import sys

import numpy as np

from kdtw_jax.report import summary
from kdtw_jax.report.metrics_json import read_json


def over_seeds(values: Iterable[float | None], digits: int = 1) -> str:
  """`mean [low, high]` of the seeds, a dash where one of them has no value."""
  values = list(values)
  if any(value is None for value in values):
    return "–"
  mean = f"{np.mean(values):.{digits}f}"
  if len(values) == 1:
    return mean
  return f"{mean} [{min(values):.{digits}f}, {max(values):.{digits}f}]"


def table(header: list[str], rows: list[list[str]]) -> str:
  """A Markdown table."""
  lines = [header, ["---"] * len(header), *rows]
  return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def references(runs: list[dict]) -> str:
  """Scores of the teacher and of the students alone; of one run with their 95% intervals."""
  first = runs[0]["reference"]
  keys = [key for key in summary.METRIC_TITLES if key in next(iter(first.values()))]
  rows = []
  for name in first:
    cells = [over_seeds(run["reference"][name][key] for run in runs) for key in keys]
    if len(runs) == 1:
      intervals = first[name].get("intervals", {})
      cells = [
          f"{cell} ({intervals[key][0]:.1f} to {intervals[key][1]:.1f})"
          if key in intervals
          else cell
          for cell, key in zip(cells, keys, strict=True)
      ]
    rows.append([summary.REFERENCE_TITLES[name], *cells])
  return table(["alone", *(summary.METRIC_TITLES[key] for key in keys)], rows)


def equal_shares(runs: list[dict]) -> str:
  """Scores at equal shares of teacher tokens, of every method that all runs have."""
  tables = [{row["method"]: row for row in summary.equal_share_table(run)} for run in runs]
  rows = []
  for method, first in tables[0].items():
    if all(method in table for table in tables):
      same = [table[method] for table in tables]
      cells = (
          over_seeds(row["cells"][i]["score"] for row in same)
          for i in range(len(summary.EQUAL_SHARES))
      )
      rows.append(
          [
              first["title"],
              *cells,
              over_seeds((row["area"] for row in same), 2),
              over_seeds((row["volume"] for row in same), 2),
          ]
      )
  return table(["", *(f"{share:.0%}" for share in summary.EQUAL_SHARES), "area", "volume"], rows)


def comparisons(runs: list[dict]) -> str:
  """The handover against each method, run by run with 95% intervals."""
  found: dict[tuple, list[dict]] = {}
  for run in runs:
    for row in run["comparisons"]:
      found.setdefault((row["share"], row["equal"], row["title"]), []).append(row)
  rows = []
  for (share, equal, title), same in found.items():
    if len(same) == len(runs):
      differences = "; ".join(
          f"{row['delta']:+.1f} ({row['interval'][0]:+.1f} to {row['interval'][1]:+.1f}, "
          f"p {row['p_value']:.3f})"
          for row in same
      )
      of_both = ("; ".join(_spent(row, who) for row in same) for who in ("handover", "baseline"))
      rows.append([f"{share:.0%}", equal, title, *of_both, differences])
  return table(
      ["budget", "equal", "handover against", "handover", "other", "difference, each run"], rows
  )


def _spent(row: dict, who: str) -> str:
  score = row["handover" if who == "handover" else "baseline_score"]
  missed = " (its nearest)" if who == "baseline" and not row["reached"] else ""
  if row["equal"] == "share":
    return f"{score:.1f} @ {100 * row[f'{who}_share']:.0f}%{missed}"
  return f"{score:.1f} @ {row[f'{who}_cost']:.2f}{missed}"


def frontier(runs: list[dict]) -> str:
  """Points that no other beats in both quality and teacher calls; of the first run."""
  return table(
      ["frontier of the first run", "setting", "calls, %", "cost", "score"],
      [
          [
              row["title"],
              row["label"],
              f"{100 * row['calls']:.1f}",
              f"{row['cost']:.2f}",
              f"{row['score']:.1f}",
          ]
          for row in summary.frontier(runs[0])
      ],
  )


def budgets(runs: list[dict]) -> str:
  """Stated and realised use of the teacher."""
  rows = []
  for same in zip(*(run["budgets"] for run in runs), strict=True):
    kind = "seen" if same[0]["seen"] else "unseen"
    wording = "seen" if same[0]["template_seen"] else "unseen"
    rows.append(
        [
            f"{same[0]['budget']:.0%}",
            kind,
            wording,
            over_seeds(100 * row["realised"] for row in same),
            over_seeds(100 * row["predicted"] for row in same),
            over_seeds(100 * row["violations"] for row in same),
        ]
    )
  return table(["budget", "number", "wording", "use, %", "V_C, %", "sentences above, %"], rows)


def main() -> None:
  """Prints all tables."""
  runs = [read_json(Path(name)) for name in sys.argv[1:]]
  if not runs:
    sys.exit(__doc__)
  print(runs[0]["signature"], "\n")
  for part in (references, equal_shares, comparisons, frontier, budgets):
    print(part(runs), "\n")


if __name__ == "__main__":
  main()
