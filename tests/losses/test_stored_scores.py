"""μ from a few stored probabilities: divergences over the stored tokens and "none of them"."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdtw_jax import losses
from kdtw_jax.base import MASKED_LOGIT

V, TAU = 12, 3
DIVERGENCES = {
    "forward_kl": lambda p, q: np.sum(p * (np.log(p) - np.log(q))),
    "reverse_kl": lambda p, q: np.sum(q * (np.log(q) - np.log(p))),
    "generalized_jsd": lambda p, q: 0.5
    * (np.sum(p * np.log(2 * p / (p + q))) + np.sum(q * np.log(2 * q / (p + q)))),
}
OURS = {**{n: getattr(losses, n) for n in ("forward_kl", "reverse_kl")}} | {
    "generalized_jsd": lambda mu, pi: losses.generalized_jsd(mu, pi, beta=0.5)
}


def case(top, seed=0, rows=3, length=4):
  """(teacher's log-probs, student's logits, tokens, stored scores), `<τ>` masked in both."""
  rng = np.random.default_rng(seed)
  shape = (rows, length, V)
  logits = [rng.normal(size=shape).astype(np.float32) * scale for scale in (2.0, 1.5)]
  for each in logits:
    each[..., TAU] = MASKED_LOGIT
  teacher = np.asarray(jax.nn.log_softmax(logits[0], axis=-1))
  tokens = rng.choice([v for v in range(V) if v != TAU], (rows, length)).astype(np.int32)
  ids = np.argsort(-teacher, axis=-1)[..., :top]
  stored = (
      np.take_along_axis(teacher, tokens[..., None], -1)[..., 0],
      ids.astype(np.uint16),
      np.maximum(np.take_along_axis(teacher, ids, -1), -6e4).astype(np.float16),
  )
  return teacher, logits[1], tokens, stored


def coarse(log_probs, kept):
  """Probabilities of the tokens of a set, and of all others together."""
  probs = np.exp(log_probs.astype(np.float64))
  return np.array([*probs[kept], 1.0 - probs[kept].sum()])


@pytest.mark.parametrize("top", [0, 1, 5])
@pytest.mark.parametrize("name", DIVERGENCES)
def test_a_divergence_is_over_the_stored_tokens_and_the_rest(name, top):
  teacher, student, tokens, stored = case(top)
  found = OURS[name](losses.completed_logits(*stored, tokens, student), student)
  whole = OURS[name](teacher, student)
  student_log_probs = np.asarray(jax.nn.log_softmax(student, axis=-1))
  for place in np.ndindex(tokens.shape):
    kept = sorted({*stored[1][place].tolist(), int(tokens[place])})
    sides = (coarse(x[place], kept) for x in (teacher, student_log_probs))
    assert found[place] == pytest.approx(DIVERGENCES[name](*sides), rel=2e-3, abs=2e-3)
  assert np.all(found <= whole + 2e-3) and np.any(found < whole - 1e-2)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_all_probabilities_make_the_whole_distribution(name):
  teacher, student, tokens, stored = case(top=V)
  found = OURS[name](losses.completed_logits(*stored, tokens, student), student)
  np.testing.assert_allclose(found, OURS[name](teacher, student), atol=2e-3)


def test_the_gradient_is_that_of_the_coarser_divergence():
  _, student, tokens, stored = case(top=2)
  kept = np.zeros(student.shape, bool)
  np.put_along_axis(kept, stored[1].astype(int), True, -1)
  np.put_along_axis(kept, tokens[..., None], True, -1)

  def ours(student):
    return jnp.sum(losses.forward_kl(losses.completed_logits(*stored, tokens, student), student))

  mu = jax.nn.softmax(losses.completed_logits(*stored, tokens, student), axis=-1)

  def direct(student):
    log_pi = jax.nn.log_softmax(student, axis=-1)
    rest = jax.nn.logsumexp(jnp.where(kept, MASKED_LOGIT, log_pi), axis=-1)
    of_kept = jnp.sum(jnp.where(kept, mu * log_pi, 0.0))
    return -of_kept - jnp.sum(jnp.sum(jnp.where(kept, 0.0, mu), axis=-1) * rest)

  np.testing.assert_allclose(jax.grad(ours)(student), jax.grad(direct)(student), atol=1e-5)


def test_a_student_that_equals_the_teacher_is_at_zero():
  teacher, _, tokens, stored = case(top=3)
  for fn in OURS.values():
    assert np.abs(fn(losses.completed_logits(*stored, tokens, teacher), teacher)).max() < 2e-3


def test_padding_and_masked_tokens_give_no_nan():
  """Padding scores 0 everywhere, which no distribution does."""
  _, student, _, _ = case(top=2)
  tokens, ids = jnp.zeros((3, 4), jnp.int32), jnp.zeros((3, 4, 2), jnp.int32)
  scores = jnp.zeros((3, 4)), ids, jnp.zeros((3, 4, 2), jnp.float16)

  def total(student):
    logits = losses.completed_logits(*scores, tokens, student)
    return jnp.sum(losses.forward_kl(logits, student) + losses.reverse_kl(logits, student))

  value, gradient = jax.value_and_grad(total)(student)
  assert np.isfinite(value) and np.isfinite(gradient).all()
  assert np.all(losses.completed_logits(*scores, tokens, student)[..., TAU] < 0.5 * MASKED_LOGIT)
