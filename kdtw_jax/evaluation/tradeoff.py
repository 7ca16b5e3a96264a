"""Interpolation of trade-off curves: the dial for a share, and the score at a share.

A method has a dial (a budget, a threshold, an offset). Each setting of it gives a `Point`, and the
points of a method form a `Curve` (record.py). area.py integrates curves. Nothing here decodes.

Shape letters: P points of one curve.
"""

from collections.abc import Callable, Sequence
import math
from typing import NamedTuple

import numpy as np

from kdtw_jax.evaluation.record import Curve


class DialEstimate(NamedTuple):
  """The dial that should give a target share.

  Attributes:
    dial: value of the dial.
    share: its expected share.
    clamped: True if the target lies outside the shares of the sweep.
  """

  dial: float
  share: float
  clamped: bool


class ScoreEstimate(NamedTuple):
  """The score of a curve at a share; `clamped` as in `DialEstimate`."""

  score: float
  share: float
  clamped: bool


def dial_for_share(
    dials: Sequence[float] | np.ndarray, shares: Sequence[float] | np.ndarray, target: float
) -> DialEstimate:
  """Finds the dial whose teacher share is the target, by a monotone piecewise-linear fit.

  A sweep is noisy, so the measured shares may not be monotone. They are replaced by their isotonic
  regression over the dial (in the direction in which they run), and the fit is inverted. If a whole
  range of dials has the target share, its middle is returned.

  Args:
    dials: `[P]` values of the dial, in any order.
    shares: `[P]` measured shares, 0..1.
    target: the wanted share.

  Returns:
    The dial, the fitted share at it, and whether the target was clamped to the fitted range.

  Raises:
    ValueError: if the sweep is empty, of unequal lengths or not finite.
  """
  dials, shares = np.asarray(dials, float), np.asarray(shares, float)
  if dials.size == 0 or dials.shape != shares.shape:
    raise ValueError(f"{dials.size} dials and {shares.size} shares; give one share per dial")
  if not (np.isfinite(dials).all() and np.isfinite(shares).all() and math.isfinite(target)):
    raise ValueError("dials, shares and target must be finite")
  dials, shares = _merge_equal(dials, shares)
  rising = np.sum((dials - dials.mean()) * (shares - shares.mean())) >= 0
  if not rising:
    dials, shares = dials[::-1], shares[::-1]
  fit = isotonic_fit(shares)
  if not fit[0] <= target <= fit[-1]:
    end = 0 if target < fit[0] else -1
    return DialEstimate(float(dials[end]), float(fit[end]), clamped=True)
  equal = np.flatnonzero(np.isclose(fit, target, rtol=0, atol=1e-12))
  if equal.size:
    return DialEstimate(float(dials[equal[[0, -1]]].mean()), float(fit[equal[0]]), clamped=False)
  above = int(np.searchsorted(fit, target))
  part = (target - fit[above - 1]) / (fit[above] - fit[above - 1])
  dial = dials[above - 1] + part * (dials[above] - dials[above - 1])
  return DialEstimate(float(dial), float(target), clamped=False)


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


def isotonic_fit(values: np.ndarray) -> np.ndarray:
  """Returns the non-decreasing sequence nearest to the values in least squares.

  The algorithm is pool adjacent violators: `[0, 3, 1, 4]` becomes `[0, 2, 2, 4]`.

  Args:
    values: `[P]` floats.
  """
  means: list[float] = []
  sizes: list[int] = []
  for value in values:
    means.append(float(value))
    sizes.append(1)
    while len(means) > 1 and means[-2] > means[-1]:
      size = sizes[-2] + sizes[-1]
      mean = (means[-2] * sizes[-2] + means[-1] * sizes[-1]) / size
      means[-2:], sizes[-2:] = [mean], [size]
  return np.repeat(means, sizes)


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
  clamped = abs(at - share) > 1e-9
  return ScoreEstimate(float(np.interp(at, shares, scores)), at, clamped=clamped)


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
