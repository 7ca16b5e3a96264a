"""Hulls of known points, and the weights that give a mixture its price."""

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from kdtw_jax.evaluation.hull import coin_weights, segment, upper_hull


def test_hull_by_hand():
  prices = [0.0, 0.1, 0.2, 0.3, 0.4, 1.0]
  assert upper_hull(prices, [30.0, 30.5, 34.0, 34.5, 36.0, 36.0]) == [0, 2, 4]
  assert upper_hull(prices, [30.0, 31.0, 32.0, 33.0, 34.0, 40.0]) == [0, 5]  # all on one chord
  assert upper_hull(prices, [30.0, 29.0, 28.0, 28.0, 28.0, 28.0]) == [
      0
  ]  # paying more gains nothing


def test_hull_of_equal_prices_takes_the_best_and_of_equal_scores_the_cheapest():
  assert upper_hull([0.0, 0.2, 0.2], [30.0, 31.0, 33.0]) == [0, 2]
  assert upper_hull([0.3, 0.2, 0.0, 0.0], [33.0, 33.0, 30.0, 29.0]) == [2, 1]
  assert upper_hull([0.2], [30.0]) == [0]
  with pytest.raises(ValueError, match="0 prices and 0 scores"):
    upper_hull([], [])


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 50)), min_size=1, max_size=12))
@settings(max_examples=200, deadline=None)
def test_no_coin_between_two_points_lies_above_the_hull(points):
  prices, scores = (list(map(float, axis)) for axis in zip(*points, strict=True))
  hull = upper_hull(prices, scores)
  x, y = np.array(prices)[hull], np.array(scores)[hull]
  assert np.all(np.diff(x) > 0) and np.all(np.diff(y) > 0)
  for a in points:
    for b in points:
      for weight in (0.0, 0.3, 0.7):
        price, score = weight * np.array(a) + (1 - weight) * np.array(b)
        assert score <= np.interp(price, x, y) + 1e-9


def test_weights_give_exactly_the_price_though_outputs_differ_in_length():
  paid, tokens = np.array([[0.0, 300.0, 500.0]]), np.array([[1000.0, 1100.0, 1200.0]])
  for at in (0.0, 0.05, 0.27, 0.3, 500 / 1200):
    weights = coin_weights(paid, tokens, at)
    assert (weights @ paid[0]) / (weights @ tokens[0]) == pytest.approx([at])
    assert weights.sum() == pytest.approx(1.0) and np.all(weights >= 0)
  (weights,) = coin_weights(paid, tokens, 0.1)  # 0.1 (1000 a + 1100 b) = 300 b: 100 a = 190 b
  assert weights == pytest.approx([190 / 290, 100 / 290, 0.0])


def test_beyond_an_end_the_end_has_all_the_weight():
  paid, tokens = np.array([[10.0, 30.0]]), np.array([[100.0, 100.0]])
  assert coin_weights(paid, tokens, 0.05).tolist() == [[1.0, 0.0]]
  assert coin_weights(paid, tokens, 0.4).tolist() == [[0.0, 1.0]]
  assert coin_weights(paid[:, :1], tokens[:, :1], 0.4).tolist() == [[1.0]]


def test_each_resample_has_its_own_neighbours_the_intended_ones_first():
  tokens = np.full((3, 3), 100.0)
  paid = np.array([[0.0, 10.0, 30.0], [0.0, 20.0, 30.0], [0.0, 15.0, 12.0]])
  weights = coin_weights(paid, tokens, 0.15, first=1)
  assert weights[0] == pytest.approx([0.0, 0.75, 0.25])
  assert weights[1] == pytest.approx([0.25, 0.75, 0.0])  # the second alone costs more than 0.15
  assert weights[2] == pytest.approx([0.0, 1.0, 0.0])
  assert [segment(row) for row in weights] == [1, 0, 1]
  assert segment(np.array([1.0])) == 0 and segment(np.array([0.0, 1.0])) == 0
