"""Trade-off curves: the dial that gives a share, and the score at a share.

A method has a dial (a budget, a threshold, an offset). Each setting of it gives a `Point`, and the
points of a method form a `Curve` (record.py). area.py integrates curves. Nothing here decodes.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from kdtw_jax.evaluation.record import Curve


class ScoreEstimate(NamedTuple):
  """The score of a curve at a share: at the one that was wanted, or at the nearer end."""

  score: float
  share: float


def bisect_dial(
    share_of: Callable[[float], float],
    target: float,
    *,
    low: float = -20.0,
    high: float = 20.0,
    tolerance: float = 0.004,
    max_steps: int = 14,
) -> float:
  """Finds the dial that gives a share by measuring; the share must rise with the dial.

  Args:
    share_of: measures the share at a dial.
    target: the wanted share, 0..1.
    low: a dial whose share is below the target.
    high: a dial whose share is above the target.
    tolerance: distance from the target at which the search stops.
    max_steps: most measurements.

  Returns:
    The measured dial whose share is nearest to the target.
  """
  found: dict[float, float] = {}
  for _ in range(max_steps):
    middle = (low + high) / 2
    found[middle] = share_of(middle)
    if abs(found[middle] - target) <= tolerance:
      break
    low, high = (middle, high) if found[middle] < target else (low, middle)
  return min(found, key=lambda dial: abs(found[dial] - target))


def score_at_share(curve: Curve, key: str, share: float) -> ScoreEstimate | None:
  """Interpolates a curve's score at a teacher share, linearly between its neighbours.

  Args:
    curve: the curve.
    key: the score, e.g. "bleu".
    share: teacher share, 0..1.

  Returns:
    The estimate, clamped to the curve's ends; None if the curve has no points.
  """
  shares, scores = line(curve, key)
  if shares.size == 0:
    return None
  at = float(np.clip(share, shares[0], shares[-1]))
  return ScoreEstimate(float(np.interp(at, shares, scores)), at)


def line(curve: Curve, key: str) -> tuple[np.ndarray, np.ndarray]:
  """Returns the curve's distinct shares, ascending, and the mean score at each."""
  return _merge_equal(
      np.array([point.teacher_share for point in curve.points], float),
      np.array([point.scores[key] for point in curve.points], float),
  )


def _merge_equal(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Sorts by x and averages the y of equal x."""
  distinct, inverse = np.unique(x, return_inverse=True)
  sums = np.bincount(inverse, weights=y, minlength=distinct.size)
  counts = np.bincount(inverse, minlength=distinct.size)
  return distinct, sums / np.maximum(counts, 1)
