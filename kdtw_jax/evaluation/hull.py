"""The best that a coin between measured settings buys: hulls in the plane of price and score.

To give each sentence one of two settings by a coin costs nothing, so a group of methods offers
every point between two of its settings. Numbers in, numbers out; comparing_hulls.py knows the
methods.

Shape letters: P points, V vertices of one hull, R resamples of the sentences.
"""

from collections.abc import Sequence

from jaxtyping import Float
import numpy as np


def upper_hull(prices: Sequence[float], scores: Sequence[float]) -> list[int]:
  """Finds the points of which no coin between two others is as good at the same price.

  The hull begins at the cheapest point and ends at the best one: nobody pays more for less.

  Args:
    prices: P prices.
    scores: P scores.

  Returns:
    Indices of the V vertices, the cheapest first; prices and scores rise along them.

  Raises:
    ValueError: if there are no points.
  """
  if not prices or len(prices) != len(scores):
    raise ValueError(f"{len(prices)} prices and {len(scores)} scores; give one score per price")
  kept: list[int] = []
  for i in sorted(range(len(prices)), key=lambda i: (prices[i], -scores[i])):
    if kept and prices[i] == prices[kept[-1]]:
      continue  # as dear and no better
    while len(kept) > 1 and _lies_above(kept[-2], i, kept[-1], prices, scores):
      kept.pop()
    kept.append(i)
  best = max(kept, key=lambda i: scores[i])
  return kept[: kept.index(best) + 1]


def _lies_above(
    a: int, b: int, middle: int, prices: Sequence[float], scores: Sequence[float]
) -> bool:
  """Returns True if the chord from a to b is at least as high as the point between them."""
  rise, run = scores[b] - scores[a], prices[b] - prices[a]
  return rise * (prices[middle] - prices[a]) >= (scores[middle] - scores[a]) * run


def coin_weights(
    paid: Float[np.ndarray, "R V"], tokens: Float[np.ndarray, "R V"], at: float, *, first: int = 0
) -> Float[np.ndarray, "R V"]:
  """Weighs two neighbours on a hull so that their mixture has a given price.

  A mixture pays Σ_v w_v paid_v for Σ_v w_v tokens_v, so with e_v = paid_v − at · tokens_v the
  weights of neighbours a and b obey w_a e_a + w_b e_b = 0. In other sentences a setting has another
  price, so neighbours other than the intended ones may be needed; the nearest ones that enclose
  the price are taken. Beyond either end of the hull, the end itself has all the weight.

  Args:
    paid: price of each vertex, summed over the sentences of each resample.
    tokens: output tokens of each vertex, summed likewise.
    at: the wanted price per output token.
    first: the intended neighbours are the vertices `first` and `first + 1`.

  Returns:
    Weights >= 0 that sum to 1 over the vertices.
  """
  excess = paid - at * tokens
  weights, open_ = np.zeros_like(excess), np.ones(len(excess), bool)
  for a in sorted(range(excess.shape[1] - 1), key=lambda a: abs(a - first)):
    low, high = excess[:, a], excess[:, a + 1]
    here = open_ & (low * high <= 0)
    span = np.where(low == high, 1.0, low - high)
    weights[here, a + 1] = (low / span)[here]
    weights[here, a] = 1 - (low / span)[here]
    open_ &= ~here
  end = np.where(excess[:, 0] > 0, 0, excess.shape[1] - 1)
  weights[open_, end[open_]] = 1.0
  return weights


def segment(weights: Float[np.ndarray, " V"]) -> int:
  """Returns the first of the two neighbours that share the weight, at most V − 2 (0 if V is 1)."""
  return int(min(np.flatnonzero(weights)[0], max(weights.size - 2, 0)))
