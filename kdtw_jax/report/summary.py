"""What the numbers say: the headline, the table of equal shares and other digests of metrics.json.

Plain dicts in, plain values out, for the page and the terminal alike. Nothing here formats HTML.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from kdtw_jax.evaluation.area import AREA_UP_TO, area_between
from kdtw_jax.evaluation.metrics import calibration_error, primary_score
from kdtw_jax.evaluation.tradeoff import Curve, score_at_share
from kdtw_jax.report import style

METRIC_TITLES = {
    "bleu": "BLEU",
    "chrf": "chrF",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "rougeLsum": "ROUGE-Lsum",
}
REFERENCE_TITLES = {
    "teacher": "Teacher",
    "student": "Student alone",
    "sft_student": "Student after supervised training",
    "kl_student": "Student after KL distillation",
    "pcl_student": "Student after path consistency",
}
BUDGET_KINDS = {
    "seen": "that training used",
    "seen, in new words": "that training used, in new words",
    "unseen": "that training never showed",
}
EQUAL_SHARES = (0.05, 0.1, 0.2, 0.3, 0.5)
SHARE_TOLERANCE = 0.015  # a curve that ends at 48.9% still answers for 50%
HEADLINE_SHARE = 0.2
MOST_LINES = 9  # curves that a plot can hold and be read


def quality_key(metrics: Mapping[str, Any]) -> str:
  """Returns the score that the report plots, e.g. "bleu"."""
  return primary_score(metrics.get("metric") or "bleu")


def quality_title(metrics: Mapping[str, Any]) -> str:
  """Returns that score's name for readers, e.g. "BLEU"."""
  return METRIC_TITLES[quality_key(metrics)]


def curves(metrics: Mapping[str, Any], section: str = "methods") -> list[Curve]:
  """Returns the curves of a section that have points.

  Args:
    metrics: the dict of metrics.json.
    section: "methods" (test split) or "validation_methods".
  """
  found = [Curve.from_json(record) for record in metrics.get(section) or ()]
  return [curve for curve in found if curve.points]


def is_upper_bound(method: str) -> bool:
  """True for methods that decide by looking at the teacher's answer, which costs a call each."""
  return method.startswith("oracle")


def main_method(methods: Sequence[str]) -> str | None:
  """Returns the method that the report is about: the handover, or None if there is none."""
  if "handover" in methods:
    return "handover"
  return next((method for method in methods if method.startswith("handover")), None)


def method_titles(metrics: Mapping[str, Any]) -> dict[str, str]:
  """Returns the readers' name of each method and reference."""
  titles = dict(REFERENCE_TITLES)
  for section in ("validation_methods", "methods"):
    titles |= {curve.method: curve.title for curve in curves(metrics, section)}
  return titles


def setting_labels(metrics: Mapping[str, Any]) -> dict[tuple[str, float | None], str]:
  """Returns what each (method, dial) is called, e.g. "20%" for the handover's 0.2."""
  return {
      (curve.method, point.dial): point.label
      for curve in curves(metrics)
      for point in curve.points
      if point.label
  }


def reference_score(metrics: Mapping[str, Any], name: str) -> float | None:
  """Returns the quality of "teacher", "student" or another reference; None if not measured."""
  value = ((metrics.get("reference") or {}).get(name) or {}).get(quality_key(metrics))
  return float(value) if style.is_number(value) else None


def area(metrics: Mapping[str, Any], curve: Curve) -> float | None:
  """Returns a method's area from metrics.json, or computes it from the points."""
  given = (metrics.get("areas") or {}).get(curve.method)
  if style.is_number(given):
    return float(given)
  student, teacher = reference_score(metrics, "student"), reference_score(metrics, "teacher")
  if student is None or teacher is None:
    return None
  return area_between(
      curve, quality_key(metrics), student=student, teacher=teacher, up_to=AREA_UP_TO
  )


def plotted(metrics: Mapping[str, Any]) -> list[Curve]:
  """Returns the curves to draw: all of a small run, of a large one the handover and the strongest.

  Strength is the hypervolume; of methods that differ in their last word alone (`cascade_opt`,
  `cascade_chow`) the strongest stands for all.
  """
  found = curves(metrics)
  if len(found) <= MOST_LINES:
    return found
  volumes = metrics.get("hypervolumes") or {}

  def strength(curve: Curve) -> float:
    value = volumes.get(curve.method)
    return float(value) if style.is_number(value) else 0.0

  always = [c for c in found if c.method.startswith(("handover", "oracle", "speculative"))]
  families: dict[str, Curve] = {}
  for curve in found:
    family = curve.method.split("_")[0]
    if curve not in always and strength(curve) >= strength(families.get(family, curve)):
      families[family] = curve
  others = sorted(families.values(), key=strength, reverse=True)
  shown = {curve.method for curve in (*always, *others[: MOST_LINES - len(always)])}
  return [curve for curve in found if curve.method in shown]


def equal_share_table(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
  """Reads every method's quality at the same teacher shares.

  Args:
    metrics: the dict of metrics.json.

  Returns:
    For each method its name, title, area, volume and `cells`, one for each of EQUAL_SHARES: the
    interpolated score (None beyond the method's range) and whether it is the best of the column.
    Upper bounds do not compete.
  """
  key = quality_key(metrics)
  rows = []
  for curve in curves(metrics):
    cells: list[dict[str, Any]] = []
    for share in EQUAL_SHARES:
      found = score_at_share(curve, key, share)
      reached = found is not None and abs(found.share - share) <= SHARE_TOLERANCE
      cells.append({"score": found.score if reached else None, "best": False})
    row = {
        "method": curve.method,
        "title": curve.title,
        "area": area(metrics, curve),
        "volume": (metrics.get("hypervolumes") or {}).get(curve.method),
    }
    rows.append(row | {"cells": cells, "bound": is_upper_bound(curve.method)})
  for column in range(len(EQUAL_SHARES)):
    competing = [row["cells"][column] for row in rows if not row["bound"]]
    scored = [cell for cell in competing if cell["score"] is not None]
    if len(scored) > 1:
      max(scored, key=lambda cell: cell["score"])["best"] = True
  return rows


def frontier(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
  """Returns the points that no other beats in both quality and calls, the fewest calls first.

  Calls are the teacher's per output token; upper bounds do not compete.

  Args:
    metrics: the dict of metrics.json.

  Returns:
    For each point the method's title, its label, `calls`, `cost` and `score`.
  """
  key = quality_key(metrics)
  rows = [
      {
          "title": curve.title,
          "method": curve.method,
          "label": point.label,
          "cost": point.cost,
          "calls": point.teacher_calls,
          "score": point.scores[key],
      }
      for curve in curves(metrics)
      if not is_upper_bound(curve.method)
      for point in curve.points
      if style.is_number(point.teacher_calls) and style.is_number(point.scores.get(key))
  ]
  best, kept = float("-inf"), []
  for row in sorted(rows, key=lambda row: (row["calls"], -row["score"])):
    if row["score"] > best:
      best = row["score"]
      kept.append(row)
  return kept


def budget_kind(row: Mapping[str, Any]) -> str:
  """Returns one of BUDGET_KINDS: whether training showed the budget, and in this wording."""
  if not row.get("seen"):
    return "unseen"
  return "seen" if row.get("template_seen", True) else "seen, in new words"


def calibration(metrics: Mapping[str, Any]) -> dict[str, float]:
  """Returns the mean |use − budget| of each of BUDGET_KINDS, where measured."""
  errors = {}
  for name in BUDGET_KINDS:
    rows = [
        row
        for row in metrics.get("budgets") or ()
        if budget_kind(row) == name
        and style.is_number(row.get("budget"))
        and style.is_number(row.get("realised"))
    ]
    if rows:
      errors[name] = calibration_error(
          [row["budget"] for row in rows], [row["realised"] for row in rows]
      )
  return errors


def headline(metrics: Mapping[str, Any]) -> str:
  """Says in a sentence how far the handover came, or what little is known, from the numbers."""
  title = quality_title(metrics)
  student, teacher = reference_score(metrics, "student"), reference_score(metrics, "teacher")
  at = _handover_at(metrics, _headline_comparison(metrics))
  if at is None:
    known = [
        f"the {name} alone reaches {style.number(score)} {title}"
        for name, score in (("student", student), ("teacher", teacher))
        if score is not None
    ]
    sentence = " and ".join(known) or "no quality has been measured yet"
    return sentence[0].upper() + sentence[1:] + "."
  score, share = at
  words = (
      f"With {style.percent(share)} of its tokens written by the teacher, the handover student "
      f"reaches {style.number(score)} {title}"
  )
  if student is not None and teacher is not None and teacher > student:
    way = (score - student) / (teacher - student)
    words += (
        f": {style.percent(way)} of the way from the student alone ({style.number(student)}) "
        f"to the teacher ({style.number(teacher)})"
    )
  return words + "."


def lead(metrics: Mapping[str, Any]) -> str:
  """Says, good or bad, how the handover compares there with its strongest baseline; else ""."""
  parts = []
  for equal, words in (
      ("share", "That is {} the strongest method that asks as often: {}"),
      ("cost", "At equal sequential cost it is {} the strongest method: {}"),
  ):
    row = _headline_comparison(metrics, equal)
    if row is not None:
      parts.append(_difference(row, words, method_titles(metrics)))
  return " ".join(parts)


def _difference(row: Mapping[str, Any], words: str, titles: Mapping[str, str]) -> str:
  """One comparison in words, its interval included."""
  delta, title = row["delta"], titles.get(row["baseline"], row["baseline"])
  direction = "above" if delta >= 0 else "below"
  words = words.format(f"{style.number(abs(delta))} {direction}", title)
  low, high = (row.get("interval") or (None, None))[:2]
  if style.is_number(low) and style.is_number(high):
    words += f" (95% interval {style.signed(low)} to {style.signed(high)})"
    if low <= 0 <= high:
      words += ", a difference that this test set cannot tell from chance"
  return words + "."


def _headline_comparison(
    metrics: Mapping[str, Any], equal: str = "share"
) -> Mapping[str, Any] | None:
  """Returns the comparison with the strongest other method at the budget nearest HEADLINE_SHARE."""
  rows = [
      row
      for row in metrics.get("comparisons") or ()
      if style.is_number(row.get("delta"))
      and style.is_number(row.get("share"))
      and not is_upper_bound(row.get("baseline") or "")
      and not (row.get("baseline") or "").startswith("handover")
      and row.get("equal", "share") == equal
      and row.get("reached", True)
  ]
  if not rows:
    return None
  return min(rows, key=lambda row: (abs(row["share"] - HEADLINE_SHARE), row["delta"]))


def _handover_at(
    metrics: Mapping[str, Any], comparison: Mapping[str, Any] | None
) -> tuple[float, float] | None:
  """Returns the handover's score and share that the headline speaks of."""
  if comparison is not None and style.is_number(comparison.get("handover")):
    share = comparison.get("handover_share")
    share = share if style.is_number(share) else comparison["share"]
    return float(comparison["handover"]), float(share)
  by_name = {curve.method: curve for curve in curves(metrics)}
  name = main_method(list(by_name))
  found = score_at_share(by_name[name], quality_key(metrics), HEADLINE_SHARE) if name else None
  return (found.score, found.share) if found else None


def flatten(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
  """Turns a nested config into rows of dotted names and values.

  `{"data": {"seed": 1}}` becomes `[("data.seed", 1)]`.

  Args:
    config: the nested dict.
    prefix: of the names.
  """
  rows: list[tuple[str, Any]] = []
  for key, value in config.items():
    name = f"{prefix}{key}"
    if isinstance(value, Mapping) and value:
      rows += flatten(value, f"{name}.")
    else:
      rows.append((name, value))
  return rows
