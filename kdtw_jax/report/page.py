"""The page of one run: its numbers in the words and tables of `page.html.jinja`.

A section without measurements is omitted.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from kdtw_jax.evaluation.area import AREA_UP_TO
from kdtw_jax.evaluation.record import Metrics, Point, Sample, SampleOutput, WordGroup
from kdtw_jax.report import charts, hulls, samples, style, summary
from kdtw_jax.report.template import render

_BUDGET_TAGS = {summary.SEEN: "", summary.REWORDED: "new words", summary.UNSEEN: "unseen"}
SHORT_TITLES = {"rouge1": "R-1", "rouge2": "R-2", "rougeL": "R-L", "rougeLsum": "R-Lsum"}
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


def render_page(metrics: Metrics) -> str:
  """Returns the HTML of a run's page."""
  quality, rows = summary.quality_title(metrics), summary.equal_share_table(metrics)
  hull_figures, trade_offs = charts.hull_figures(metrics), charts.trade_offs(metrics)
  calibration, learning = charts.budget_calibration(metrics), charts.learning(metrics.stages)
  shown = [_sample(sample) for sample in metrics.samples]
  budgets = [output.found.budget for output in shown[0].outputs] if shown else []
  figures = [*hull_figures, *trade_offs, *([calibration] if calibration else []), *learning]
  return render(
      "page.html.jinja",
      figures,
      m=metrics,
      title=metrics.name,
      headline=hulls.headline(metrics) or summary.headline(metrics),
      lead=_lead(metrics),
      quality=quality,
      first_figures=hull_figures,
      trade_offs=trade_offs,
      calibration_figure=calibration,
      learning=learning,
      titles={**summary.REFERENCE_TITLES, **{row.curve.method: row.curve.title for row in rows}},
      handovers={row.curve.method for row in rows if row.curve.is_handover},
      tiles=_tiles(metrics, quality, rows),
      equal_shares=summary.EQUAL_SHARES,
      equal_rows=rows,
      frontier=summary.frontier(metrics),
      calibration=summary.calibration(metrics),
      budgets=[(row, _BUDGET_TAGS[summary.budget_kind(row)]) for row in metrics.budgets],
      area_up_to=AREA_UP_TO,
      equals=[
          (equal.heading, [hulls.table(metrics, found) for found in equal.found])
          for equal in hulls.equals(metrics.hulls)
      ],
      all_reached=all(gap.reached for row in metrics.hulls for gap in row.gaps),
      points=_points(metrics),
      difficulty=_difficulty(metrics),
      samples=shown,
      budgets_shown=budgets,
      budget_first=_nearest(budgets, summary.HEADLINE_SHARE),
      config=summary.flatten(metrics.config),
  )


def _nearest(values: Sequence[float], wanted: float) -> int:
  """Returns the index of the value nearest to the wanted one; 0 without values."""
  return min(range(len(values)), key=lambda i: abs(values[i] - wanted), default=0)


def _lead(metrics: Metrics) -> str:
  """Returns what stands below the heading: the handover, unless it is the heading, and the time."""
  handover = summary.headline(metrics) if hulls.headline(metrics) else ""
  return f"{handover} {summary.time_saved(metrics)}".strip()


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
  for kind, error in summary.calibration(metrics).items():
    tiles.append((style.number(100 * error), "points", f"mean |use − budget| of {kind}"))
  return tiles


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


class ShownOutput(NamedTuple):
  """An output as runs of one author, and the number of the teacher's tokens."""

  found: SampleOutput
  runs: list[samples.Run]
  written: int


class ShownSample(NamedTuple):
  """A sample and its outputs, the least budget first."""

  found: Sample
  outputs: list[ShownOutput]


def _sample(sample: Sample) -> ShownSample:
  return ShownSample(
      sample,
      [
          ShownOutput(
              found,
              samples.author_runs(found.tokens),
              sum(token.author == "teacher" for token in found.tokens),
          )
          for found in sample.outputs
      ],
  )
