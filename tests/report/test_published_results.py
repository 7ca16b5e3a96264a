"""What results/ says is what the runs in it measured."""

from pathlib import Path
import subprocess
import sys

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("table, runs", [
    ("multi30k/tables.md", ("multi30k/seed0", "multi30k/seed1")),
    ("multi30k/seed0/tables.md", ("multi30k/seed0",)),
    ("multi30k/wide/tables.md", ("multi30k/wide",)),
    ("aeslc/tables.md", ("aeslc",)),
])
def test_the_published_tables_are_those_of_the_published_runs(table, runs):
  runs = [ROOT / "results" / run / "metrics.json" for run in runs]
  printed = subprocess.run(
      [sys.executable, str(ROOT / "benchmarks/seeds.py"), *map(str, runs)], check=True,
      capture_output=True, text=True, encoding="utf-8", cwd=ROOT).stdout
  assert printed == (ROOT / "results" / table).read_text(encoding="utf-8")


def test_the_readme_quotes_the_published_tables():
  """Every score in the README's table of equal shares stands in the published one."""
  tables = (ROOT / "results/multi30k/tables.md").read_text(encoding="utf-8")
  readme = (ROOT / "README.md").read_text(encoding="utf-8")
  rows = {"**handover, learned gate**": "Handover (learned gate)",
          "margin threshold": "Margin threshold", "max-prob threshold": "Max-prob threshold",
          "entropy threshold": "Entropy threshold", "random asking": "Random asking"}
  for quoted, title in rows.items():
    quote = next(line for line in readme.splitlines() if line.startswith(f"| {quoted} |"))
    source = next(line for line in tables.splitlines() if line.startswith(f"| {title} |"))
    cells = [cell.strip().replace("**", "") for cell in quote.split("|")[2:-1]]
    assert cells == [cell.strip() for cell in source.split("|")[3:-3]], quoted
