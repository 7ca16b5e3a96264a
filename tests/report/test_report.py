"""The written report: complete, escaped, self-contained, rebuilt from its numbers, free of jax."""

from html.parser import HTMLParser
import io
import json
from pathlib import Path
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from rich.console import Console

from kdtw_jax import report
from kdtw_jax.evaluation.tradeoff import read_tradeoff_csv
from kdtw_jax.report import __main__ as command
from kdtw_jax.report import page as page_module
from kdtw_jax.report import plots

FIGURES = (
    "quality_share",
    "quality_calls",
    "quality_cost",
    "quality_latency",
    "budget_calibration",
)
VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
  """Collects elements and text, and checks that tags nest."""

  def __init__(self, html):
    super().__init__()
    self.elements, self.open, self.marked, self.text = [], [], [], []
    self.feed(html)
    self.close()
    assert not self.open, f"unclosed: {self.open}"

  def handle_starttag(self, tag, attrs):
    self.elements.append((tag, dict(attrs)))
    if tag not in VOID:
      self.open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.elements.append((tag, dict(attrs)))

  def handle_endtag(self, tag):
    assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
    self.open.pop()

  def handle_data(self, data):
    self.text.append(data)
    if "mark" in self.open:
      self.marked.append(data)

  def ids(self, tag):
    return [attrs["id"] for name, attrs in self.elements if name == tag and "id" in attrs]


@pytest.fixture
def built(full_metrics, tmp_path):
  path = report.write_report(full_metrics, tmp_path / "run")
  return path, Page(path.read_text(encoding="utf-8"))


def test_every_file_is_written_and_whole(built):
  path, _ = built
  expected = {"metrics.json", "tradeoff.csv", "report.html"}
  expected |= {f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg")}
  assert {file.name for file in path.parent.iterdir()} == expected
  for name in FIGURES:
    assert path.with_name(f"{name}.png").read_bytes().startswith(b"\x89PNG")
    ElementTree.parse(path.with_name(f"{name}.svg"))


def test_numbers_reach_the_files(built, full_metrics):
  path, _ = built
  assert json.loads(path.with_name("metrics.json").read_text(encoding="utf-8")) == full_metrics
  curves = read_tradeoff_csv(path.with_name("tradeoff.csv"))
  assert curves["test"][0].points[2].scores["bleu"] == 36.0
  assert curves["validation"][0].points[1].scores["bleu"] == 34.5


def test_page_has_all_sections_and_their_numbers(built):
  _, page = built
  assert page.ids("section") == [
      "tradeoff",
      "comparisons",
      "budgets",
      "difficulty",
      "samples",
      "latency",
      "points",
      "settings",
  ]
  text = " ".join(" ".join(page.text).split())
  for words in (
      "With 20% of its tokens written by the teacher",
      "+2.0",
      "+1.2 to +2.8",
      "0.012",  # the comparison
      "1.0 points",
      "5.0 points",
      "−5.0",  # calibration: means, and 15% that came out as 10%
      "62%",
      "300",  # the difficulty map
      "20.2 ms",
      "101 ms",  # latency
      "31.5",  # interpolated at 5%
      "40.0 38.7 to 41.3",  # the teacher alone
      "--config=configs/demo.py",
      "1 min 20 s",
      "1.250",
      "phrasebook",
      "BLEU|nrefs:1",
  ):
    assert words in text, words


def test_the_teachers_words_are_marked(built):
  _, page = built
  assert page.marked[-1] == "Hausboot"


def test_hardest_kinds_come_first(full_metrics):
  groups = page_module._difficulty(full_metrics)
  assert [group["kind"] for group in groups] == ["number", "territory"]
  assert groups[1]["mean"] == pytest.approx((300 * 0.1 + 100 * 0.625) / 400)


def test_nothing_is_fetched(built):
  path, page = built
  html = path.read_text(encoding="utf-8")
  assert "http://" not in html and "https://" not in html and "@import" not in html
  for tag, attrs in page.elements:
    assert tag not in {"img", "link", "iframe", "object", "embed"}
    assert "src" not in attrs
    for name in ("href", "xlink:href"):
      assert attrs.get(name, "#").startswith("#")
  assert html.count("url(") == html.count("url(#")


def test_ids_are_unique_and_references_resolve(built):
  path, page = built
  ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
  assert len(ids) == len(set(ids))
  targets = {attrs["href"][1:] for _, attrs in page.elements if "href" in attrs}
  html = path.read_text(encoding="utf-8")
  targets |= {part.partition(")")[0] for part in html.split("url(#")[1:]}
  assert targets and targets <= set(ids)


def test_every_text_is_escaped(full_metrics, tmp_path):
  evil = "<script>alert('x')</script>&\"$a$"
  full_metrics |= {"name": evil, "command": evil, "hardware": evil, "signature": evil}
  full_metrics["config"] = {evil: evil}
  full_metrics["methods"][1]["title"] = evil
  full_metrics["budgets"][0]["template"] = evil
  full_metrics["difficulty"][0]["kind"] = evil
  full_metrics["stages"][0]["stage"] = evil
  sample = full_metrics["samples"][0]
  sample |= {"source": evil, "reference": evil, "student": evil, "teacher": evil}
  sample["tokens"][1]["text"] = "▁" + evil
  path = report.write_report(full_metrics, tmp_path)
  html = path.read_text(encoding="utf-8")
  assert "<script>alert" not in html
  page = Page(html)
  assert [tag for tag, _ in page.elements].count("script") == 1
  assert "".join(page.marked[1:]).startswith(evil)
  ElementTree.parse(tmp_path / "quality_share.svg")
  assert "$a$" in (tmp_path / "quality_share.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize("metrics", [{}, {"name": "bare", "methods": [], "areas": None}])
def test_page_of_next_to_nothing(metrics, tmp_path):
  path = report.write_report(metrics, tmp_path)
  page = Page(path.read_text(encoding="utf-8"))
  assert page.ids("section") == []
  assert "No quality has been measured yet." in page.text
  assert not list(tmp_path.glob("*.png"))


def test_each_section_stands_alone(full_metrics, tmp_path):
  expected = {
      "methods": ["tradeoff", "points"],
      "budgets": ["budgets"],
      "comparisons": ["comparisons"],
      "latency": ["latency"],
      "difficulty": ["difficulty"],
      "samples": ["samples"],
      "stages": ["settings"],
      "reference": ["points"],
  }
  for key, sections in expected.items():
    path = report.write_report({key: full_metrics[key]}, tmp_path / key)
    assert Page(path.read_text(encoding="utf-8")).ids("section") == sections, key


def test_nulls_anywhere_are_dashes(full_metrics, tmp_path):
  def emptied(value):
    if isinstance(value, dict):
      return {k: v if k in ("method", "baseline") else emptied(v) for k, v in value.items()}
    if isinstance(value, list):
      return [emptied(item) for item in value]
    return value if isinstance(value, str) else None

  del full_metrics["config"]  # there None is a value that a reader wants to see
  page = Page(report.write_report(emptied(full_metrics), tmp_path).read_text(encoding="utf-8"))
  assert "None" not in "".join(page.text)


def test_numpy_and_non_finite_values_become_strict_json(tmp_path):
  metrics = {
      "seed": np.int64(3),
      "reference": {"teacher": {"bleu": np.float32(2.5), "chrf": float("nan")}},
      "config": {"buckets": ((8, 8),), "path": Path("x"), "ids": np.arange(2)},
  }
  report.write_report(metrics, tmp_path)
  loaded = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=pytest.fail)
  assert loaded == {
      "seed": 3,
      "reference": {"teacher": {"bleu": 2.5, "chrf": None}},
      "config": {"buckets": [[8, 8]], "path": "x", "ids": [0, 1]},
  }


def test_figures_are_the_same_each_time(full_metrics, tmp_path):
  first = plots.save(plots.all_figures(full_metrics), tmp_path)
  assert plots.save(plots.all_figures(full_metrics), tmp_path) == first


def test_lines_carry_the_numbers(full_metrics):
  figures = plots.all_figures(full_metrics)
  lines = {line.get_label(): line for line in figures["quality_share"].axes[0].lines}
  np.testing.assert_allclose(lines["Handover"].get_xdata(), [0.0, 0.1, 0.2, 0.5])
  np.testing.assert_allclose(lines["Handover"].get_ydata(), [30.0, 33.0, 36.0, 39.0])
  timed = {line.get_label(): line for line in figures["quality_latency"].axes[0].lines}
  np.testing.assert_allclose(timed["Handover"].get_xdata(), [0.01, 0.02, 0.03, 0.06])
  texts = [text.get_text() for text in figures["quality_share"].axes[0].texts]
  assert "teacher 40.0" in texts and "student alone 30.0" in texts


def test_command_rebuilds_the_page(built, full_metrics, capsys):
  path, _ = built
  before = path.read_text(encoding="utf-8")
  path.unlink()
  assert command.main([str(path.parent)]) == 0
  assert path.read_text(encoding="utf-8") == before
  out = capsys.readouterr().out
  assert "Handover" in out and "36.0" in out and path.name in out


def test_command_without_metrics_says_so(tmp_path, capsys):
  assert command.main([str(tmp_path)]) == 2
  assert "metrics.json: no such file" in capsys.readouterr().err
  (tmp_path / "metrics.json").write_text("{")
  assert command.main([str(tmp_path)]) == 2
  assert "not valid JSON" in capsys.readouterr().err


def test_terminal_table(full_metrics):
  full_metrics["methods"][1]["title"] = "[red]Max[/red]"
  out = io.StringIO()
  report.print_summary(full_metrics, "runs/demo/report.html", Console(file=out, width=120))
  text = out.getvalue()
  assert "[red]Max[/red]" in text  # titles are no markup
  for words in ("Handover", "0.78", "1.0 points (seen)", "Report: runs/demo/report.html"):
    assert words in text


def test_report_never_imports_jax(full_metrics, tmp_path):
  (tmp_path / "metrics.json").write_text(json.dumps(full_metrics))
  code = (
      "import sys; from kdtw_jax.report.__main__ import main; "
      "assert main([sys.argv[1]]) == 0; assert 'jax' not in sys.modules, 'jax was imported'"
  )
  subprocess.run(
      [sys.executable, "-c", code, str(tmp_path)],
      check=True,
      cwd=Path(report.__file__).parents[2],
      stdout=subprocess.DEVNULL,
  )
