"""Training wheels on a small decision process: who is asked for, at which price, how often.

The student ties the logits of state HARD to those of state EASY, which it visits more often and
where the teacher prefers another token: one of the two it cannot match. Everything is trained with
the package's losses on the exact expectation over all paths.
"""

from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kdtw_jax import losses

from . import oracle

EASY, HARD = (1,), (2,)
ALPHA, GATE_ALPHA = 1.0, 0.2
PRICES = np.linspace(2.4, 0.0, 13).astype(np.float32)


class Params(NamedTuple):
  values: jax.Array  # [N]
  logits: jax.Array  # [N, V], of which row HARD is never read
  gate_logits: jax.Array  # [N]


def make_problem():
  problem = oracle.make_problem(0)
  problem.teacher[problem.index[()]] = [0.1, 0.6, 0.3]
  problem.teacher[problem.index[EASY]] = [0.02, 0.9, 0.08]
  problem.teacher[problem.index[HARD]] = [0.02, 0.08, 0.9]
  return problem


PROBLEM = make_problem()
PATHS = oracle.all_paths(PROBLEM, asking=True)
LOG_TEACHER = np.log(PROBLEM.teacher).astype(np.float32)
TEACHER_ENTROPIES = -np.sum(np.exp(LOG_TEACHER) * LOG_TEACHER, axis=1)
NUM_STATES = len(PROBLEM.states)
OWNER = np.arange(NUM_STATES)  # whose logits a state reads
OWNER[PROBLEM.index[HARD]] = PROBLEM.index[EASY]
ENDED = np.ones(len(PATHS.mask), bool)


def terms(params, dual):
  """Rewards and entropy terms of all paths, and their probabilities under the student."""
  taken = jax.nn.log_softmax(params.logits)[OWNER][PATHS.states, PATHS.tokens]
  gate_logits = params.gate_logits[PATHS.states]
  by_teacher = LOG_TEACHER[PATHS.states, PATHS.tokens]
  duals = jnp.broadcast_to(dual, ENDED.shape)
  rewards = losses.lagrangian_rewards(
      by_teacher, PATHS.asked, duals, TEACHER_ENTROPIES[PATHS.states], alpha=ALPHA
  )
  entropies = losses.gated_entropies(
      taken, gate_logits, PATHS.asked, alpha=ALPHA, gate_alpha=GATE_ALPHA
  )
  action = losses.gated_entropies(taken, gate_logits, PATHS.asked, alpha=1.0, gate_alpha=1.0)
  log_probs = action + jnp.where(PATHS.asked, by_teacher, 0.0)
  probs = jnp.exp(jnp.sum(jnp.where(PATHS.mask, log_probs, 0.0), axis=1))
  return rewards, entropies, lax.stop_gradient(probs)


def primal_loss(params, dual):
  """Expectation of ½ C² over on-policy paths, d = 1."""
  rewards, entropies, probs = terms(params, dual)
  errors, valid = losses.path_consistency_error(
      params.values[PATHS.states],
      rewards,
      entropies,
      PATHS.mask,
      ENDED,
      gamma=1.0,
      segment_length=1,
      stop_bootstrap=True,
      asked=PATHS.asked,
  )
  return losses.token_sum(losses.path_consistency_loss(errors, valid) * probs[:, None], valid)


def expected_asks_and_length(params):
  _, _, probs = terms(params, jnp.float32(0.0))
  return probs @ jnp.sum(PATHS.asked, axis=1), probs @ jnp.sum(PATHS.mask, axis=1)


def initial_params():
  return Params(jnp.zeros(NUM_STATES), jnp.zeros((NUM_STATES, 3)), jnp.full(NUM_STATES, -1.0))


def optimizer(steps):
  return optax.adam(optax.cosine_decay_schedule(0.05, steps, alpha=0.01))


def primal_steps(params, state, dual, *, tx, steps):
  def step(carry, _):
    params, state = carry
    updates, state = tx.update(jax.grad(primal_loss)(params, dual), state)
    return (optax.apply_updates(params, updates), state), None

  return lax.scan(step, (params, state), length=steps)[0]


@pytest.fixture(scope="module")
def optima():
  """Trained students, one per price, from high to low."""
  steps = 1500
  tx = optimizer(steps)

  @jax.jit
  @jax.vmap
  def train(dual):
    params = initial_params()
    return primal_steps(params, tx.init(params), dual, tx=tx, steps=steps)[0]

  return jax.tree.map(np.asarray, train(PRICES))


def of_price(optima, k):
  return jax.tree.map(lambda leaf: leaf[k].astype(np.float64), optima)


def objective(params, dual):
  """V(s_0) by dynamic programming in float64."""
  logits = params.logits
  log_policy = (logits - np.log(np.sum(np.exp(logits), axis=1, keepdims=True)))[OWNER]
  return oracle.evaluate(PROBLEM, log_policy, params.gate_logits, ALPHA, 1.0, dual, GATE_ALPHA)[0]


@pytest.mark.parametrize("k", [0, 6, 10])
def test_training_reaches_a_stationary_point_of_the_lagrangian(optima, k):
  params = of_price(optima, k)
  best = objective(params, PRICES[k])
  assert params.values[0] == pytest.approx(best, abs=2e-3)
  step = 1e-4
  for name in ("logits", "gate_logits"):
    for at in np.ndindex(*getattr(params, name).shape):
      bump = np.zeros(getattr(params, name).shape)
      bump[at] = step
      up, down = (
          objective(params._replace(**{name: getattr(params, name) + sign * bump}), PRICES[k])
          for sign in (1, -1)
      )
      assert abs(up - down) / (2 * step) < 2e-3
      assert up + down <= 2 * best + 1e-9  # a maximum, not a saddle, along each axis


def test_the_hard_state_is_asked_for_first_as_the_price_falls(optima):
  asks = optima.gate_logits > 0  # [prices, N]
  assert not asks[0].any()
  first = int(np.argmax(asks.any(axis=1)))
  np.testing.assert_array_equal(np.flatnonzero(asks[first]), [PROBLEM.index[HARD]])
  assert np.all(np.argmax(optima.gate_logits[: first + 1], axis=1) == PROBLEM.index[HARD])
  # Free of the hard state, the tied logits match the teacher where they are still used.
  kl = losses.reverse_kl(LOG_TEACHER[None], optima.logits[:, OWNER][first : first + 1])
  assert kl[0, PROBLEM.index[HARD]] > 1.0 > 0.3 > kl[0, PROBLEM.index[EASY]]


def test_use_is_monotone_in_the_price(optima):
  asks, lengths = jax.jit(jax.vmap(expected_asks_and_length))(optima)
  use = np.asarray(asks / lengths)
  assert np.all(np.diff(use) > 0)  # prices fall along the axis
  assert use[0] < 0.02 and use[-1] > 0.5


def test_dual_ascent_meets_every_budget():
  budgets = np.array([0.05, 0.1, 0.2, 0.3], np.float32)
  rounds, steps = 250, 10
  tx = optimizer(rounds * steps)

  def one_round(carry, _):
    params, state, duals = carry
    params, state = jax.vmap(lambda p, s, d: primal_steps(p, s, d, tx=tx, steps=steps))(
        params, state, losses.interpolate_duals(duals, budgets, budgets)
    )
    asks, lengths = jax.vmap(expected_asks_and_length)(params)
    duals = losses.dual_ascent(
        duals, budgets, budgets, asks, lengths, learning_rate=0.4, max_dual=10.0
    )
    return (params, state, duals), asks / lengths

  @jax.jit
  def train():
    params = jax.tree.map(lambda leaf: jnp.stack([leaf] * len(budgets)), initial_params())
    carry = params, jax.vmap(tx.init)(params), jnp.ones(len(budgets))
    return lax.scan(one_round, carry, length=rounds)

  (_, _, duals), use = train()
  np.testing.assert_allclose(use[-1], budgets, atol=1e-3)
  assert np.all(np.asarray(duals) > 0.05) and np.all(np.diff(duals) < 0)
