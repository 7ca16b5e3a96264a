"""The report as one self-contained HTML page: inlined SVG, style and script, nothing fetched.

Numbers are formatted here and in `page.html.jinja`; the template engine escapes every text. A
section without measurements is omitted.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
import re
from typing import Any, Literal, NamedTuple

import jinja2
from markupsafe import Markup

from kdtw_jax.evaluation.area import AREA_UP_TO
from kdtw_jax.evaluation.record import Comparison, Metrics, Point, Sample, WordGroup
from kdtw_jax.report import hulls, samples, style, summary

CAPTIONS = {
    "quality_hull": (
        "Quality over the teacher’s calls (test split). Shaded: what all other methods reach, "
        "mixed by a coin. The settings of both hulls were chosen on validation."
    ),
    "quality_share": "Quality over the share of output tokens that the teacher wrote (test split).",
    "quality_calls": (
        "Quality over the teacher's calls per output token (test split). A call may check the "
        "student's tokens as well as write one."
    ),
    "quality_cost": (
        "Quality over sequential cost: teacher passes per output token, with student steps at "
        "their measured relative cost."
    ),
    "quality_latency": "Quality over measured time per sentence, one sentence at a time.",
    "budget_calibration": "The share that the teacher wrote, over the budget in the instruction.",
}
_BUDGET_TAGS = {summary.SEEN: "", summary.REWORDED: "new words", summary.UNSEEN: "unseen"}
SHORT_TITLES = {"rouge1": "R-1", "rouge2": "R-2", "rougeL": "R-L", "rougeLsum": "R-Lsum"}
EQUAL_HEADINGS = {
    "share": ("At equal teacher share", "the share of tokens that the teacher wrote"),
    "cost": (
        "At equal sequential cost",
        "the cost in teacher passes per token, including student steps",
    ),
}
# Heading, value and format of the columns of "All measurements" before and after the scores.
_SETTING_COLUMNS = (
    ("Setting", lambda point: point.label, str),
    ("Dial", lambda point: point.dial, lambda value: f"{value:.4g}"),
    ("Asked", lambda point: point.asked_share, lambda value: style.percent(value, 1)),
    ("Teacher wrote", lambda point: point.teacher_share, lambda value: style.percent(value, 1)),
)
_COST_COLUMNS = (
    ("Calls", lambda point: point.teacher_calls, lambda value: style.number(value, 3)),
    ("Passes", lambda point: point.teacher_passes, lambda value: style.number(value, 3)),
    ("Teacher tokens", lambda point: point.teacher_tokens, lambda value: style.number(value, 2)),
    ("Student steps", lambda point: point.student_steps, lambda value: style.number(value, 2)),
    ("Cost", lambda point: point.cost, lambda value: style.number(value, 3)),
    ("Time", lambda p: p.seconds_per_sentence and p.seconds_per_sentence.mean, style.milliseconds),
)


def render_page(metrics: Metrics, figures: Mapping[str, str]) -> str:
  """Returns the page's HTML.

  Args:
    metrics: the run's numbers.
    figures: SVG text by file stem.
  """
  environment = jinja2.Environment(
      loader=jinja2.FileSystemLoader(Path(__file__).parent),
      autoescape=True,
      undefined=jinja2.StrictUndefined,
      trim_blocks=True,
      lstrip_blocks=True,
  )
  environment.filters |= {
      "number": style.number,
      "signed": style.signed,
      "percent": style.percent,
      "milliseconds": style.milliseconds,
      "duration": style.duration,
  }
  quality, rows = summary.quality_title(metrics), summary.equal_share_table(metrics)
  return environment.get_template("page.html.jinja").render(
      m=metrics,
      headline=hulls.headline(metrics) or summary.headline(metrics),
      lead=_lead(metrics),
      quality=quality,
      figures={n: inline_svg(text, n, CAPTIONS[n]) for n, text in figures.items()},
      captions=CAPTIONS,
      metric_titles=summary.METRIC_TITLES,
      titles={**summary.REFERENCE_TITLES, **{row.curve.method: row.curve.title for row in rows}},
      handovers={row.curve.method for row in rows if row.curve.is_handover},
      tiles=_tiles(metrics, quality, rows),
      equal_shares=summary.EQUAL_SHARES,
      equal_rows=rows,
      frontier=summary.frontier(metrics),
      calibration=summary.calibration(metrics),
      budgets=[(row, _BUDGET_TAGS[summary.budget_kind(row)]) for row in metrics.budgets],
      area_up_to=AREA_UP_TO,
      comparisons=_comparisons(metrics),
      hulls=_hulls(metrics),
      points=_points(metrics),
      difficulty=_difficulty(metrics),
      samples=[_sample(sample) for sample in metrics.samples],
      config=summary.flatten(metrics.config),
      css=Markup(_css_variables()),
  )


def inline_svg(text: str, name: str, caption: str) -> Markup:
  """Prepares a figure's SVG for a page with other figures.

  Ids get the figure's name as a prefix. The fixed size and the metadata are removed, and the
  palette's colours become CSS variables, so that the page can darken them.

  Args:
    text: a whole SVG file as matplotlib writes it.
    name: the figure's file stem.
    caption: text for screen readers.
  """
  text = text[text.index("<svg") :]
  text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
  text = re.sub(r'\bid="', f'id="{name}-', text)
  text = re.sub(r'((?:xlink:)?href=")#', rf"\1#{name}-", text)
  text = re.sub(r"url\(#", f"url(#{name}-", text)
  text = re.sub(r"font: ([^;\"]*?)'DejaVu Sans'[^;\"]*", r"font: \1inherit", text)
  text = re.sub(r"font-family: 'DejaVu Sans'[^;\"]*", "font-family: inherit", text)
  for colour in (*style.DARK, "#ffffff"):
    text = text.replace(colour, f"var({_variable(colour)})")
  head, _, body = text.partition(">")
  head = re.sub(r' (?:width|height|xmlns(?::\w+)?|version)="[^"]*"', "", head)
  body = body.replace("xlink:href", "href")
  label = Markup('<svg role="img" aria-label="{}"').format(caption)
  return label + Markup(head.removeprefix("<svg") + ">" + body)


def _variable(colour: str) -> str:
  return f"--c-{colour.removeprefix('#')}"


def _css_variables() -> str:
  light = "".join(f"{_variable(colour)}:{colour};" for colour in style.DARK)
  dark = "".join(f"{_variable(colour)}:{other};" for colour, other in style.DARK.items())
  return (
      f":root{{{light}--c-ffffff:#ffffff}}"
      f"@media (prefers-color-scheme:dark){{:root{{{dark}--c-ffffff:#1b1f25}}}}"
      f"@media print{{:root{{{light}--c-ffffff:#ffffff}}}}"
  )


def _tiles(
    metrics: Metrics, quality: str, rows: Sequence[summary.EqualShares]
) -> list[tuple[str, str, str]]:
  """Returns the numbers at the top of the page: value, unit, words."""
  tiles = []
  for name in ("student", "teacher"):
    score = summary.reference_score(metrics, name)
    if score is not None:
      tiles.append((style.number(score), quality, summary.REFERENCE_TITLES[name].lower()))
  main = next((row for row in rows if row.curve.is_handover), None)
  if main:
    score = main.scores[summary.EQUAL_SHARES.index(summary.HEADLINE_SHARE)]
    if score is not None:
      at = style.percent(summary.HEADLINE_SHARE)
      tiles.append((style.number(score), quality, f"handover at {at} teacher share"))
    if main.area is not None:
      words = "handover’s area between student (0) and teacher (1)"
      tiles.append((style.number(main.area, 2), "", words))
  for kind, error in summary.calibration(metrics).items():
    tiles.append((style.number(100 * error), "points", f"mean |use − budget| of {kind}"))
  return tiles


class ComparisonRow(NamedTuple):
  """A comparison and the position of its interval's bar, in percent of the width."""

  found: Comparison
  verdict: Literal["better", "worse", "unclear"]
  zero: float
  left: float
  width: float
  dot: float


def _comparisons(metrics: Metrics) -> list[tuple[str, str, list[ComparisonRow]]]:
  """Returns a table for each way of matching methods: heading, what was matched, rows."""
  ends = [0.0, *(value for row in metrics.comparisons for value in (row.delta, *row.interval))]
  margin = 0.06 * (max(ends) - min(ends)) or 1.0
  low, span = min(ends) - margin, max(ends) - min(ends) + 2 * margin
  tables = {equal: [] for equal in EQUAL_HEADINGS}
  for row in metrics.comparisons:
    zero, left, right, dot = ((v - low) / span * 100 for v in (0.0, *row.interval, row.delta))
    verdict = "better" if row.interval[0] > 0 else "worse" if row.interval[1] < 0 else "unclear"
    tables[row.equal].append(ComparisonRow(row, verdict, zero, left, right - left, dot))
  return [(*EQUAL_HEADINGS[equal], rows) for equal, rows in tables.items() if rows]


class Family(NamedTuple):
  """The comparisons of one family.

  Attributes:
    name: the family.
    ours: what its hull was chosen from.
    others: what the other hull was chosen from.
    all_reached: True if both hulls reach every price.
    tables: the comparisons.
  """

  name: str
  ours: str
  others: str
  all_reached: bool
  tables: list[hulls.Table]


def _lead(metrics: Metrics) -> str:
  """Returns what follows the headline: the other prices and the gate, or how the gate compares."""
  if hulls.headline(metrics):
    return f"{hulls.in_short(metrics)} {summary.headline(metrics)}"
  return summary.lead(metrics)


def _hulls(metrics: Metrics) -> list[Family]:
  """Groups the comparisons with the hull of all other methods by family."""
  grouped: dict[str, list[hulls.Table]] = {}
  for table in hulls.tables(metrics):
    grouped.setdefault(table.found.family, []).append(table)
  return [
      Family(
          name,
          ours=hulls.settings_words(same[0].found.ours),
          others=hulls.settings_words(same[0].found.others),
          all_reached=all(row.gap.reached for table in same for row in table.rows),
          tables=same,
      )
      for name, same in grouped.items()
  ]


class Table(NamedTuple):
  """A table: headings, and rows of (text, sort value) cells."""

  headings: list[str]
  rows: list[list[tuple[str, Any]]]


def _points(metrics: Metrics) -> Table:
  """Returns the table of all points on test."""
  found = [(curve.title, point) for curve in summary.curves(metrics) for point in curve.points]
  keys = [key for key in summary.METRIC_TITLES if any(key in point.scores for _, point in found)]
  scores = [
      (SHORT_TITLES.get(key, summary.METRIC_TITLES[key]), _score(key), style.number) for key in keys
  ]
  length = ("Length", _score("length_ratio"), lambda value: style.number(value, 2))
  columns = [*_SETTING_COLUMNS, *scores, length, *_COST_COLUMNS]
  rows = []
  for title, point in found:
    cells = [(title, title)]
    for _, value_of, show in columns:
      value = value_of(point)
      cells.append((style.MISSING, "") if value is None else (show(value), value))
    rows.append(cells)
  return Table(["Method", *(heading for heading, _, _ in columns)], rows)


def _score(key: str) -> Callable[[Point], float | None]:
  return lambda point: point.scores.get(key)


class Kind(NamedTuple):
  """A kind of word: its groups by frequency, and the share of its tokens that the teacher wrote."""

  name: str
  groups: list[WordGroup]
  mean: float


def _difficulty(metrics: Metrics) -> list[Kind]:
  """Groups the difficulty map by kind of word, the largest teacher share first."""
  kinds: dict[str, list[WordGroup]] = {}
  for group in metrics.difficulty:
    kinds.setdefault(group.kind, []).append(group)
  found = [
      Kind(
          kind.replace("_", " "),
          sorted(groups, key=lambda group: group.frequency),
          sum(g.tokens * g.asked for g in groups) / sum(g.tokens for g in groups),
      )
      for kind, groups in kinds.items()
  ]
  return sorted(found, key=lambda kind: -kind.mean)


class ShownSample(NamedTuple):
  """A sample, its output as runs of one author, and the number of the teacher's tokens."""

  found: Sample
  runs: list[samples.Run]
  written: int


def _sample(sample: Sample) -> ShownSample:
  written = sum(token.author == "teacher" for token in sample.tokens)
  return ShownSample(sample, samples.author_runs(sample.tokens), written)
