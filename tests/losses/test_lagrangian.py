"""Rewards, entropy terms, duals, costs and gate targets of asking under a budget."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdtw_jax import losses

from . import oracle

# Compiled whole: operation by operation, compiling would take most of this file's time.
lagrangian_rewards = jax.jit(losses.lagrangian_rewards)
gated_entropies = jax.jit(losses.gated_entropies)
interpolate_duals = jax.jit(losses.interpolate_duals)
hat_weights = jax.jit(losses.hat_weights)
dual_ascent = jax.jit(losses.dual_ascent)
initial_duals = jax.jit(losses.initial_duals)
cost_consistency_error = jax.jit(losses.cost_consistency_error)
gate_targets = jax.jit(losses.gate_targets)
gate_cross_entropy = jax.jit(losses.gate_cross_entropy)


def test_rewards_hand_derived():
  log_probs = jnp.array([[-1.0, -2.0, -30.0]])
  asked = jnp.array([[False, True, False]])
  duals = jnp.array([3.0])
  entropies = jnp.array([[9.0, 0.8, 9.0]])
  reward = lagrangian_rewards(log_probs, asked, duals, entropies, alpha=1.0)
  np.testing.assert_array_equal(reward, [[-1.0, -3.0, -30.0]])
  reward = lagrangian_rewards(log_probs, asked, duals, entropies, alpha=0.5)
  np.testing.assert_allclose(reward, [[-1.0, -3.4, -30.0]], rtol=1e-6)


def test_rewards_carry_no_gradient():
  def total(log_probs, duals, entropies):
    asked = jnp.array([[False, True]])
    return jnp.sum(lagrangian_rewards(log_probs, asked, duals, entropies, alpha=0.5))

  log_probs = jnp.array([[-1.0, -2.0]])
  for grad in jax.grad(total, argnums=(0, 1, 2))(log_probs, jnp.array([1.0]), -log_probs):
    np.testing.assert_array_equal(grad, 0.0)


def test_highest_clip_floor():
  assert losses.highest_clip_floor(1) == -8.0
  floor = losses.highest_clip_floor(8000)
  assert 8000 * math.exp(floor) == pytest.approx(math.exp(-8))


def test_gated_entropies_hand_derived():
  # g = ¾: α log π + α_g log ¼ for the token, α_g log ¾ for the ask.
  gate_logits = jnp.full((1, 2), math.log(3.0))
  got = gated_entropies(
      jnp.array([[-2.0, -5.0]]), gate_logits, jnp.array([[False, True]]), alpha=0.5, gate_alpha=0.2
  )
  want = [[-1.0 + 0.2 * math.log(0.25), 0.2 * math.log(0.75)]]
  np.testing.assert_allclose(got, want, rtol=1e-6)


def test_gated_entropies_at_unit_temperature_are_the_joint_softmax():
  rng = np.random.default_rng(0)
  joint = rng.normal(size=(2, 5, 9)) * 3  # the last entry is <τ>
  log_probs = joint - np.log(np.sum(np.exp(joint), axis=-1, keepdims=True))
  tokens, asked = rng.integers(0, 8, size=(2, 5)), rng.random((2, 5)) < 0.5
  taken = np.where(asked, 8, tokens)[..., None]
  want = np.take_along_axis(log_probs, taken, axis=-1)[..., 0]

  gate_logits = joint[..., 8] - np.log(np.sum(np.exp(joint[..., :8]), axis=-1))
  token_log_probs = jax.jit(losses.taken_log_probs)(joint[..., :8], tokens)
  got = gated_entropies(token_log_probs, gate_logits, asked, alpha=1.0, gate_alpha=1.0)
  np.testing.assert_allclose(got, want, atol=2e-6)


def test_interpolated_duals():
  knots, duals = np.array([0.1, 0.3, 0.5]), np.array([4.0, 2.0, 1.0])
  budgets = np.array([0.0, 0.1, 0.15, 0.2, 0.3, 0.45, 0.5, 0.9])
  got = interpolate_duals(duals, knots, budgets)
  np.testing.assert_allclose(got, [4, 4, 3.5, 3, 2, 1.25, 1, 1], rtol=1e-6)
  np.testing.assert_allclose(np.sum(hat_weights(knots, budgets), axis=1), 1.0, rtol=1e-6)
  one = interpolate_duals(np.array([2.5]), np.array([0.2]), budgets)
  np.testing.assert_array_equal(one, np.full(8, 2.5, np.float32))


def test_dual_ascent_hand_derived():
  # Knot 0 sees row 0 whole (2 asks of 10 tokens against 1) and half of row 1 (1 of 10 against 2):
  # (1 − ½) / (10 + 5). Knot 1 sees half of row 1: −½ / 5. Knot 2 sees nothing.
  args = dict(
      knots=np.array([0.1, 0.3, 0.5]),
      budgets=np.array([0.1, 0.2]),
      asks=np.array([2, 1]),
      lengths=np.array([10, 10]),
  )
  duals = np.array([3.0, 2.0, 1.0])
  got = dual_ascent(duals, **args, learning_rate=3.0, max_dual=20.0)
  np.testing.assert_allclose(got, [3.1, 1.7, 1.0], rtol=1e-6)
  got = dual_ascent(duals, **args, learning_rate=300.0, max_dual=5.0)
  np.testing.assert_allclose(got, [5.0, 0.0, 1.0])


def test_dual_ascent_weighs_tokens_and_ignores_empty_rows():
  knots, duals = np.array([0.2]), np.array([1.0])
  step = dict(learning_rate=1.0, max_dual=9.0)
  # 4 asks in 10 tokens, use 0.4; the mean of row shares would be (1/2 + 3/8)/2 = 0.4375.
  got = dual_ascent(
      duals, knots, np.array([0.2, 0.2, 0.2]), np.array([1, 3, 0]), np.array([2, 8, 0]), **step
  )
  np.testing.assert_allclose(got, [1.2], rtol=1e-6)
  empty = dual_ascent(duals, knots, np.array([0.2]), np.array([0]), np.array([0]), **step)
  np.testing.assert_array_equal(empty, duals)


def test_initial_duals_are_quantiles_of_unmasked_difficulty():
  rng = np.random.default_rng(0)
  difficulties, mask = rng.exponential(size=(4, 30)), rng.random((4, 30)) < 0.7
  knots = np.array([0.0, 0.1, 0.37, 0.5, 1.0])
  got = initial_duals(np.where(mask, difficulties, np.nan), mask, knots)
  np.testing.assert_allclose(got, np.quantile(difficulties[mask], 1 - knots), rtol=1e-5)
  np.testing.assert_array_equal(initial_duals(difficulties - 100, mask, knots), 0.0)
  np.testing.assert_array_equal(initial_duals(difficulties, mask & False, knots), 0.0)


def test_cost_consistency_hand_derived():
  values = jnp.array([[1.5, 1.0, 0.25, 7.0]])
  asked = jnp.array([[True, False, True, True]])
  mask = jnp.array([[True, True, True, False]])
  done, cut = jnp.array([True]), jnp.array([False])
  errors, valid = cost_consistency_error(values, asked, mask, done)
  np.testing.assert_array_equal(errors, [[0.5, 0.0, 0.75, 0.0]])
  np.testing.assert_array_equal(valid, mask)
  errors, valid = cost_consistency_error(values, asked, mask, cut)
  np.testing.assert_array_equal(errors, [[-0.25, -0.75, 0.0, 0.0]])  # to V_C of the last state
  np.testing.assert_array_equal(valid, [[True, True, False, False]])

  def total(values, ended):
    return jnp.sum(cost_consistency_error(values, asked, mask, ended)[0])

  np.testing.assert_array_equal(jax.grad(total)(values, done), [[-1.0, -1.0, -1.0, 0.0]])
  np.testing.assert_array_equal(jax.grad(total)(values, cut), [[-1.0, -1.0, 0.0, 0.0]])


def test_expected_asks_to_come_are_cost_consistent():
  """V_C by enumeration has zero mean residual on the policy's own paths."""
  problem = oracle.make_problem(7)
  policy = oracle.solve(problem, 1.0, 1.0, dual=0.3, gate_alpha=0.5)
  paths = oracle.all_paths(problem, asking=True)
  probs = oracle.path_probs(problem, paths, policy.log_policy, policy.gate_logits)
  asks_left = np.cumsum((paths.asked & paths.mask)[:, ::-1], axis=1)[:, ::-1]
  cost_values = np.zeros(len(problem.states))
  for n in range(len(problem.states)):
    here = probs[:, None] * (paths.mask & (paths.states == n))
    cost_values[n] = np.sum(here * asks_left) / np.sum(here)
  errors, valid = cost_consistency_error(
      cost_values[paths.states], paths.asked, paths.mask, np.ones(len(probs), bool)
  )
  errors, valid = np.asarray(errors), np.asarray(valid)
  for n in range(len(problem.states)):
    here = probs[:, None] * (valid & (paths.states == n))
    assert abs(np.sum(here * errors)) < 1e-6


def test_gate_targets_hand_derived():
  got = gate_targets(
      jnp.array([[2.0, 2.0 + 0.5 * math.log(3.0)], [0.0, 1e9]]),
      jnp.array([2.0, 3.0]),
      gate_alpha=0.5,
  )
  np.testing.assert_allclose(got, [[0.5, 0.75], [1 / (1 + math.exp(6)), 1.0]], rtol=1e-5)


def test_gate_target_is_the_optimal_gate_of_the_last_token():
  """Where nothing follows, the optimal log-odds of asking are (KL(π‖μ) − λ)/α_g for a fixed π."""
  rng = np.random.default_rng(1)
  teacher, student = rng.normal(size=(2, 1, 4, 5))
  difficulty, duals, gate_alpha = jax.jit(losses.reverse_kl)(teacher, student), np.array([0.4]), 0.3
  target = np.asarray(gate_targets(difficulty, duals, gate_alpha=gate_alpha))

  def value(gate):  # of the one-token decision at α = 1
    entropy = gate * np.log(gate) + (1 - gate) * np.log(1 - gate)
    return -gate * duals - (1 - gate) * np.asarray(difficulty) - gate_alpha * entropy

  for other in (target * 0.98, 1 - (1 - target) * 0.98):
    assert np.all(value(target) > value(other))


def test_gate_cross_entropy_hand_derived():
  # q = ½, g = ¾: ½ log(½/¾) + ½ log(½/¼) = ½ log(4/3).
  got = gate_cross_entropy(jnp.full((1, 1), math.log(3.0)), jnp.full((1, 1), 0.5))
  np.testing.assert_allclose(got, [[0.5 * math.log(4 / 3)]], rtol=1e-6)
  targets = jnp.array([[0.0, 0.1, 0.5, 0.999, 1.0]])
  at_target = np.array([[-90.0, -math.log(9), 0.0, math.log(999), 90.0]])
  np.testing.assert_allclose(gate_cross_entropy(at_target, targets), 0.0, atol=1e-6)


def test_gate_cross_entropy_pulls_towards_its_target():
  gate_logits, targets = jnp.array([[-3.0, 0.2, 200.0]]), jnp.array([[0.5, 0.9, 0.0]])
  grad = jax.grad(lambda z: jnp.sum(gate_cross_entropy(z, targets)))(gate_logits)
  np.testing.assert_allclose(grad, jax.nn.sigmoid(gate_logits) - targets, atol=1e-6)


def test_gate_advantage_error_is_least_at_the_entropy_regularised_optimum():
  """Over two equally likely difficulties the best logit is (mean difficulty - price) / alpha_g."""
  difficulties = jnp.asarray([[0.0], [4.0]])
  duals, gate_alpha = jnp.asarray([1.5, 1.5]), 0.5

  def mean_error(logit):
    logits = jnp.full((2, 1), logit)
    return jnp.mean(losses.gate_advantage_error(logits, difficulties, duals, gate_alpha=gate_alpha))

  def objective(logit):  # g (difficulty - price) + alpha_g H(g), in expectation
    g = jax.nn.sigmoid(logit)
    entropy = -g * jax.nn.log_sigmoid(logit) - (1 - g) * jax.nn.log_sigmoid(-logit)
    return g * (jnp.mean(difficulties) - 1.5) + gate_alpha * entropy

  best = (2.0 - 1.5) / gate_alpha
  np.testing.assert_allclose(jax.grad(mean_error)(best), 0.0, atol=1e-6)
  np.testing.assert_allclose(jax.grad(objective)(best), 0.0, atol=1e-6)
  np.testing.assert_allclose(mean_error(best), 0.5 * 2.0**2, rtol=1e-6)  # the variance stays
