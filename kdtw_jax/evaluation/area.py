"""Summaries of a trade-off curve in one number: area over shares, hypervolume over costs."""

import numpy as np

from kdtw_jax.evaluation.record import Curve
from kdtw_jax.evaluation.tradeoff import line

AREA_UP_TO = 0.5  # the largest teacher share that a method's area includes


def area_between(
    curve: Curve,
    key: str,
    *,
    student: float,
    teacher: float,
    up_to: float = 1.0,
    min_span: float = 0.1,
) -> float | None:
  """Returns the part of the area between student and teacher that lies under a curve.

  (1/u) ∫_0^u (q(s) − q_student) / (q_teacher − q_student) ds, where s is the teacher's share and q
  is linear between points. A curve without a point at s = 0 starts at the student, and one without
  a point at s = 1 ends at the teacher. The straight line between both has area 0.5 over the whole
  range. The area may leave 0..1 if a curve falls below the student or rises above the teacher.

  Args:
    curve: the method's points.
    key: the score, e.g. "bleu".
    student: the score of the student alone.
    teacher: the score of the teacher alone.
    up_to: u, the largest share that counts.
    min_span: range of shares that the points must span. A method with a single operating point,
      such as exact speculative decoding, has no curve; lines from it to both ends would flatter it.

  Returns:
    The area; None if the teacher is no better than the student or the points span too little.

  Raises:
    ValueError: if `up_to` is not in (0, 1].
  """
  if not 0.0 < up_to <= 1.0:
    raise ValueError(f"up_to={up_to}: must be a share above 0 and at most 1")
  shares, scores = line(curve, key)
  if shares.size == 0 or shares[-1] - shares[0] < min_span or not teacher > student:
    return None
  if shares[0] > 0:
    shares, scores = np.append(0.0, shares), np.append(student, scores)
  if shares[-1] < 1:
    shares, scores = np.append(shares, 1.0), np.append(scores, teacher)
  knots = np.append(shares[shares < up_to], up_to)
  gained = (np.interp(knots, shares, scores) - student) / (teacher - student)
  return float(np.sum(np.diff(knots) * (gained[1:] + gained[:-1]) / 2) / up_to)


def hypervolume(
    curve: Curve, key: str, *, student: float, teacher: float, cheapest: float
) -> float | None:
  """Returns the part of the cost-quality plane between student and teacher that a method dominates.

  The plane is the rectangle of costs from the student alone to the teacher alone (1 pass per token)
  and of scores from the student's to the teacher's. The result is the area of all (x, y) in it with
  x >= cost and y <= score of some point, divided by the area of the rectangle. Unlike
  `area_between`, it interpolates nothing, so a single good point counts.

  Args:
    curve: the method's points.
    key: the score, e.g. "bleu".
    student: the score of the student alone.
    teacher: the score of the teacher alone.
    cheapest: cost of the student alone, in teacher passes per token.

  Returns:
    0..1; None if the teacher is no better or costs no more than the student, or there are no
    points.
  """
  if not curve.points or not teacher > student or not cheapest < 1:
    return None
  total, best = 0.0, student
  steps = sorted((max(p.cost, cheapest), min(p.scores[key], teacher)) for p in curve.points)
  for cost, score in steps:
    if score > best and cost < 1:
      total += (1 - cost) * (score - best)
      best = score
  return total / ((1 - cheapest) * (teacher - student))
