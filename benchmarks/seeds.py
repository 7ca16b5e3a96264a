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
  """Scores of the teacher and of the students alone."""
  names = list(runs[0]["reference"])
  scores = [over_seeds(summary.reference_score(run, name) for run in runs) for name in names]
  return table(["alone", summary.quality_title(runs[0])],
               [[summary.REFERENCE_TITLES[name], score]
                for name, score in zip(names, scores, strict=True)])


def equal_shares(runs: list[dict]) -> str:
  """Scores of every method at equal shares of teacher tokens."""
  tables = [summary.equal_share_table(run) for run in runs]
  rows = [[same[0]["title"], *(over_seeds(row["cells"][i]["score"] for row in same)
                               for i in range(len(summary.EQUAL_SHARES))),
           over_seeds((row["area"] for row in same), 2)]
          for same in zip(*tables, strict=True)]
  return table(["", *(f"{share:.0%}" for share in summary.EQUAL_SHARES), "area"], rows)


def comparisons(runs: list[dict]) -> str:
  """The handover against each baseline at its own share, seed by seed with 95% intervals."""
  rows = []
  for same in zip(*(run["comparisons"] for run in runs), strict=True):
    found = "; ".join(f"{row['delta']:+.1f} ({row['interval'][0]:+.1f} to {row['interval'][1]:+.1f}"
                      f", p {row['p_value']:.3f})" for row in same)
    shares = over_seeds(100 * row["handover_share"] for row in same)
    rows.append([f"{same[0]['share']:.0%}", shares, same[0]["baseline"], found])
  return table(["budget", "use, %", "against", "difference, each seed"], rows)


def budgets(runs: list[dict]) -> str:
  """Stated and realised use of the teacher."""
  rows = []
  for same in zip(*(run["budgets"] for run in runs), strict=True):
    kind = "seen" if same[0]["seen"] else "unseen"
    wording = "seen" if same[0]["template_seen"] else "unseen"
    rows.append([f"{same[0]['budget']:.0%}", kind, wording,
                 over_seeds(100 * row["realised"] for row in same),
                 over_seeds(100 * row["predicted"] for row in same),
                 over_seeds(100 * row["violations"] for row in same)])
  return table(["budget", "number", "wording", "use, %", "V_C, %", "sentences above, %"], rows)


def main() -> None:
  """Prints all tables."""
  runs = [read_json(Path(name)) for name in sys.argv[1:]]
  if not runs:
    sys.exit(__doc__)
  print(runs[0]["signature"], "\n")
  for part in (references, equal_shares, comparisons, budgets):
    print(part(runs), "\n")


if __name__ == "__main__":
  main()
