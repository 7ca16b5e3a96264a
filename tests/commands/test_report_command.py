"""`kdtw report`: a page drawn anew, and one page of several runs."""

import dataclasses
import io
from pathlib import Path
import subprocess
import sys

import pytest
from rich.console import Console

from kdtw_jax import report
from kdtw_jax.commands import cli
from kdtw_jax.evaluation import record
from kdtw_jax.report import runs, runs_page
from tests.report.conftest import bare_metrics, full_metrics
from tests.report.pages import Page

__all__ = ["bare_metrics", "full_metrics"]


@pytest.fixture
def three(full_metrics, tmp_path):
  """The folders of three runs: two seeds, of which one has a page, and one without hulls."""
  (calls,) = full_metrics.hulls
  cost = dataclasses.replace(calls, price="cost", step_ratio=0.3)
  second = {"data": full_metrics.config["data"], "seed": 18}
  changed = {
      "a": dict(hulls=(calls, cost)),
      "b": dict(config=second, seed=18),
      "c": dict(hulls=(), config={**second, "gate": "<b>token</b>"}),
  }
  for name, fields in changed.items():
    record.write_metrics(
        dataclasses.replace(full_metrics, **fields), tmp_path / name / "metrics.json"
    )
  (tmp_path / "a" / "report.html").write_text("its own", encoding="utf-8")
  return [tmp_path / name for name in changed]


def compared(folders, out):
  cli.main(["report", *map(str, folders), f"--out={out}"])
  return Page(Path(out).read_text(encoding="utf-8"))


def test_one_run_gets_its_own_page_again(full_metrics, bare_metrics, tmp_path):
  """Without jax, and the page is that of the run; with --out, only the page."""
  metrics = dataclasses.replace(bare_metrics, hulls=full_metrics.hulls, alone=full_metrics.alone)
  record.write_metrics(metrics, tmp_path / "run" / "metrics.json")
  code = (
      "import sys; from kdtw_jax.commands import cli; "
      "cli.main(['report', sys.argv[1]]); assert 'jax' not in sys.modules, 'jax was imported'"
  )
  done = subprocess.run(
      [sys.executable, "-c", code, str(tmp_path / "run")],
      check=True,
      cwd=Path(report.__file__).parents[2],
      capture_output=True,
      text=True,
      encoding="utf-8",
  )
  assert "handover reaches 33.0 BLEU" in done.stdout and "report.html" in done.stdout
  assert (tmp_path / "run" / "quality_hull.png").exists()
  given, out = tmp_path / "run" / "metrics.json", tmp_path / "elsewhere.html"
  cli.main(["report", str(given), f"--out={out}"])
  assert out.read_bytes() == (tmp_path / "run" / "report.html").read_bytes()


def test_several_runs_are_on_one_page(three, tmp_path, capsys):
  page = compared(three, tmp_path / "all.html")
  assert "all.html" in capsys.readouterr().out
  text = " ".join(" ".join(page.text).split())
  assert page.ids("section") == ["runs", "reached", "gains", "differences"]
  assert text.count("33.0 +0.5 +0.2 to +0.9") == 3 and "–" in text  # a twice, b once, c never
  assert "40.0 38.7 to 41.3" in text and "1.0 · 5.0" in text  # the teacher, and the promises
  assert "With 10 teacher calls per 100 tokens, a reaches 33.0 BLEU (30% of the way" in text
  assert "seed 17 18 18" in text and "gate – – <b>token</b>" in text and "data.source" not in text
  assert [attrs["href"] for tag, attrs in page.elements if tag == "a"] == ["a/report.html"]
  drawn = page.json("figures")
  assert {attrs["data-figure"] for _, attrs in page.elements if "data-figure" in attrs} == set(
      drawn
  )
  names = [[trace["name"] for trace in drawn[f"runs_{i}"]["data"]] for i in range(2)]
  assert names == [["a: handover", "b: handover"], ["a: handover"]]  # calls; cost
  gains = drawn["gains_0"]["data"]
  assert [trace["y"] for trace in gains] == [[0.5, 1.0]] * 2
  assert gains[0]["error_y"]["array"] == pytest.approx([0.4, 0.4])


def test_equal_settings_differ_in_nothing(three, tmp_path, full_metrics):
  record.write_metrics(full_metrics, tmp_path / "again" / "metrics.json")
  page = compared([three[0], tmp_path / "again"], tmp_path / "all.html")
  assert "Nothing." in page.text


@pytest.mark.parametrize(
    "fields, said",
    [
        (
            {"metric": "chrf"},
            "b: metric is chrf, and bleu in a: scores are compared on one test set",
        ),
        ({"test": record.TestSet(100, "5e1f")}, "b: test.examples is 100, and 200 in a"),
        ({"test": record.TestSet(200, "0000")}, "b: test.sha256 is 0000, and 5e1f in a"),
        ({"signature": "BLEU|nrefs:2"}, "b: signature is BLEU|nrefs:2, and BLEU|nrefs:1 in a"),
    ],
)
def test_runs_that_do_not_compare_are_refused(full_metrics, fields, said):
  other = dataclasses.replace(full_metrics, **fields)
  with pytest.raises(ValueError) as error:
    runs_page.render_runs([runs.Run("a", full_metrics), runs.Run("b", other)])
  assert said in str(error.value) and "report these runs one by one" in str(error.value)


def test_what_cannot_be_read_ends_in_one_line(three, tmp_path):
  def refused(argv):
    with pytest.raises(SystemExit) as error:
      cli.main(argv)
    return str(error.value)

  first = str(three[0])
  assert f"{tmp_path / 'none'}: no such file" in refused(["report", str(tmp_path / "none")])
  assert "metrics.json: no such file" in refused(["report", str(tmp_path)])  # no run's workdir
  assert "is given twice" in refused(["report", first, f"{first}/metrics.json"])
  assert "is a folder: name a file" in refused(["report", first, f"--out={tmp_path}"])
  (tmp_path / "old.json").write_text('{"version": 3}', encoding="utf-8")
  assert "version is 3, this code reads 4" in refused(["report", str(tmp_path / "old.json")])


def test_a_metrics_file_of_another_name_replaces_nothing(three, full_metrics):
  other = three[0] / "other.json"
  record.write_metrics(dataclasses.replace(full_metrics, seed=99), other)
  own = three[0] / "metrics.json"
  before = own.read_bytes()
  with pytest.raises(SystemExit) as error:
    cli.main(["report", str(other)])
  assert str(error.value).endswith(f"{other}: would replace {own}: give --out=FILE")
  assert own.read_bytes() == before
  cli.main(["report", str(other), f"--out={three[0] / 'other.html'}"])
  assert "99" in Page((three[0] / "other.html").read_text(encoding="utf-8")).text
  assert own.read_bytes() == before


def test_two_files_of_a_folder_are_two_runs(three, full_metrics, tmp_path):
  other = three[0] / "other.json"
  record.write_metrics(dataclasses.replace(full_metrics, seed=99), other)
  page = compared([three[0], other], tmp_path / "all.html")
  runs_shown = [row[:3] for row in page.rows if row[1:2] == ["demo"]]
  assert runs_shown == [["metrics", "demo", "17"], ["other", "demo", "99"]]
  assert [attrs["href"] for tag, attrs in page.elements if tag == "a"] == ["a/report.html"]
  page = compared([three[1], three[0], other], tmp_path / "all.html")
  assert [row[0] for row in page.rows if row[1:2] == ["demo"]] == ["b", "a/metrics", "a/other"]


def test_names_tell_runs_apart():
  files = [Path("/r/a/x.json"), Path("/r/a/y.json"), Path("/r/a/x/metrics.json")]
  assert runs.names(files) == ["x.json", "y.json", "x/metrics.json"]


def test_gains_are_drawn_only_where_both_sides_reached_the_price(full_metrics):
  (calls,) = full_metrics.hulls
  short = dataclasses.replace(calls, gaps=(calls.gaps[0], unreached(calls.gaps[1])))
  never = dataclasses.replace(calls, gaps=tuple(map(unreached, calls.gaps)))
  shown = [run_of(full_metrics, name, found) for name, found in (("a", short), ("b", never))]
  (figure,) = runs.gain_figures(shown)
  (line,) = figure.lines
  assert line.title == "a" and [mark.y for mark in line.marks] == [0.5]
  assert "Prices that a hull does not reach are in the table alone." in figure.caption
  assert runs.gain_figures(shown[1:] * 2) == []
  (figure,) = runs.gain_figures([run_of(full_metrics, "a", calls)] * 2)
  assert "table alone" not in figure.caption
  rows = Page(runs_page.render_runs(shown)).rows
  assert [row[2] for row in rows if row[0] == "20 calls per 100 tokens"] == [
      "36.0 +1.0 +0.7 to +1.4 at 0.200 and 0.200"
  ]


def unreached(gap):
  return dataclasses.replace(gap, reached=False)


def run_of(metrics, name, *found):
  return runs.Run(name, dataclasses.replace(metrics, hulls=found))


def test_prices_that_one_run_lacks_are_a_dash_in_its_column(full_metrics):
  (calls,) = full_metrics.hulls
  less = dataclasses.replace(calls, gaps=calls.gaps[1:])
  page = Page(
      runs_page.render_runs([run_of(full_metrics, "a", less), run_of(full_metrics, "b", calls)])
  )
  rows = {row[0]: row[1:] for row in page.rows}
  assert rows["10 calls per 100 tokens"] == ["–", "33.0 +0.5 +0.2 to +0.9"]
  assert rows["20 calls per 100 tokens"] == 2 * ["36.0 +1.0 +0.7 to +1.4"]


def test_comparisons_come_in_the_order_of_the_first_run(full_metrics):
  (calls,) = full_metrics.hulls
  share, chrf = (
      dataclasses.replace(calls, **fields) for fields in ({"price": "share"}, {"score": "chrf"})
  )
  shown = [run_of(full_metrics, "a", calls, share), run_of(full_metrics, "b", share, chrf, calls)]
  assert runs.comparisons(shown) == [calls, share, chrf]


def test_promises_stand_under_their_kinds(full_metrics):
  """Budgets seen, seen in new words, and not seen, whichever of them a run has."""
  first, second, third = full_metrics.budgets
  reworded = dataclasses.replace(first, template_seen=False)
  metrics = [
      dataclasses.replace(full_metrics, budgets=rows) for rows in ((third,), (second, reworded), ())
  ]
  page = Page(
      runs_page.render_runs([runs.Run(name, m) for name, m in zip("abc", metrics, strict=True)])
  )
  cells = {row[0]: row[-1] for row in page.rows if row[1:2] == ["demo"]}
  assert cells == {"a": "– · – · 5.0", "b": "0.0 · 2.0 · –", "c": "– · – · –"}
  assert "for budgets seen in training · seen budgets in new words · budgets not seen" in " ".join(
      page.text
  )


def test_the_lines_of_the_terminal(full_metrics, tmp_path):
  out = io.StringIO()
  bare = dataclasses.replace(full_metrics, hulls=(), alone={})
  found = [(Path("a"), full_metrics), (Path("[red]b"), bare)]
  report.print_runs(found, tmp_path / "page.html", Console(file=out, width=200))
  lines = [line.split() for line in out.getvalue().splitlines()]
  assert ["│", "a", "│", "17", "│", "30.0", "│", "40.0", "│", "33.0", "│"] in lines
  assert ["│", "[red]b", "│", "17", "│", "–", "│", "–", "│", "–", "│"] in lines
