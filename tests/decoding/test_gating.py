"""Gate rules and the hard cap against hand-derived values and exact fractions."""

from fractions import Fraction
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdtw_jax import base, distributions
from kdtw_jax.decoding import gating


def test_greedy_gate_is_a_strict_threshold_at_one_half():
  ask = gating.gate_greedy(jnp.array([-1.0, 0.0, 1e-3, 2.0]), jnp.array([0.0, 0.0, 0.0, -2.0]))
  np.testing.assert_array_equal(ask, [False, False, True, False])


def test_sampled_gate_asks_at_the_rate_of_its_sigmoid():
  num = 20000
  ask = gating.gate_sampled(jnp.full((num,), 1.0), jnp.full((num,), -0.5), jax.random.key(0))
  assert abs(float(jnp.mean(ask)) - 1 / (1 + math.exp(-0.5))) < 4 * 0.5 / math.sqrt(num)


def test_confidences_of_known_distributions():
  probs = np.array([[0.5, 0.25, 0.25, 0.0], [0.25, 0.25, 0.25, 0.25], [0.0, 0.1, 0.7, 0.2]])
  with np.errstate(divide="ignore"):
    logits = jnp.asarray(np.maximum(np.log(probs), base.MASKED_LOGIT), jnp.float32)
  np.testing.assert_allclose(gating.max_prob(logits), [0.5, 0.25, 0.7], rtol=1e-6)
  np.testing.assert_allclose(gating.margin(logits), [0.25, 0.0, 0.5], rtol=1e-5, atol=1e-7)
  expected = [-sum(p * math.log(p) for p in row if p) for row in probs]
  np.testing.assert_allclose(distributions.entropy(logits), expected, rtol=1e-6)


def test_confidences_do_not_move_with_a_constant_and_stay_finite():
  logits = jax.random.normal(jax.random.key(0), (5, 11)) * 30
  for confidence in (gating.max_prob, distributions.entropy, gating.margin):
    values = confidence(logits)
    assert jnp.all(jnp.isfinite(values))
    np.testing.assert_allclose(confidence(logits + 100), values, atol=1e-4)


def test_gap_is_the_log_probability_given_away():
  teacher = jnp.log(jnp.array([[0.6, 0.3, 0.1], [0.6, 0.3, 0.1]]))
  student = jnp.array([[0.0, 5.0, 1.0], [9.0, 5.0, 1.0]])
  np.testing.assert_allclose(
      distributions.log_prob_gap(teacher, student), [math.log(2), 0.0], rtol=1e-6
  )


@pytest.mark.parametrize("percent", range(0, 101, 5))
def test_hard_cap_equals_exact_fractions(percent):
  """float32 budgets such as 0.35 are not the fraction; the cap must decide as the fraction does."""
  length = np.repeat(np.arange(0, 300), 4)
  # asks around the limit: two below to one above
  exact = Fraction(percent, 100)
  asks = np.array([max(0, math.floor(exact * (n + 1)) - 2 + i % 4) for i, n in enumerate(length)])
  expected = [a + 1 <= exact * (int(n) + 1) for a, n in zip(asks.tolist(), length, strict=True)]
  budget = jnp.full(length.shape, percent / 100, jnp.float32)
  allowed = gating.within_cap(
      jnp.asarray(asks, jnp.int32), jnp.asarray(length, jnp.int32), budget, "hard"
  )
  np.testing.assert_array_equal(allowed, expected)


def test_no_cap_allows_everything():
  zero = jnp.zeros((3,), jnp.int32)
  assert gating.within_cap(zero + 9, zero, jnp.zeros((3,)), "none").all()
