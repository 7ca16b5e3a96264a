"""The zoo of distillation against numpy, and policy gradients against enumeration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdtw_jax import losses
from kdtw_jax.base import MASKED_LOGIT

from . import oracle

LOGITS = np.random.default_rng(0).normal(size=(2, 2, 4, 6)) * 2
CLOSE = dict(rtol=2e-5, atol=1e-6)


def softmax(logits):
  """Float64 softmax."""
  powers = np.exp(logits - np.max(logits, axis=-1, keepdims=True))
  return powers / powers.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("skew", [0.1, 0.5, 0.9])
def test_skew_divergences_match_float64(skew):
  teacher, student = LOGITS
  p, q = softmax(teacher), softmax(student)
  mixture = skew * p + (1 - skew) * q
  want = np.sum(p * np.log(p / mixture), axis=-1)
  np.testing.assert_allclose(losses.skew_kl(teacher, student, skew=skew), want, **CLOSE)
  mixture = (1 - skew) * p + skew * q
  want = np.sum(q * np.log(q / mixture), axis=-1)
  np.testing.assert_allclose(losses.skew_reverse_kl(teacher, student, skew=skew), want, **CLOSE)


@pytest.mark.parametrize("loss", [losses.skew_kl, losses.skew_reverse_kl])
def test_skew_divergences_are_bounded_where_nothing_is_shared(loss):
  apart = jnp.array([[[0.0, MASKED_LOGIT]]]), jnp.array([[[MASKED_LOGIT, 0.0]]])
  value, grads = jax.value_and_grad(lambda s: loss(apart[0], s, skew=0.1)[0, 0])(apart[1])
  np.testing.assert_allclose(value, -np.log(0.1), rtol=1e-6)
  assert np.all(np.isfinite(grads))
  with pytest.raises(ValueError, match="skew=1.0: must lie between 0 and 1"):
    loss(*apart, skew=1.0)


def test_the_teachers_choice_is_its_argmax():
  teacher, student = LOGITS
  best = np.argmax(teacher, axis=-1)[..., None]
  want = -np.log(np.take_along_axis(softmax(student), best, axis=-1)[..., 0])
  np.testing.assert_allclose(losses.teacher_choice(teacher, student), want, **CLOSE)


@pytest.mark.parametrize("alpha", [1.0, 0.3])
def test_expected_rewards_match_float64(alpha):
  teacher, student = LOGITS
  p, q = softmax(teacher), softmax(student)
  for floor in (-100.0, -2.0):
    want = np.sum(q * (np.maximum(np.log(p), floor) - alpha * np.log(q)), axis=-1)
    got = losses.expected_rewards(teacher, student, alpha=alpha, floor=floor)
    np.testing.assert_allclose(got, want, **CLOSE)


class Enumerated:
  """All paths of a small problem under a tabular student, with their probabilities."""

  def __init__(self, seed, length=3):
    self.problem = oracle.make_problem(seed, length=length)
    self.paths = oracle.all_paths(self.problem, asking=False)
    rng = np.random.default_rng(seed)
    self.logits = rng.normal(size=self.problem.teacher.shape)
    self.values = rng.normal(size=len(self.problem.states))
    self.probs = oracle.path_probs(self.problem, self.paths, np.log(softmax(self.logits)))
    self.ended = np.ones(len(self.probs), bool)

  def scores(self, logits):
    """Log π, log μ, KL(π‖μ) along the paths."""
    states, tokens = self.paths.states, self.paths.tokens
    teacher, student = np.log(self.problem.teacher)[states], jnp.asarray(logits)[states]
    return (
        losses.taken_log_probs(student, tokens),
        losses.taken_log_probs(teacher, tokens),
        losses.reverse_kl(teacher, student),
    )

  def slopes(self, fn):
    """Central differences of a float64 function of the logits."""
    step, found = 1e-5, np.zeros_like(self.logits)
    for place in np.ndindex(*self.logits.shape):
      bump = np.zeros_like(self.logits)
      bump[place] = step
      found[place] = (fn(self.logits + bump) - fn(self.logits - bump)) / (2 * step)
    return found


def consistency_losses(case, logits, alpha, gamma, d, *, sampled=False, average=False):
  """Losses of each path's tokens [P, T], with constant values: the gradient is the policy's."""
  states, paths = case.paths.states, case.paths
  log_probs, teacher_log_probs, _ = case.scores(logits)
  immediate = losses.expected_rewards(
      np.log(case.problem.teacher)[states], logits[states], alpha=alpha, floor=-100.0
  )
  rewards, entropies = jax.lax.stop_gradient(immediate), jnp.zeros_like(log_probs)
  if sampled:
    rewards, entropies = teacher_log_probs, alpha * log_probs
  if average:
    weights = paths.mask * case.probs[:, None]
    rewards -= losses.average_reward(rewards - entropies, weights)
  errors, valid = losses.path_consistency_error(
      jnp.asarray(case.values, jnp.float32)[states],
      rewards,
      entropies,
      paths.mask,
      case.ended,
      gamma=gamma,
      segment_length=d,
  )
  if sampled:
    return losses.path_consistency_loss(errors, valid)
  return losses.expected_consistency_loss(errors, valid, immediate, log_probs, alpha=alpha)


def expected_loss(case, logits, alpha, gamma, d):
  """Each path's loss [P]."""
  return jnp.sum(consistency_losses(case, logits, alpha, gamma, d), axis=1)


def never(problem):
  """Log-odds of a gate that never asks."""
  return np.full(len(problem.states), -1e4)


@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_the_expected_gradient_is_the_policy_gradient(alpha):
  """Whatever V is: at γ = 1, to the end, −α ∇ E[Σ (log μ − α log π)], exactly."""
  case = Enumerated(3)
  got = jax.grad(lambda z: jnp.sum(case.probs * expected_loss(case, z, alpha, 1.0, None)))(
      jnp.asarray(case.logits, jnp.float32)
  )

  def value(logits):
    log_policy = np.log(softmax(logits))
    args = (never(case.problem), alpha, 1.0, 0.0, 0.0)
    return oracle.evaluate(case.problem, log_policy, *args)[0]

  np.testing.assert_allclose(got, -alpha * case.slopes(value), atol=2e-5)


@pytest.mark.parametrize("sampled", [False, True])
def test_on_average_rewards_it_is_the_gradient_of_what_a_token_brings(sampled):
  """−α E[n] ∇ (E[Σ (log μ − α log π)] / E[n]); the sampled loss is that of whole paths."""
  case, alpha = Enumerated(9), 0.5

  def weighted(logits):
    found = consistency_losses(case, logits, alpha, 1.0, None, sampled=sampled, average=True)
    return jnp.sum(case.probs * (found[:, 0] if sampled else jnp.sum(found, axis=1)))

  def per_token(logits):
    log_policy = np.log(softmax(logits))
    args = (never(case.problem), alpha, 1.0, 0.0, 0.0)
    total = oracle.evaluate(case.problem, log_policy, *args)[0]
    return total / expected_length(oracle.path_probs(case.problem, case.paths, log_policy))

  def expected_length(probs):
    return probs @ np.sum(case.paths.mask, axis=1)

  got = jax.grad(weighted)(jnp.asarray(case.logits, jnp.float32))
  want = -alpha * expected_length(case.probs) * case.slopes(per_token)
  np.testing.assert_allclose(got, want, atol=2e-5)
  assert np.max(np.abs(want)) > 0.01


def test_at_no_discount_it_is_reverse_kl_on_own_tokens():
  case = Enumerated(4)
  values = np.zeros(len(case.problem.states))

  def expected(logits):
    return jnp.sum(case.probs * expected_loss(case, logits, 1.0, 0.0, None))

  def on_policy(logits):
    return jnp.sum(case.probs[:, None] * jnp.where(case.paths.mask, case.scores(logits)[2], 0.0))

  case.values = values  # any: a state's own factor of ∇ log π has mean 0
  logits = jnp.asarray(case.logits, jnp.float32)
  np.testing.assert_allclose(jax.grad(expected)(logits), jax.grad(on_policy)(logits), atol=1e-5)


@pytest.mark.parametrize("d, times", [(1, [1, 1, 1]), (2, [1, 2, 2]), (None, [1, 2, 3])])
def test_the_expected_gradient_varies_less_from_path_to_path(d, times):
  """Sampled terms credit token t in each segment that holds it, expected ones once."""
  case = Enumerated(5)
  log_policy = np.log(softmax(case.logits))
  case.values = oracle.evaluate(case.problem, log_policy, never(case.problem), 1.0, 1.0, 0.0, 0.0)
  logits = jnp.asarray(case.logits, jnp.float32)

  def spread(weights, sampled):
    def loss(logits):
      per_token = consistency_losses(case, logits, 1.0, 1.0, d, sampled=sampled)
      return per_token @ jnp.asarray(weights, jnp.float32)

    grads = np.asarray(jax.jacrev(loss)(logits)).reshape(len(case.probs), -1)
    mean = case.probs @ grads
    return mean, float(case.probs @ np.sum((grads - mean) ** 2, axis=1))

  sampled_mean, sampled = spread([1, 1, 1], True)
  expected_mean, expected = spread(times, False)
  np.testing.assert_allclose(sampled_mean, expected_mean, atol=1e-5)
  assert expected < 0.5 * sampled


def test_values_are_fitted_by_the_same_residual():
  case = Enumerated(6)
  errors = jnp.asarray(case.values[case.paths.states], jnp.float32)
  immediate = log_probs = jnp.zeros_like(errors)

  def loss(errors):
    found = losses.expected_consistency_loss(
        errors, case.paths.mask, immediate, log_probs, alpha=0.7, huber=1.0
    )
    return jnp.sum(found)

  want = np.where(case.paths.mask, np.clip(errors, -1, 1), 0.0)
  np.testing.assert_allclose(jax.grad(loss)(errors), want, atol=1e-6)


def minillm_loss(case, logits, mixing):
  log_probs, teacher_log_probs, reverse_kl = case.scores(logits)
  written = losses.Written(log_probs, teacher_log_probs, reverse_kl, case.paths.mask, mixing)
  return losses.minillm(written)


@pytest.mark.parametrize("mixing", [0.0, 0.2])
def test_minillm_matches_its_equations(mixing):
  case = Enumerated(7)
  states, tokens, mask = case.paths.states, case.paths.tokens, case.paths.mask
  q, p = softmax(case.logits), case.problem.teacher
  got = np.asarray(minillm_loss(case, case.logits.astype(np.float32), mixing))
  grads = jax.jacrev(lambda z: jnp.sum(minillm_loss(case, z, mixing), axis=1))(
      jnp.asarray(case.logits, jnp.float32)
  )
  for n in range(len(mask)):
    length = int(mask[n].sum())
    taken = [(q[states[n, t], tokens[n, t]], p[states[n, t], tokens[n, t]]) for t in range(length)]
    want_grad = np.zeros_like(case.logits)
    for t, (own, teacher) in enumerate(taken):
      weight = own / ((1 - mixing) * own + mixing * teacher)
      rest = [np.log(a / b) for a, b in taken[t + 1 :]]
      mean_rest = np.mean(rest) if rest else 0.0
      row = states[n, t]
      ratio = np.log(q[row] / p[row])
      kl = q[row] @ ratio
      np.testing.assert_allclose(got[n, t], weight * kl, rtol=2e-4, atol=1e-5)
      want_grad[row] += weight * q[row] * (ratio - kl)  # of the one step, exactly
      want_grad[row] += weight * mean_rest * (np.eye(3)[tokens[n, t]] - q[row])
    np.testing.assert_allclose(grads[n], want_grad, atol=2e-5)
    np.testing.assert_array_equal(got[n, length:], 0.0)


def test_minillm_of_two_tokens_is_the_gradient_of_the_sequences_reverse_kl():
  """With one token left, its length normalisation changes nothing."""
  case = Enumerated(8, length=2)
  got = jax.grad(lambda z: jnp.sum(case.probs[:, None] * minillm_loss(case, z, 0.0)))(
      jnp.asarray(case.logits, jnp.float32)
  )

  def sequence_kl(logits):
    log_policy = np.log(softmax(logits))
    args = (never(case.problem), 1.0, 1.0, 0.0, 0.0)
    return -oracle.evaluate(case.problem, log_policy, *args)[0]

  np.testing.assert_allclose(got, case.slopes(sequence_kl), atol=2e-5)
