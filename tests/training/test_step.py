"""The compiled step: resumable randomness, averages, duals, one compilation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kdtw_jax import losses
from kdtw_jax.training import state as state_lib
from kdtw_jax.training import step


def noisy(params, frozen, data, key, duals):
  noise = jax.random.normal(key, params["w"].shape)
  loss = jnp.sum((params["w"] - data) ** 2) + jnp.sum(params["w"] * noise)
  return {"noisy": losses.Mean(loss, jnp.ones(()))}, {}


def run(num_steps, state, step_fn):
  for _ in range(num_steps):
    state, metrics = step_fn(state, None, jnp.ones(3), jax.random.key(5))
  return state, metrics


def fresh(**fields):
  return state_lib.create({"w": jnp.zeros(3)}, optax.adam(0.1), **fields)


def test_a_state_carried_over_gives_the_numbers_of_an_unbroken_run():
  step_fn = step.make_train_step(noisy, optax.adam(0.1))
  whole, _ = run(4, fresh(), step_fn)
  half, _ = run(2, fresh(), step_fn)
  half = jax.tree.map(jnp.asarray, jax.tree.map(np.asarray, half))  # through host memory
  rest, _ = run(2, half, step_fn)
  np.testing.assert_array_equal(whole.params["w"], rest.params["w"])


def test_randomness_differs_from_step_to_step():
  step_fn = step.make_train_step(noisy, optax.sgd(0.0))
  state = state_lib.create({"w": jnp.ones(3)}, optax.sgd(0.0))
  state, first = run(1, state, step_fn)
  _, second = run(1, state, step_fn)
  assert first["loss"] != second["loss"]


def test_the_average_follows_the_stated_decay():
  step_fn = step.make_train_step(noisy, optax.adam(0.1), ema_decay=0.05)
  state, _ = run(1, fresh(ema=True), step_fn)
  np.testing.assert_allclose(state.ema_params["w"], 0.95 * state.params["w"], rtol=1e-6)
  assert state.result() is state.ema_params


def test_duals_move_and_the_step_compiles_once():
  traces = []

  def counted(*args):
    traces.append(1)
    return noisy(*args)

  step_fn = step.make_train_step(
      counted, optax.adam(0.1), update_duals=lambda duals, data: duals + data[:2]
  )
  state, metrics = run(3, fresh(duals=jnp.zeros(2)), step_fn)
  np.testing.assert_array_equal(state.duals, [3.0, 3.0])
  assert len(traces) == 1
  assert metrics["grad_norm"] > 0 and int(state.step) == 3


def test_the_state_is_donated():
  state = fresh()
  step.make_train_step(noisy, optax.adam(0.1))(state, None, jnp.ones(3), jax.random.key(0))
  assert state.params["w"].is_deleted()
