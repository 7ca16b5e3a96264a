"""What results/ says is what the runs in it measured."""

from pathlib import Path
import subprocess
import sys

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "table, runs",
    [
        ("multi30k/tables.md", ("multi30k/seed0", "multi30k/seed1")),
        ("multi30k/seed0/tables.md", ("multi30k/seed0",)),
        ("multi30k/wide/tables.md", ("multi30k/wide",)),
        ("aeslc/tables.md", ("aeslc",)),
    ],
)
def test_the_published_tables_are_those_of_the_published_runs(table, runs):
  runs = [ROOT / "results" / run / "metrics.json" for run in runs]
  printed = subprocess.run(
      [sys.executable, str(ROOT / "benchmarks/seeds.py"), *map(str, runs)],
      check=True,
      capture_output=True,
      text=True,
      encoding="utf-8",
      cwd=ROOT,
  ).stdout
  assert printed == (ROOT / "results" / table).read_text(encoding="utf-8")


QUOTED = {
    "**handover, learned gate**": "Handover (learned gate)",
    "margin threshold": "Margin threshold",
    "max-prob threshold": "Max-prob threshold",
    "random asking": "Random asking",
}


@pytest.mark.parametrize(
    "heading, run, first, further",
    [
        (
            "| who decides, BLEU at a share",
            "multi30k",
            "10%",
            {"entropy threshold": "Entropy threshold"},
        ),
        ("| who decides, ROUGE-Lsum at a share", "aeslc", "5%", {}),
    ],
)
def test_the_readme_quotes_the_published_tables(heading, run, first, further):
  """Every score in the README's tables of equal shares stands in the published ones."""
  lines = (ROOT / "results" / run / "tables.md").read_text(encoding="utf-8").splitlines()
  readme = (ROOT / "README.md").read_text(encoding="utf-8")
  readme = readme[readme.index(heading) :].splitlines()
  start = next(line for line in lines if line.startswith("|  |")).split("|").index(f" {first} ")
  for quoted, title in {**QUOTED, **further}.items():
    quote = next(line for line in readme if line.startswith(f"| {quoted} |"))
    source = next(line for line in lines if line.startswith(f"| {title} |"))
    cells = [cell.strip().replace("**", "") for cell in quote.split("|")[2:-1]]
    assert cells == [cell.strip() for cell in source.split("|")[start:-3]], quoted
