"""Summaries of a run for page and terminal: the headline, the table of equal shares and others.

They take a typed record and return plain values. Nothing here formats HTML.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any, NamedTuple

from kdtw_jax.evaluation.metrics import calibration_error
from kdtw_jax.evaluation.record import EXACT_METHOD, BudgetUse, Curve, Metrics
from kdtw_jax.evaluation.tradeoff import score_at_share
from kdtw_jax.report import style

METRIC_TITLES = {
    "bleu": "BLEU",
    "chrf": "chrF",
    "exact_match": "Exact match",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "rougeLsum": "ROUGE-Lsum",
}
REFERENCE_TITLES = {
    "teacher": "Teacher",
    "student": "Student alone",
    "sft_student": "Student after supervised training",
    "kl_student": "Student after its warm start",
    "pcl_student": "Student after distillation",
}
# What training used of a budget: its number and wording, its number only, or neither.
SEEN, REWORDED, UNSEEN = BUDGET_KINDS = (
    "budgets seen in training",
    "seen budgets in new words",
    "budgets not seen in training",
)
EQUAL_SHARES = (0.05, 0.1, 0.2, 0.3, 0.5)
SHARE_TOLERANCE = 0.015  # a curve that ends at 48.9% still answers for 50%
HEADLINE_SHARE = 0.2
MOST_LINES = 9  # most curves that a plot can show legibly


def quality_title(metrics: Metrics) -> str:
  """Returns the display name of the score that the report plots, e.g. "BLEU"."""
  return METRIC_TITLES[metrics.metric]


def curves(metrics: Metrics) -> list[Curve]:
  """Returns the curves on test that have points."""
  return [curve for curve in metrics.curves.get("test", ()) if curve.points]


def main_curve(found: Sequence[Curve]) -> Curve | None:
  """Returns the report's main curve: the first handover, or None if there is none."""
  return next((curve for curve in found if curve.is_handover), None)


def reference_score(metrics: Metrics, name: str) -> float | None:
  """Returns the quality of "teacher", "student" or another model alone; None if not measured."""
  alone = metrics.alone.get(name)
  return alone.scores[metrics.metric] if alone else None


def plotted(metrics: Metrics) -> list[Curve]:
  """Returns the curves to draw: all of a small run; the handover and the strongest of a large one.

  Strength is the hypervolume, and each family is represented by its strongest method. Upper bounds
  and exact speculation are always drawn.
  """
  found = curves(metrics)
  if len(found) <= MOST_LINES:
    return found

  def strength(curve: Curve) -> float:
    return metrics.hypervolumes.get(curve.method) or 0.0

  always, families = set(), {}
  for curve in found:
    if curve.is_handover or curve.bound or curve.method == EXACT_METHOD:
      always.add(curve.method)
    elif strength(curve) >= strength(families.get(curve.family, curve)):
      families[curve.family] = curve
  others = sorted(families.values(), key=strength, reverse=True)[: MOST_LINES - len(always)]
  shown = always | {curve.method for curve in others}
  return [curve for curve in found if curve.method in shown]


@dataclasses.dataclass
class EqualShares:
  """A method's row in the table of equal shares.

  Attributes:
    curve: the method.
    scores: scores interpolated at each of EQUAL_SHARES; None beyond the method's range.
    area: see `area.area_between`.
    volume: see `area.hypervolume`.
    best: the columns in which the method is best.
  """

  curve: Curve
  scores: list[float | None]
  area: float | None
  volume: float | None
  best: set[int]


def equal_share_table(metrics: Metrics) -> list[EqualShares]:
  """Tabulates every method's quality at equal teacher shares; upper bounds are never best."""
  rows = []
  for curve in curves(metrics):
    found = [score_at_share(curve, metrics.metric, share) for share in EQUAL_SHARES]
    scores = [
        at.score if at and abs(at.share - share) <= SHARE_TOLERANCE else None
        for at, share in zip(found, EQUAL_SHARES, strict=True)
    ]
    area, volume = (of.get(curve.method) for of in (metrics.areas, metrics.hypervolumes))
    rows.append(EqualShares(curve, scores, area, volume, set()))
  for column in range(len(EQUAL_SHARES)):
    scored = [r for r in rows if not r.curve.bound and r.scores[column] is not None]
    if len(scored) > 1:
      max(scored, key=lambda row: row.scores[column]).best.add(column)
  return rows


class FrontierPoint(NamedTuple):
  """A point that no other beats in both quality and calls."""

  curve: Curve
  label: str
  calls: float
  cost: float
  score: float


def frontier(metrics: Metrics) -> list[FrontierPoint]:
  """Returns the points that no other beats in both quality and calls, the fewest calls first.

  Calls are calls to the teacher per output token; upper bounds are excluded.
  """
  points = [
      FrontierPoint(curve, p.label, p.teacher_calls, p.cost, p.scores[metrics.metric])
      for curve in curves(metrics)
      if not curve.bound
      for p in curve.points
  ]
  best, kept = float("-inf"), []
  for point in sorted(points, key=lambda point: (point.calls, -point.score)):
    if point.score > best:
      best = point.score
      kept.append(point)
  return kept


def budget_kind(row: BudgetUse) -> str:
  """Returns one of BUDGET_KINDS, by whether training used the budget and this wording."""
  if not row.seen:
    return UNSEEN
  return SEEN if row.template_seen else REWORDED


def calibration(metrics: Metrics) -> dict[str, float]:
  """Returns the mean |use − budget| of each of BUDGET_KINDS that was measured."""
  groups = {kind: [r for r in metrics.budgets if budget_kind(r) == kind] for kind in BUDGET_KINDS}
  return {
      kind: calibration_error([row.budget for row in rows], [row.realised for row in rows])
      for kind, rows in groups.items()
      if rows
  }


def headline(metrics: Metrics) -> str:
  """Returns a sentence on how far the handover closes the gap, or on whatever was measured."""
  title = quality_title(metrics)
  student, teacher = reference_score(metrics, "student"), reference_score(metrics, "teacher")
  main = main_curve(curves(metrics))
  at = score_at_share(main, metrics.metric, HEADLINE_SHARE) if main else None
  if at is None:
    known = [
        f"the {name} alone reaches {style.number(score)} {title}"
        for name, score in (("student", student), ("teacher", teacher))
        if score is not None
    ]
    sentence = " and ".join(known) or "no quality has been measured yet"
    return sentence[0].upper() + sentence[1:] + "."
  words = (
      f"With {style.percent(at.share)} of its tokens written by the teacher, the handover student "
      f"reaches {style.number(at.score)} {title}"
  )
  if student is not None and teacher is not None and teacher > student:
    way = (at.score - student) / (teacher - student)
    words += (
        f": {style.percent(way)} of the way from the student alone ({style.number(student)}) "
        f"to the teacher ({style.number(teacher)})"
    )
  return words + "."


def time_saved(metrics: Metrics) -> str:
  """Says how fast the setting that the run is for writes, beside the teacher; "" if not timed.

  It is that of the first family compared at equal calls, or a handover.
  """
  family = next((found.family for found in metrics.hulls), "handover")
  titles = {c.method: c.title for c in curves(metrics) if c.family == family}
  timed = [row for row in metrics.latency if row.method in titles]
  teacher = next((row for row in metrics.latency if row.method == "teacher"), None)
  if not timed or teacher is None:
    return ""
  ours = timed[len(timed) // 2]
  seconds, alone = (row.seconds_per_sentence.mean for row in (ours, teacher))
  words = (
      f"At {style.number(ours.quality)} {quality_title(metrics)} ({titles[ours.method]}, "
      f"{ours.setting}) a sentence takes {style.milliseconds(seconds)}, by the teacher alone "
      f"{style.milliseconds(alone)}: {style.number(alone / seconds, 1)} times as fast"
  )
  if metrics.throughput_batch > 1:
    ratio = ours.tokens_per_second / teacher.tokens_per_second
    words += (
        f", and in batches of {metrics.throughput_batch}, {style.number(ratio, 1)} times as many "
        "tokens a second"
    )
  return f"{words}."


def flatten(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
  """Flattens a nested config into rows of dotted names and values.

  `{"data": {"seed": 1}}` becomes `[("data.seed", 1)]`.

  Args:
    config: the nested dict.
    prefix: prefix of the names.
  """
  rows: list[tuple[str, Any]] = []
  for key, value in config.items():
    name = f"{prefix}{key}"
    if isinstance(value, Mapping) and value:
      rows += flatten(value, f"{name}.")
    else:
      rows.append((name, value))
  return rows
