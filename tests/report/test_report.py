"""The written report: complete, escaped, self-contained, rebuilt from its numbers, free of jax."""

import csv
import dataclasses
from html.parser import HTMLParser
import io
from pathlib import Path
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from rich.console import Console

from kdtw_jax import report
from kdtw_jax.evaluation.record import Token, read_metrics, write_metrics
from kdtw_jax.report import __main__ as command
from kdtw_jax.report import page as page_module
from kdtw_jax.report import plots

FIGURES = (
    "quality_hull",
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
  assert read_metrics(path.with_name("metrics.json")) == full_metrics
  with path.with_name("tradeoff.csv").open(newline="", encoding="utf-8") as file:
    rows = list(csv.DictReader(file))
  assert len(rows) == 10 + 2  # points on test and on validation
  third = rows[2]
  assert (third["split"], third["method"], third["label"]) == ("test", "handover", "20%")
  assert (third["bleu"], third["seconds_per_sentence.mean"]) == ("36.0", "0.03")
  assert (rows[-1]["split"], rows[-1]["bleu"]) == ("validation", "34.5")


def test_page_has_all_sections_and_their_numbers(built):
  _, page = built
  assert page.ids("section") == [
      "hulls",
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
      "At equal teacher share",  # the comparison
      "handover: 1 method of 4 settings, against 2 methods of 1 to 3 settings",
      "10 calls per 100 tokens BLEU 33.0 32.5 +0.5 +0.2 to +0.9 0.012 30%",
      "50% Student, 50% Handover 20%",
      "75% Student, 25% Speculative 4",
      "1.0 points",
      "5.0 points",
      "−5.0",  # calibration: means, and 15% that came out as 10%
      "62%",
      "300",  # the difficulty map
      "20.2 ms",
      "101 ms",
      "batches of 8 sentences",  # latency
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
  assert [group.name for group in groups] == ["number", "territory"]
  assert groups[1].mean == pytest.approx((300 * 0.1 + 100 * 0.625) / 400)


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
  found = dataclasses.replace

  def first(rows, **fields):
    return (found(rows[0], **fields), *rows[1:])

  full_metrics = found(
      full_metrics,
      name=evil,
      command=evil,
      hardware=evil,
      signature=evil,
      config={evil: evil},
      curves={"test": first(full_metrics.curves["test"], title=evil), "validation": ()},
      comparisons=first(full_metrics.comparisons, title=evil),
      hulls=first(full_metrics.hulls, family=evil),
      budgets=first(full_metrics.budgets, template=evil),
      difficulty=first(full_metrics.difficulty, kind=evil),
      stages=first(full_metrics.stages, stage=evil),
      latency=first(full_metrics.latency, setting=evil),
      samples=first(
          full_metrics.samples,
          source=evil,
          reference=evil,
          student=evil,
          teacher=evil,
          tokens=(Token("▁Ein", "student"), Token("▁" + evil, "teacher")),
      ),
  )
  path = report.write_report(full_metrics, tmp_path)
  html = path.read_text(encoding="utf-8")
  assert "<script>alert" not in html
  page = Page(html)
  assert [tag for tag, _ in page.elements].count("script") == 1
  assert "".join(page.marked[1:]).startswith(evil)
  ElementTree.parse(tmp_path / "quality_share.svg")
  assert "$a$" in (tmp_path / "quality_share.svg").read_text(encoding="utf-8")


def test_page_of_next_to_nothing(bare_metrics, tmp_path):
  path = report.write_report(bare_metrics, tmp_path)
  page = Page(path.read_text(encoding="utf-8"))
  assert page.ids("section") == ["settings"]
  assert "No quality has been measured yet." in page.text
  assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize(
    "field, sections",
    [
        ("curves", ["tradeoff", "points"]),
        ("budgets", ["budgets"]),
        ("comparisons", ["comparisons"]),
        ("hulls", ["hulls"]),
        ("latency", ["latency"]),
        ("difficulty", ["difficulty"]),
        ("samples", ["samples"]),
        ("alone", ["points"]),
        ("stages", []),
    ],
)
def test_each_section_stands_alone(full_metrics, bare_metrics, tmp_path, field, sections):
  metrics = dataclasses.replace(bare_metrics, **{field: getattr(full_metrics, field)})
  path = report.write_report(metrics, tmp_path)
  assert Page(path.read_text(encoding="utf-8")).ids("section") == [*sections, "settings"]


def test_what_was_not_measured_is_a_dash(full_metrics, tmp_path):
  curve = full_metrics.curves["test"][0]
  untimed = tuple(dataclasses.replace(p, seconds_per_sentence=None) for p in curve.points)
  metrics = dataclasses.replace(
      full_metrics,
      curves={"test": (dataclasses.replace(curve, points=untimed),), "validation": ()},
      areas={"handover": None},
      hypervolumes={"handover": None},
  )
  page = Page(report.write_report(metrics, tmp_path).read_text(encoding="utf-8"))
  assert "None" not in "".join(page.text) and "–" in page.text
  assert not (tmp_path / "quality_latency.png").exists()


def test_comparisons_at_equal_cost_have_a_table_of_their_own(full_metrics, tmp_path):
  row = full_metrics.comparisons[0]
  dear = dataclasses.replace(row, equal="cost", title="Dear", baseline_cost=0.777, reached=False)
  metrics = dataclasses.replace(full_metrics, comparisons=(row, dear))
  page = Page(report.write_report(metrics, tmp_path).read_text(encoding="utf-8"))
  text = " ".join(" ".join(page.text).split())
  text = text[text.index("Handover against every other method") :]
  share, cost = (text.index(f"At equal {what}") for what in ("teacher share", "sequential cost"))
  assert "@ 19.9%" in text[share:cost] and "Dear" not in text[share:cost]
  assert "Dear" in text[cost:] and "@ 0.78, its nearest" in text[cost:]


def test_a_hull_that_ends_before_the_price_says_what_it_costs(full_metrics, tmp_path):
  (found,) = full_metrics.hulls
  cheaper = dataclasses.replace(found.gaps[1].others, price=0.123)
  gaps = (found.gaps[0], dataclasses.replace(found.gaps[1], reached=False, others=cheaper))
  metrics = dataclasses.replace(full_metrics, hulls=(dataclasses.replace(found, gaps=gaps),))
  page = Page(report.write_report(metrics, tmp_path).read_text(encoding="utf-8"))
  text = " ".join(" ".join(page.text).split())
  assert "20 calls per 100 tokens 0.200 against 0.123" in text and "In small type: what the" in text


def test_the_figure_of_hulls(full_metrics):
  axes = plots.all_figures(full_metrics)["quality_hull"].axes[0]
  lines = {line.get_label(): line for line in axes.lines}
  ours, theirs = lines["hull of handover"], lines["hull of all other methods"]
  np.testing.assert_allclose(ours.get_xydata(), [[0, 30], [20, 36]])
  np.testing.assert_allclose(theirs.get_xydata(), [[0, 30], [40, 40], [43.2, 40]])
  np.testing.assert_allclose(lines["student or exact speculation"].get_xdata(), [0, 40])
  others = lines["settings of other methods"].get_xydata()
  assert len(others) == 4 and [20, 39.5] not in others.tolist()  # without the upper bound
  assert axes.collections  # the shading


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
  assert "metrics.json: damaged, not JSON" in capsys.readouterr().err


def test_terminal_table(full_metrics):
  first, second, *rest = full_metrics.curves["test"]
  named = dataclasses.replace(second, title="[red]Max[/red]")
  full_metrics = dataclasses.replace(full_metrics, curves={"test": (first, named, *rest)})
  out = io.StringIO()
  report.print_summary(full_metrics, "runs/demo/report.html", Console(file=out, width=200))
  text = out.getvalue()
  assert "[red]Max[/red]" in text  # titles are no markup
  for words in (
      "Handover",
      "0.78",
      "less the best mixture of all other methods: +0.5 (p =",
      "1.0 points for budgets seen in training",
      "Report: runs/demo/report.html",
  ):
    assert words in text


def test_report_never_imports_jax(full_metrics, tmp_path):
  write_metrics(full_metrics, tmp_path / "metrics.json")
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
