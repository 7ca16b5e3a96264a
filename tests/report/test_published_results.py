"""What results/ says is what the runs in it measured."""

import dataclasses
import json
from pathlib import Path
import re
import subprocess
import sys

import pytest

from kdtw_jax.evaluation.record import write_metrics

ROOT = Path(__file__).resolve().parents[2]


def printed_tables(runs, script=("benchmarks.seeds",)):
  """The output of a script of tables on some files of figures."""
  return subprocess.run(
      [sys.executable, "-m", *script, *map(str, runs)],
      check=True,
      capture_output=True,
      text=True,
      encoding="utf-8",
      cwd=ROOT,
  ).stdout


@pytest.mark.parametrize(
    "table, runs",
    [
        ("multi30k/tables.md", ("multi30k/seed0", "multi30k/seed1", "multi30k/seed2")),
        ("aeslc/tables.md", ("aeslc/seed0", "aeslc/seed1")),
    ],
)
def test_the_published_tables_are_those_of_the_published_runs(table, runs):
  printed = printed_tables([ROOT / "results" / run / "metrics.json" for run in runs])
  assert printed == (ROOT / "results" / table).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "table, figures",
    [
        ("aeslc/objectives.md", ("aeslc/objectives.json",)),
        (
            "multi30k/objectives_seeds.md",
            ("multi30k/objectives.json", "multi30k/objectives_seed1.json"),
        ),
    ],
)
def test_the_table_of_objectives_is_that_of_their_figures(table, figures):
  script = ("benchmarks.objectives", "--table")
  printed = printed_tables([ROOT / "results" / path for path in figures], script)
  assert printed == (ROOT / "results" / table).read_text(encoding="utf-8")


def cells_of(text):
  """The rows of a table, as lists of cells."""
  return [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in text.splitlines()]


LESS = ("less the start",)
SCORED = ("log μ per token", "reverse KL, sampled", "the same per token")


def quoted(head):
  """The rows of the table of the page on objectives that begins so, by name, without the name."""
  page = (ROOT / "kdtw_jax/losses/README.md").read_text(encoding="utf-8").replace("−", "-")
  table = cells_of(page[page.index(head) :].partition("\n\n")[0])
  return {row[0]: row[1:] for row in table[2:]}


@pytest.mark.parametrize(
    "head, published, number, columns",
    [
        ("| objective | ROUGE-Lsum", "aeslc/objectives.md", 12, ("rougeLsum", *LESS, *SCORED)),
        (
            "| objective | BLEU |",
            "multi30k/objectives.md",
            13,
            ("bleu", *LESS, "length_ratio", *SCORED),
        ),
        (
            "| objective | BLEU less the start, two seeds",
            "multi30k/objectives_seeds.md",
            6,
            (*LESS, "length_ratio", *SCORED[1:]),
        ),
    ],
)
def test_the_page_on_objectives_quotes_their_tables(head, published, number, columns):
  names, _, *rows = cells_of((ROOT / "results" / published).read_text(encoding="utf-8"))
  found = quoted(head)
  assert len(rows) == number == sum("γ" not in name for name in found)
  names[1] = LESS[0]
  for row in rows:
    cells = {k: re.sub(r" [(\[].*?[)\]]", "", v) for k, v in zip(names, row, strict=True)}
    assert found[row[0].removeprefix("the student at ")] == [cells[column] for column in columns]


@pytest.mark.parametrize("gamma", ["0", "0.5"])
def test_the_page_on_objectives_quotes_other_discounts(gamma):
  path = ROOT / "results/multi30k" / f"objectives_gamma_{gamma}.json"
  row = json.loads(path.read_text(encoding="utf-8"))["path_consistency"]
  sampled, less = row["sampled"], row["less the start"]["bleu"][0]
  assert quoted("| objective | BLEU |")[f"path_consistency`, γ = {gamma}"] == [
      f"{row['test']['bleu']:.1f}",
      f"{less:+.1f}",
      f"{row['test']['length_ratio']:.2f}",
      f"{row['greedy']['teacher_log_prob']:.2f}",
      f"{sampled['reverse_kl_per_output']:.2f}",
      f"{sampled['reverse_kl_per_output'] / sampled['tokens_per_output']:.3f}",
  ]


QUOTED = {
    "handover, learned gate": "Handover (learned gate)",
    "margin threshold, paced": "Margin threshold, paced",
    "random asking": "Random asking",
    "help that is worth its calls": "Help that is worth its calls",
    "the same number of checks for all": "The same number of checks for all",
}


def test_the_readme_quotes_the_published_table_of_equal_shares():
  """Every score in the README's table stands in the published ones."""
  lines = (ROOT / "results/aeslc/tables.md").read_text(encoding="utf-8").splitlines()
  readme = (ROOT / "README.md").read_text(encoding="utf-8")
  readme = readme[readme.index("| who decides, ROUGE-Lsum at a share") :].splitlines()
  start = next(line for line in lines if line.startswith("|  |")).split("|").index(" 5% ")
  for quoted, title in QUOTED.items():
    quote = next(line for line in readme if line.startswith(f"| {quoted} |"))
    source = next(line for line in lines if line.startswith(f"| {title} |"))
    cells = [cell.strip().replace("**", "") for cell in quote.split("|")[2:-1]]
    assert cells == [cell.strip() for cell in source.split("|")[start:-4]], quoted


def test_the_readme_quotes_the_published_table_of_hulls():
  lines = (ROOT / "results/multi30k/tables.md").read_text(encoding="utf-8").splitlines()
  readme = (ROOT / "README.md").read_text(encoding="utf-8")
  heading = "| at teacher calls per 100 tokens |"
  header, _, *rows = readme[readme.index(heading) :].splitlines()
  cells = [cell.strip() for cell in header.split("|")[2:-1]]
  columns = {"help that is worth": 4, "best mixture": 5, "difference": 6}
  quoted = [row for row in rows[: rows.index("")] if row.startswith("|")]
  assert len(quoted) == 6
  for row in quoted:
    name, *values = [cell.strip().replace("**", "") for cell in row.split("|")[1:-1]]
    score = "chrF" if "chrF" in name else "BLEU"
    column = next(number for start, number in columns.items() if start in name)
    for at, value in zip(cells, values, strict=True):
      start = f"| worth | {at} calls per 100 tokens | {score} |"
      (source,) = [line for line in lines if line.startswith(start)]
      assert value.removeprefix("+") == source.split("|")[column].strip()


def test_the_table_of_hulls_over_seeds(full_metrics, tmp_path):
  (calls,) = full_metrics.hulls
  runs = []
  for seed, ratio in ((0, 0.3), (1, 0.4)):
    gaps = tuple(
        dataclasses.replace(gap, at=gap.at + ratio, delta=gap.delta + seed, reached=not seed)
        for gap in calls.gaps
    )
    cost = dataclasses.replace(calls, price="cost", step_ratio=ratio, measured=True, gaps=gaps)
    metrics = dataclasses.replace(full_metrics, hulls=(calls, cost)[:: 1 - 2 * seed])
    runs.append(write_metrics(metrics, tmp_path / f"{seed}.json"))
  lines = printed_tables(runs).splitlines()
  rows = [line.split(" | ") for line in lines if line.startswith("| handover | ")]
  assert [row[1] for row in rows[:2]] == ["10 calls per 100 tokens", "20 calls per 100 tokens"]
  assert rows[0][2:6] == ["BLEU", "33.0 [33.0, 33.0]", "32.5 [32.5, 32.5]", "0.5 [0.5, 0.5]"]
  assert rows[0][6] == "; ".join(2 * ["+0.5 (+0.2 to +0.9; p = 0.012)"])
  assert rows[0][7] == "30 [30, 30] |"
  assert len(rows) == 4  # one row for a price, whatever each measured
  assert rows[2][1] == "a student step and 0.1 teacher passes"
  assert rows[2][5] == "1.0 [0.5, 1.5]" and rows[2][6].endswith(" at 0.100 and 0.100")


def test_rows_of_the_table_over_seeds_have_one_price(full_metrics, tmp_path):
  (calls,) = full_metrics.hulls
  runs = []
  for seed, gaps in enumerate((calls.gaps, calls.gaps[1:])):
    found = dataclasses.replace(calls, gaps=gaps)
    metrics = dataclasses.replace(full_metrics, hulls=(found,))
    runs.append(write_metrics(metrics, tmp_path / f"{seed}.json"))
  lines = printed_tables(runs).splitlines()
  first, second = [line.split(" | ") for line in lines if line.startswith("| handover | ")]
  assert first[1] == "10 calls per 100 tokens" and first[3:6] == 3 * ["–"]
  assert first[6].startswith("+0.5 (") and first[6].endswith("; –") and first[7] == "– |"
  assert second[1] == "20 calls per 100 tokens" and second[5] == "1.0 [1.0, 1.0]"
