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
  assert "metrics.json: no such file" in refused(["report", str(tmp_path / "none")])
  assert "is given twice" in refused(["report", first, f"{first}/metrics.json"])
  assert "is a folder: name a file" in refused(["report", first, f"--out={tmp_path}"])
  (tmp_path / "old.json").write_text('{"version": 3}', encoding="utf-8")
  assert "version is 3, this code reads 4" in refused(["report", str(tmp_path / "old.json")])


def test_the_lines_of_the_terminal(full_metrics, tmp_path):
  out = io.StringIO()
  bare = dataclasses.replace(full_metrics, hulls=(), alone={})
  found = [(Path("a"), full_metrics), (Path("[red]b"), bare)]
  report.print_runs(found, tmp_path / "page.html", Console(file=out, width=200))
  lines = [line.split() for line in out.getvalue().splitlines()]
  assert ["│", "a", "│", "17", "│", "30.0", "│", "40.0", "│", "33.0", "│"] in lines
  assert ["│", "[red]b", "│", "17", "│", "–", "│", "–", "│", "–", "│"] in lines
