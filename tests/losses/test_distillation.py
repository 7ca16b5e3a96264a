"""Token-level divergences and difficulties."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdtw_jax import distributions, losses
from kdtw_jax.base import MASKED_LOGIT


def probs_of(logits):
  """Float64 softmax."""
  powers = np.exp(logits - np.max(logits, axis=-1, keepdims=True))
  return powers / powers.sum(axis=-1, keepdims=True)


@pytest.fixture
def pair():
  """Teacher and student logits in float64, `[2, 4, 6]`."""
  return np.random.default_rng(0).normal(size=(2, 2, 4, 6)) * 2


def logits_of(*probs):
  return jnp.log(jnp.array([[probs]]))


def test_hand_derived_constants():
  teacher, student = logits_of(0.5, 0.5), logits_of(0.25, 0.75)
  kl = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
  np.testing.assert_allclose(losses.forward_kl(teacher, student), [[kl]], rtol=1e-5)
  kl = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
  np.testing.assert_allclose(losses.reverse_kl(teacher, student), [[kl]], rtol=1e-5)
  np.testing.assert_allclose(distributions.entropy(teacher), [[math.log(2)]], rtol=1e-6)
  tokens = jnp.array([[0]])
  np.testing.assert_allclose(losses.taken_log_probs(student, tokens), [[math.log(0.25)]], rtol=1e-6)
  np.testing.assert_allclose(losses.cross_entropy(student, tokens), [[math.log(4)]], rtol=1e-6)
  smoothed = 0.8 * math.log(4) + 0.2 * (math.log(4) + math.log(4 / 3)) / 2
  np.testing.assert_allclose(
      losses.cross_entropy(student, tokens, label_smoothing=0.2), [[smoothed]], rtol=1e-6
  )
  gap = distributions.log_prob_gap(logits_of(0.7, 0.2, 0.1), logits_of(0.2, 0.5, 0.3))
  np.testing.assert_allclose(gap, [[math.log(3.5)]], rtol=1e-6)
  # Disjoint distributions: half of log 2 from each side, whatever else.
  apart = losses.generalized_jsd(jnp.array([[[0.0, -1e9]]]), jnp.array([[[-1e9, 0.0]]]), beta=0.5)
  np.testing.assert_allclose(apart, [[math.log(2)]], rtol=1e-6)


def test_matches_float64(pair):
  teacher, student = pair
  p, q = probs_of(teacher), probs_of(student)
  check = dict(rtol=2e-5, atol=1e-6)
  np.testing.assert_allclose(
      losses.forward_kl(teacher, student), np.sum(p * np.log(p / q), -1), **check
  )
  np.testing.assert_allclose(
      losses.reverse_kl(teacher, student), np.sum(q * np.log(q / p), -1), **check
  )
  np.testing.assert_allclose(distributions.entropy(student), -np.sum(q * np.log(q), -1), **check)
  for beta in (0.1, 0.5, 0.8):
    m = beta * p + (1 - beta) * q
    want = beta * np.sum(p * np.log(p / m), -1) + (1 - beta) * np.sum(q * np.log(q / m), -1)
    got = losses.generalized_jsd(teacher, student, beta=beta)
    np.testing.assert_allclose(got, want, **check)
  tokens = np.random.default_rng(1).integers(0, 6, size=(2, 4))
  taken = np.log(np.take_along_axis(q, tokens[..., None], -1)[..., 0])
  np.testing.assert_allclose(losses.taken_log_probs(student, tokens), taken, **check)
  smoothed = -0.9 * taken - 0.1 * np.mean(np.log(q), -1)
  got = losses.cross_entropy(student, tokens, label_smoothing=0.1)
  np.testing.assert_allclose(got, smoothed, **check)
  gap = np.log(p.max(-1)) - np.log(np.take_along_axis(p, q.argmax(-1)[..., None], -1)[..., 0])
  np.testing.assert_allclose(distributions.log_prob_gap(teacher, student), gap, **check)


def test_jsd_approaches_both_directions(pair):
  teacher, student = pair * 0.3
  small = 1e-3
  near_zero = losses.generalized_jsd(teacher, student, beta=small) / small
  np.testing.assert_allclose(near_zero, losses.forward_kl(teacher, student), rtol=2e-2)
  near_one = losses.generalized_jsd(teacher, student, beta=1 - small) / small
  np.testing.assert_allclose(near_one, losses.reverse_kl(teacher, student), rtol=2e-2)
  half = losses.generalized_jsd(teacher, student, beta=0.5)
  np.testing.assert_allclose(half, losses.generalized_jsd(student, teacher, beta=0.5), rtol=1e-5)


def test_gap_is_zero_exactly_where_the_choices_agree(pair):
  teacher, student = pair
  gap = np.asarray(distributions.log_prob_gap(teacher, student))
  np.testing.assert_array_equal(gap == 0, teacher.argmax(-1) == student.argmax(-1))
  assert np.all(gap >= 0) and np.any(gap > 0)


FUNCTIONS = {
    "forward_kl": losses.forward_kl,
    "reverse_kl": losses.reverse_kl,
    "generalized_jsd": lambda t, s: losses.generalized_jsd(t, s, beta=0.3),
    "log_prob_gap": distributions.log_prob_gap,
    "entropy": lambda t, s: distributions.entropy(s),
    "taken_log_probs": lambda t, s: losses.taken_log_probs(s, np.full((2, 4), 2)),
    "cross_entropy": lambda t, s: losses.cross_entropy(s, np.full((2, 4), 2), label_smoothing=0.1),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_masked_vocabulary_entry_is_as_if_absent(name, pair):
  fn = FUNCTIONS[name]
  mask = np.arange(6) == 4
  fill = np.where(mask, MASKED_LOGIT, pair).astype(np.float32)
  without = np.delete(pair, 4, axis=-1).astype(np.float32)
  grad = jax.jit(jax.value_and_grad(lambda t, s: jnp.sum(fn(t, s)), argnums=(0, 1)))
  value, grads = grad(jnp.asarray(fill[0]), jnp.asarray(fill[1]))
  want, want_grads = grad(jnp.asarray(without[0]), jnp.asarray(without[1]))
  np.testing.assert_allclose(value, want, rtol=1e-5)
  for got, slim in zip(grads, want_grads, strict=True):
    np.testing.assert_array_equal(got[..., 4], 0.0)
    np.testing.assert_allclose(np.delete(got, 4, axis=-1), slim, atol=1e-6)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_extremes_stay_finite(name):
  """One-hot distributions that agree (row 0) or not (row 1), at the edges of float32."""
  fn = FUNCTIONS[name]
  grad = jax.jit(jax.value_and_grad(lambda t, s: jnp.sum(fn(t, s)), argnums=(0, 1)))
  for size in (1e4, 3e38, np.inf):
    check_extreme(grad, size)


def check_extreme(grad, size):
  low = -size if np.isinf(size) else MASKED_LOGIT
  high = 0.0 if np.isinf(size) else size
  teacher = np.full((2, 4, 6), low, np.float32)
  student = teacher.copy()
  teacher[:, :, 2] = high
  student[0, :, 2] = student[1, :, 2 if np.isinf(size) else 3] = high
  value, grads = grad(teacher, student)
  if size < 1e38:
    assert np.isfinite(value)
  assert not np.isnan(value)
  for part in grads:
    assert np.all(np.isfinite(part))


def test_reverse_kl_gradient_is_the_policy_gradient(pair):
  """∇KL(π‖μ) = Σ_v π_v (log π_v − log μ_v − KL) e_v."""
  teacher, student = pair.astype(np.float32)
  p, q = probs_of(teacher), probs_of(student)
  kl = np.sum(q * np.log(q / p), -1, keepdims=True)
  want = q * (np.log(q / p) - kl)
  got = jax.jit(jax.grad(lambda s: jnp.sum(losses.reverse_kl(teacher, s))))(student)
  np.testing.assert_allclose(got, want, atol=2e-5)


def test_forward_kl_and_cross_entropy_gradients_are_differences_of_probabilities(pair):
  teacher, student = pair.astype(np.float32)
  got = jax.jit(jax.grad(lambda s: jnp.sum(losses.forward_kl(teacher, s))))(student)
  np.testing.assert_allclose(got, probs_of(student) - probs_of(teacher), atol=1e-5)
  tokens = np.ones((2, 4), int)
  got = jax.jit(jax.grad(lambda s: jnp.sum(losses.cross_entropy(s, tokens))))(student)
  np.testing.assert_allclose(got, probs_of(student) - np.eye(6)[tokens], atol=1e-5)


def test_impossible_values_are_refused(pair):
  teacher, student = pair
  with pytest.raises(ValueError, match="beta=1"):
    losses.generalized_jsd(teacher, student, beta=1.0)
  with pytest.raises(ValueError, match=r"label_smoothing=1\.5"):
    losses.cross_entropy(student, np.zeros((2, 4), int), label_smoothing=1.5)
