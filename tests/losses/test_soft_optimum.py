"""The soft-Bellman optimum of a small decision process is where path consistency holds."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdtw_jax import losses

from . import oracle

# Compiled once per segment length: most of this file's time would go there.
residuals = partial(jax.jit, static_argnames="segment_length")(losses.path_consistency_error)

SETTINGS = [
    (alpha, gamma, d)
    for alpha, gamma in [(1.0, 1.0), (0.5, 1.0), (0.7, 0.9), (2.0, 0.5)]
    for d in (1, 2, 3, None)
]
GATE_ALPHA, DUAL = 0.4, 0.8


def terms_on_paths(problem, paths, log_policy, alpha):
  """Rewards and entropy terms of paths without asks."""
  rewards = np.log(problem.teacher)[paths.states, paths.tokens]
  return rewards, alpha * log_policy[paths.states, paths.tokens]


def ended(paths):
  return np.ones(len(paths.mask), bool)


@pytest.mark.parametrize(("alpha", "gamma", "d"), SETTINGS)
def test_optimum_is_consistent_on_every_path(alpha, gamma, d):
  problem = oracle.make_problem(0)
  paths = oracle.all_paths(problem, asking=False)
  optimum = oracle.solve(problem, alpha, gamma)
  rewards, entropies = terms_on_paths(problem, paths, optimum.log_policy, alpha)
  errors, valid = residuals(
      optimum.values[paths.states],
      rewards,
      entropies,
      paths.mask,
      ended(paths),
      gamma=gamma,
      segment_length=d,
  )
  np.testing.assert_array_equal(valid, paths.mask)
  np.testing.assert_allclose(errors, 0.0, atol=1e-5)


@pytest.mark.parametrize(("alpha", "gamma", "d"), SETTINGS)
def test_any_perturbation_breaks_consistency(alpha, gamma, d):
  problem = oracle.make_problem(1)
  paths = oracle.all_paths(problem, asking=False)
  optimum = oracle.solve(problem, alpha, gamma)

  def worst(values, log_policy):
    rewards, entropies = terms_on_paths(problem, paths, log_policy, alpha)
    errors, _ = residuals(
        values[paths.states],
        rewards,
        entropies,
        paths.mask,
        ended(paths),
        gamma=gamma,
        segment_length=d,
    )
    return np.max(np.abs(errors))

  assert worst(optimum.values, optimum.log_policy) < 1e-5
  for n in range(len(problem.states)):
    values = optimum.values.copy()
    values[n] += 0.05
    assert worst(values, optimum.log_policy) > 1e-3
    for token in range(3):
      logits = optimum.log_policy.copy()
      logits[n, token] += 0.1
      policy = logits - np.log(np.sum(np.exp(logits), axis=1, keepdims=True))
      assert worst(optimum.values, policy) > 1e-3


def test_at_unit_temperature_the_optimum_is_the_teacher():
  problem = oracle.make_problem(2)
  optimum = oracle.solve(problem, 1.0, 1.0)
  np.testing.assert_allclose(optimum.values, 0.0, atol=1e-12)
  np.testing.assert_allclose(np.exp(optimum.log_policy), problem.teacher, atol=1e-12)
  paths = oracle.all_paths(problem, asking=False)
  rewards, entropies = terms_on_paths(problem, paths, np.log(problem.teacher), 1.0)
  for d in (1, 2, None):
    errors, _ = residuals(
        np.zeros(paths.mask.shape),
        rewards,
        entropies,
        paths.mask,
        ended(paths),
        gamma=1.0,
        segment_length=d,
    )
    np.testing.assert_array_equal(errors, 0.0)


@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_on_policy_gradient_is_reinforce(alpha):
  """∇ E[½ C_0²] = −α E[(return − V(s_0)) ∇ log π], the policy gradient of the return."""
  problem = oracle.make_problem(3)
  paths = oracle.all_paths(problem, asking=False)
  logits = np.random.default_rng(0).normal(size=problem.teacher.shape)
  start_value = 0.37  # any baseline
  rewards = np.log(problem.teacher)[paths.states, paths.tokens]

  def log_policy_of(logits):
    return logits - np.log(np.sum(np.exp(logits), axis=1, keepdims=True))

  def path_consistency(logits):
    log_policy = jax.nn.log_softmax(logits)
    entropies = alpha * log_policy[paths.states, paths.tokens]
    errors, valid = residuals(
        jnp.full(paths.mask.shape, start_value),
        rewards,
        entropies,
        paths.mask,
        ended(paths),
        gamma=1.0,
        segment_length=None,
    )
    per_start = losses.path_consistency_loss(errors, valid)
    return jnp.sum(probs * per_start[:, 0])

  log_policy = log_policy_of(logits)
  probs = oracle.path_probs(problem, paths, log_policy)
  got = jax.grad(path_consistency)(jnp.asarray(logits, jnp.float32))

  taken = log_policy[paths.states, paths.tokens]
  returns = np.sum(np.where(paths.mask, rewards - alpha * taken, 0.0), axis=1)
  reinforce = np.zeros_like(logits)
  for path in range(len(probs)):
    for t in np.flatnonzero(paths.mask[path]):
      state, token = paths.states[path, t], paths.tokens[path, t]
      score = np.eye(3)[token] - np.exp(log_policy[state])
      reinforce[state] += probs[path] * (returns[path] - start_value) * score
  np.testing.assert_allclose(got, -alpha * reinforce, atol=1e-5)

  def expected_return(logits):
    never = np.full(len(problem.states), -1e4)
    return oracle.evaluate(problem, log_policy_of(logits), never, alpha, 1.0, 0.0, 0.0)[0]

  step = 1e-6
  for n, token in np.ndindex(*logits.shape):
    bump = np.zeros_like(logits)
    bump[n, token] = step
    slope = (expected_return(logits + bump) - expected_return(logits - bump)) / (2 * step)
    np.testing.assert_allclose(got[n, token], -alpha * slope, atol=1e-5)


def asking_errors(problem, paths, params, alpha, gamma, d, tell=True):
  """Residuals on paths with asks, as a function of tabular parameters."""
  values, logits, gate_logits = params
  log_policy = jax.nn.log_softmax(logits)
  entropy = -np.sum(problem.teacher * np.log(problem.teacher), axis=1)
  rewards = losses.lagrangian_rewards(
      np.log(problem.teacher)[paths.states, paths.tokens],
      paths.asked,
      np.full(len(paths.mask), DUAL),
      entropy[paths.states],
      alpha=alpha,
  )
  entropies = losses.gated_entropies(
      log_policy[paths.states, paths.tokens],
      gate_logits[paths.states],
      paths.asked,
      alpha=alpha,
      gate_alpha=GATE_ALPHA,
  )
  return residuals(
      values[paths.states],
      rewards,
      entropies,
      paths.mask,
      ended(paths),
      gamma=gamma,
      segment_length=d,
      asked=paths.asked if tell else None,
  )


def behaviour_probs(problem, paths):
  """Probabilities of the paths under some policy that is neither the optimum nor the teacher."""
  rng = np.random.default_rng(5)
  policy = np.log(rng.dirichlet(np.ones(3), size=len(problem.states)))
  return oracle.path_probs(problem, paths, policy, rng.normal(size=len(problem.states)))


def optimum_params(problem, alpha, gamma):
  optimum = oracle.solve(problem, alpha, gamma, dual=DUAL, gate_alpha=GATE_ALPHA)
  return tuple(jnp.asarray(part, jnp.float32) for part in optimum)


@pytest.mark.parametrize(("alpha", "gamma", "d"), SETTINGS)
def test_with_asks_the_optimum_is_consistent_in_expectation(alpha, gamma, d):
  problem = oracle.make_problem(4)
  paths = oracle.all_paths(problem, asking=True)
  params = optimum_params(problem, alpha, gamma)
  errors, _ = asking_errors(problem, paths, params, alpha, gamma, d)
  probs = behaviour_probs(problem, paths)
  for n in range(len(problem.states)):
    for asked in (False, True):
      here = paths.mask & (paths.states == n) & (paths.asked == asked)
      assert abs(np.sum(probs[:, None] * here * errors)) < 1e-5
  # One path by itself is consistent only if it holds no ask before its last token.
  assert np.max(np.abs(errors[~paths.asked.any(axis=1)])) < 1e-5
  assert np.max(np.abs(errors)) > 0.02


@pytest.mark.parametrize(("alpha", "gamma", "d"), SETTINGS)
def test_expected_gradient_vanishes_at_the_optimum_with_asks(alpha, gamma, d):
  problem = oracle.make_problem(4)
  paths = oracle.all_paths(problem, asking=True)
  probs = behaviour_probs(problem, paths)

  def gradient_size(tell):
    def loss(params):
      errors, valid = asking_errors(problem, paths, params, alpha, gamma, d, tell)
      return jnp.sum(probs[:, None] * losses.path_consistency_loss(errors, valid))

    parts = jax.grad(loss)(optimum_params(problem, alpha, gamma))
    return max(float(jnp.max(jnp.abs(part))) for part in parts)

  assert gradient_size(tell=True) < 2e-6
  # Without the stop at asks the very optimum is pushed away from: the double-sampling bias.
  assert gradient_size(tell=False) > 1e-3


@pytest.mark.parametrize(("alpha", "gamma"), [(1.0, 1.0), (0.5, 0.9), (2.0, 1.0)])
def test_logsumexp_values_of_the_optimal_logits_are_the_optimal_values(alpha, gamma):
  problem = oracle.make_problem(6)
  optimum = oracle.solve(problem, alpha, gamma)
  after = np.stack([oracle.next_values(problem, optimum.values, s) for s in problem.states])
  actions = np.log(problem.teacher) + gamma * after
  got = losses.logsumexp_values((actions / alpha)[None].astype(np.float32), alpha=alpha)
  np.testing.assert_allclose(got[0], optimum.values, atol=1e-6)

  asking = oracle.solve(problem, alpha, gamma, dual=DUAL, gate_alpha=GATE_ALPHA)
  after = np.stack([oracle.next_values(problem, asking.values, s) for s in problem.states])
  logits = ((np.log(problem.teacher) + gamma * after) / alpha)[None].astype(np.float32)
  got = losses.logsumexp_values(
      logits, asking.gate_logits[None].astype(np.float32), alpha=alpha, gate_alpha=GATE_ALPHA
  )
  np.testing.assert_allclose(got[0], asking.values, atol=1e-6)
