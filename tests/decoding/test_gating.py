"""Confidences against hand-derived values."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from kdtw_jax import base, distributions
from kdtw_jax.decoding import gating


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
