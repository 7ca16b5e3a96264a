"""The written report: complete, escaped, self-contained, drawn from its numbers."""

import base64
import csv
import dataclasses
import hashlib
import io
import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from rich.console import Console

from kdtw_jax import report
from kdtw_jax.evaluation.record import SampleOutput, Token, read_metrics
from kdtw_jax.report import charts, drawing, interactive, prices, style
from kdtw_jax.report import page as page_module
from kdtw_jax.report.figures import Axis, Figure, Line, Mark
from kdtw_jax.report.page import render_page
from kdtw_jax.report.runs import Run
from kdtw_jax.report.runs_page import render_runs
from kdtw_jax.report.style import MethodStyle
from tests.report.pages import Page

FIGURES = (
    "quality_hull",
    "quality_share",
    "quality_calls",
    "quality_cost",
    "quality_latency",
    "budget_calibration",
)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
  """A folder for what is drawn once."""
  return tmp_path_factory.mktemp("run")


@pytest.fixture
def built(full_metrics, drawn):
  path = drawn / "report.html"
  return path if path.exists() else report.write_report(full_metrics, drawn)


@pytest.fixture
def page(full_metrics):
  return Page(render_page(full_metrics))


TAGS = "<img src=x onerror=1>&"


@pytest.fixture(params=["run", "runs"])
def either(request, full_metrics):
  """The page of a run, and that of several; a run is named by what a page must not believe."""
  (calls,) = full_metrics.hulls
  cost = dataclasses.replace(calls, price="cost", step_ratio=0.3)
  named = dataclasses.replace(full_metrics, name=TAGS, hulls=(calls, cost))
  if request.param == "run":
    return Page(render_page(named))
  return Page(render_runs([Run(TAGS, named), Run("other", full_metrics)]))


def test_every_file_is_written_and_whole(built):
  path = built
  expected = {"metrics.json", "tradeoff.csv", "report.html"}
  expected |= {f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg")}
  assert {file.name for file in path.parent.iterdir()} == expected
  for name in FIGURES:
    assert path.with_name(f"{name}.png").read_bytes().startswith(b"\x89PNG")
    ElementTree.parse(path.with_name(f"{name}.svg"))


def test_numbers_reach_the_files(built, full_metrics):
  path = built
  assert read_metrics(path.with_name("metrics.json")) == full_metrics
  with path.with_name("tradeoff.csv").open(newline="", encoding="utf-8") as file:
    rows = list(csv.DictReader(file))
  assert len(rows) == 10 + 2  # points on test and on validation
  third = rows[2]
  assert (third["split"], third["method"], third["label"]) == ("test", "handover", "20%")
  assert (third["bleu"], third["seconds_per_sentence.mean"]) == ("36.0", "0.03")
  assert (third["interval.low"], third["interval.high"]) == ("34.5", "37.2")
  assert (rows[-1]["split"], rows[-1]["bleu"]) == ("validation", "34.5")


def test_page_has_all_sections_and_their_numbers(page):
  assert page.ids("section") == [
      "first",
      "hulls",
      "tradeoff",
      "budgets",
      "difficulty",
      "learning",
      "latency",
      "points",
      "settings",
  ]
  text = " ".join(" ".join(page.text).split())
  for words in (
      "With 20% of its tokens written by the teacher",
      "At equal teacher calls",  # the comparison
      "handover, BLEU 1 method of 4 settings, against 2 methods of 1 to 3 settings",
      "10 calls per 100 tokens 33.0 32.5 +0.5 +0.2 to +0.9 0.012 30%",
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
      "a sentence takes 20.2 ms, by the teacher alone 50.5 ms: 2.5 times as fast",
      "in batches of 8, 0.5 times as many tokens a second",
      "31.5",  # interpolated at 5%
      "40.0 38.7 to 41.3",  # the teacher alone
      "--config=configs/demo.py",
      "1 min 25 s",
      "1.250",
      "phrasebook",
      "BLEU|nrefs:1",
  ):
    assert words in text, words


def test_the_teachers_words_are_marked(page):
  assert page.marked[-1] == "Hausboot"


def test_the_dial_shows_the_same_sentence_at_each_budget(page):
  (dial,) = [attrs for tag, attrs in page.elements if "data-dial" in attrs]
  assert (dial["min"], dial["max"], dial["value"]) == ("0", "1", "1")  # 10% and 20%
  shown = [
      (attrs["data-at"], "hidden" in attrs) for _, attrs in page.elements if "data-at" in attrs
  ]
  assert shown == [("0", True), ("1", False)] * 2  # the number beside the dial, and the output
  text = " ".join(" ".join(page.text).split())
  assert "budget 10% · teacher wrote 0 of 4 tokens · 0 calls" in text
  assert "budget 20% · teacher wrote 2 of 4 tokens · 2 calls" in text


def test_what_was_logged_is_drawn(full_metrics):
  loss, *others = [figure for figure in charts.learning(full_metrics.stages)]
  assert loss.caption == "wheels: loss"
  assert [(mark.x, mark.y) for mark in loss.lines[0].marks] == [(10.0, 3.0), (20.0, 2.0)]
  titles = {figure.caption: [line.title for line in figure.lines] for figure in others}
  assert titles == {
      "wheels: use": ["asked", "budget"],
      "wheels: prices": ["λ at 20%"],
      "wheels: error of V": ["residual"],
  }


def test_hardest_kinds_come_first(full_metrics):
  groups = page_module._difficulty(full_metrics)
  assert [group.name for group in groups] == ["number", "territory"]
  assert groups[1].mean == pytest.approx((300 * 0.1 + 100 * 0.625) / 400)


def test_nothing_is_fetched(either):
  own = either.html.replace(interactive.library(), "")
  assert (
      "http://" not in own and "https://" not in own and "@import" not in own and "url(" not in own
  )
  for tag, attrs in either.elements:
    assert tag not in {"img", "link", "iframe", "object", "embed", "base"}
    assert "src" not in attrs and attrs.get("href", "#").startswith("#")


def test_the_pages_own_policy_allows_its_scripts_and_nothing_else(either):
  (policy,) = [attrs["content"] for tag, attrs in either.elements if "http-equiv" in attrs]
  scripts = re.findall(r"<script>(.*?)</script>", either.html, re.DOTALL)
  assert len(scripts) == 2 and scripts[0] == interactive.library()
  for script in scripts:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in policy
  assert policy.startswith("default-src 'none'") and "unsafe-eval" not in policy
  assert policy.count("sha256-") == 2 and "script-src 'unsafe-inline'" not in policy


def test_the_library_is_as_published():
  """npm, plotly.js-basic-dist-min 4.1.1."""
  digest = hashlib.sha256(interactive.library().encode()).hexdigest()
  assert digest == "99784e3abfb07b142a15e521a439e6d9addceadb3f79553fd24c72774f0649ba"
  assert not re.search(r"new Function|\beval\(", interactive.library())


def test_ids_are_unique_and_references_resolve(either):
  ids = [attrs["id"] for _, attrs in either.elements if "id" in attrs]
  assert len(ids) == len(set(ids))
  pointing = ("aria-controls", "aria-labelledby", "for")
  targets = {attrs[name] for _, attrs in either.elements for name in pointing if name in attrs}
  assert targets and targets <= set(ids)
  drawn = {attrs["data-figure"] for _, attrs in either.elements if "data-figure" in attrs}
  assert drawn == set(either.json("figures"))


def test_a_name_is_text_and_no_tag(either):
  assert "<img" not in either.html.replace(interactive.library(), "")
  assert TAGS in " ".join(either.text)
  kinds = [attrs.get("type") for tag, attrs in either.elements if tag == "script"]
  assert kinds == ["application/json", "application/json", None, None]
  assert "<img" not in json.dumps(either.json("figures"))


def test_the_names_of_runs_are_escaped_in_figures_and_settings(full_metrics):
  other = dataclasses.replace(full_metrics, config={TAGS: TAGS})
  page = Page(render_runs([Run("a", full_metrics), Run(TAGS, other)]))
  figures = page.json("figures")
  assert [trace["name"] for trace in figures["gains_0"]["data"]] == [
      "a",
      "&lt;img src=x onerror=1&gt;&amp;",
  ]
  assert [TAGS, "–", TAGS] in page.rows and "<img" not in json.dumps(figures)


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
          outputs=(
              SampleOutput(
                  budget=0.2,
                  calls=1,
                  tokens=(Token("▁Ein", "student"), Token("▁" + evil, "teacher")),
              ),
          ),
      ),
  )
  page = Page(render_page(full_metrics))
  assert "<script>alert" not in page.html
  kinds = [attrs.get("type") for tag, attrs in page.elements if tag == "script"]
  assert kinds == ["application/json", "application/json", None, None]
  assert "".join(page.marked[1:]).startswith(evil)
  trace, *_ = page.json("figures")["quality_share"]["data"]
  assert trace["name"] == "&lt;script&gt;alert('x')&lt;/script&gt;&amp;\"$a$"
  assert "<script" not in json.dumps(page.json("figures"))
  drawing.save([charts.saved(full_metrics)[1]], tmp_path)
  ElementTree.parse(tmp_path / "quality_share.svg")
  assert "$a$" in (tmp_path / "quality_share.svg").read_text(encoding="utf-8")


def test_page_of_next_to_nothing(bare_metrics, tmp_path):
  path = report.write_report(bare_metrics, tmp_path)
  page = Page(path.read_text(encoding="utf-8"))
  assert page.ids("section") == ["settings"]
  assert "No quality has been measured yet." in page.text
  assert not list(tmp_path.glob("*.png")) and path.stat().st_size < 50_000  # without the library


@pytest.mark.parametrize(
    "field, sections",
    [
        ("curves", ["tradeoff", "points"]),
        ("budgets", ["budgets"]),
        ("hulls", ["first", "hulls"]),
        ("latency", ["latency"]),
        ("difficulty", ["difficulty"]),
        ("samples", ["first"]),
        ("alone", ["points"]),
        ("stages", ["learning"]),
    ],
)
def test_each_section_stands_alone(full_metrics, bare_metrics, field, sections):
  metrics = dataclasses.replace(bare_metrics, **{field: getattr(full_metrics, field)})
  assert Page(render_page(metrics)).ids("section") == [*sections, "settings"]


def test_what_was_not_measured_is_a_dash(full_metrics):
  curve = full_metrics.curves["test"][0]
  untimed = tuple(dataclasses.replace(p, seconds_per_sentence=None) for p in curve.points)
  metrics = dataclasses.replace(
      full_metrics,
      curves={"test": (dataclasses.replace(curve, points=untimed),), "validation": ()},
      areas={"handover": None},
      hypervolumes={"handover": None},
  )
  page = Page(render_page(metrics))
  equal = ["Handover", "31.5", "33.0", "36.0", "37.0", "39.0", "–", "–"]  # without area and volume
  assert equal in page.rows and "None" not in "".join(page.text)
  measured = [row for row in page.rows if row[:2] == ["Handover", "20%"] and len(row) > len(equal)]
  assert [(row[4], row[-1]) for row in measured] == [("20.0%", "–")]  # what it wrote, and its time
  assert "quality_latency" not in {figure.name for figure in charts.saved(metrics)}


def test_each_price_has_one_table_and_one_figure(full_metrics):
  (calls,) = full_metrics.hulls
  costs = [dataclasses.replace(calls, price="cost", step_ratio=c) for c in (0.02, 0.3)]
  metrics = dataclasses.replace(full_metrics, hulls=(calls, *costs))
  text = " ".join(" ".join(Page(render_page(metrics)).text).split())
  for ratio in (0.02, 0.3):
    assert text.count(f"At equal cost, a student step at {ratio} teacher passes") == 1
  assert [figure.tab for figure in charts.hull_figures(metrics)] == [
      "Calls",
      "Cost, c = 0.02",
      "Cost, c = 0.3",
  ]
  priced = {figure.name: figure for figure in charts.trade_offs(metrics)}
  assert list(priced) == [
      "quality_share",
      "quality_calls",
      "quality_cost_0.02",
      "quality_cost_0.3",
      "quality_cost",
      "quality_latency",
  ]
  x = [mark.x for mark in priced["quality_cost_0.3"].lines[0].marks]
  np.testing.assert_allclose(x, [0.3, 0.4, 0.5, 0.8])  # a step at 0.3, and the calls
  third = priced["quality_cost_0.3"].lines[0].marks[2]
  assert third.says[5] == "cost 0.50 passes per token (c = 0.3)"
  assert (
      priced["quality_cost"].lines[0].marks[2].says[5].endswith("0.30 passes per token (c = 0.1)")
  )
  hull = next(f for f in charts.hull_figures(metrics) if f.tab == "Cost, c = 0.3")
  assert hull.lines[0].title == "settings of other methods"
  assert all(f"cost {mark.x:.2f} passes" in mark.says[5] for mark in hull.lines[0].marks)
  assert "student or exact speculation" not in [line.title for line in hull.lines]
  timed = priced["quality_latency"].lines[0].marks[2]
  assert timed.x == pytest.approx(30.0) and timed.says[6] == "30.0 ms per sentence"


def test_a_hull_that_ends_before_the_price_says_what_it_costs(full_metrics):
  (found,) = full_metrics.hulls
  cheaper = dataclasses.replace(found.gaps[1].others, price=0.123)
  gaps = (found.gaps[0], dataclasses.replace(found.gaps[1], reached=False, others=cheaper))
  metrics = dataclasses.replace(full_metrics, hulls=(dataclasses.replace(found, gaps=gaps),))
  text = " ".join(" ".join(Page(render_page(metrics)).text).split())
  assert "20 calls per 100 tokens 0.200 against 0.123" in text and "In small type: what the" in text


def test_the_figure_of_hulls(full_metrics):
  axes = drawing.draw(charts.hull_figures(full_metrics)[0]).axes[0]
  lines = {line.get_label(): line for line in axes.lines}
  ours, theirs = lines["hull of handover"], lines["hull of all other methods"]
  np.testing.assert_allclose(ours.get_xydata(), [[0, 30], [20, 36]])
  np.testing.assert_allclose(theirs.get_xydata(), [[0, 30], [40, 40], [43.2, 40]])
  np.testing.assert_allclose(lines["student or exact speculation"].get_xdata(), [0, 40])
  others = lines["settings of other methods"].get_xydata()
  assert len(others) == 4 and [20, 39.5] not in others.tolist()  # without the upper bound
  assert axes.collections  # the shading


def test_a_vertex_says_its_price_to_a_decimal(full_metrics):
  (found,) = full_metrics.hulls
  first, second = found.ours.vertices
  hull = dataclasses.replace(
      found.ours, vertices=(first, dataclasses.replace(second, price=0.0251715))
  )
  for price, words in (("calls", "2.5 calls per 100 tokens"), ("share", "2.5% by the teacher")):
    marks = charts.hull_marks(hull, dataclasses.replace(found, price=price))
    assert list(marks[1].says) == ["Handover 20%", "36.0 BLEU", words]


def test_an_axis_of_hulls_ends_behind_all_but_the_teacher_alone(full_metrics):
  (found,) = full_metrics.hulls
  teacher = dataclasses.replace(found.ours.vertices[1], method="teacher", price=1.0)
  alone = dataclasses.replace(found.ours, vertices=(found.ours.vertices[0], teacher))
  assert prices.right_end(prices.CALLS, [alone, found.others]) == pytest.approx(43.2)
  assert prices.right_end(prices.CALLS, [alone]) == 100.0
  assert prices.right_end(prices.SHARE, [alone, found.ours]) == pytest.approx(0.216)


def test_a_mark_of_a_budget_has_the_instruction_as_it_was_given(full_metrics, page):
  figure = charts.budget_calibration(full_metrics)
  assert figure is not None
  _, seen, unseen = figure.lines
  assert list(seen.marks[0].says) == [
      "use the teacher for at most 10% of the tokens:",
      "teacher wrote 12.0%",
      "25% of the sentences above it",
  ]
  assert unseen.marks[0].says[0] == "with at most 15% help from the teacher:"
  told = [
      attrs["title"].strip() for tag, attrs in page.elements if tag == "tr" and "title" in attrs
  ]
  assert told[0] == "use the teacher for at most 10% of the tokens:" and len(told) == 3
  assert "“use the teacher for at most …% of the tokens:”" in page.text
  assert "{percent}" not in page.html.replace(interactive.library(), "")


def test_each_colour_of_a_figure_has_one_for_the_dark(full_metrics):
  for figure in (*charts.trade_offs(full_metrics), *charts.hull_figures(full_metrics)):
    colours = set(re.findall(r"#[0-9a-f]{6}", json.dumps(interactive.spec(figure))))
    assert {style.PAPER, style.INK, style.GRID} <= colours <= set(style.DARK)


def test_files_and_page_show_the_same_numbers(full_metrics):
  for figure in charts.saved(full_metrics):
    axes = drawing.draw(figure).axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    traces = {trace.get("name"): trace for trace in interactive.spec(figure)["data"]}
    assert figure.lines
    for line in figure.lines:
      np.testing.assert_allclose(lines[line.title].get_xdata(), traces[line.title]["x"])
      np.testing.assert_allclose(lines[line.title].get_ydata(), traces[line.title]["y"])
      assert len(traces[line.title]["hovertext"]) == len(line.marks)


def test_a_mark_says_everything_about_its_point(full_metrics):
  figure = next(f for f in charts.saved(full_metrics) if f.name == "quality_share")
  assert list(figure.lines[0].marks[2].says) == [
      "Handover",
      "budget 20%",
      "36.0 BLEU (95% interval 34.5 to 37.2)",
      "20.0% of the tokens by the teacher",
      "20.0 calls per 100 tokens",
      "cost 0.30 passes per token (c = 0.1)",
      "30.0 ms per sentence",
  ]
  levels = {level.label: level.y for level in figure.levels}
  assert levels == {"teacher 40.0": 40.0, "student alone 30.0": 30.0}


def test_an_interval_is_a_bar_in_both_drawings():
  mark = Mark(1.0, 2.0, interval=(1.5, 3.0))
  line = Line(title="bars", marks=[mark], look=MethodStyle("#1c2128", "o", width=0.0))
  figure = Figure(name="a", caption="", x=Axis("x"), y=Axis("y"), lines=[line])
  (bar,) = drawing.draw(figure).axes[0].collections
  np.testing.assert_allclose(bar.get_segments()[0], [[1.0, 1.5], [1.0, 3.0]])
  (trace,) = interactive.spec(figure)["data"]
  assert (trace["error_y"]["array"], trace["error_y"]["arrayminus"]) == ([1.0], [0.5])
  assert trace["mode"] == "markers"


def test_figures_are_the_same_each_time(built, full_metrics, tmp_path):
  drawing.save(charts.saved(full_metrics)[:1], tmp_path)
  for kind in ("png", "svg"):
    again, first = (folder / f"quality_hull.{kind}" for folder in (tmp_path, built.parent))
    assert again.read_bytes() == first.read_bytes()


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
  untimed = dataclasses.replace(full_metrics, latency=())
  report.print_summary(untimed, console=Console(file=(bare := io.StringIO()), width=200))
  dropped = [line for line in text.splitlines() if line not in bare.getvalue().splitlines()]
  assert [line.split(" ", 1)[0] for line in dropped] == ["At", "Report:"]
  assert "" not in bare.getvalue().splitlines()
