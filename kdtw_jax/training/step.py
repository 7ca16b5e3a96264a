"""The compiled training step that all stages share.

An objective is `(params, frozen, data, key, duals) -> (loss, metrics)`. `frozen` holds parameters
that do not train (the teacher's); they are arguments so that they are not compiled in as constants.
`metrics` are scalars. The step donates its state.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kdtw_jax.training.state import TrainState

Objective = Callable[..., tuple[jax.Array, dict[str, jax.Array]]]


def make_train_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    ema_decay: float = 0.0,
    update_duals: Callable | None = None,
    shardings: TrainState | None = None,
) -> Callable:
  """Makes a jitted training step.

  Args:
    objective: see the module.
    optimizer: an optax transformation.
    ema_decay: decay of the parameter average, if the state keeps one. The effective decay at step n
      is min(ema_decay, (1 + n) / (10 + n)), so that early parameters are soon forgotten.
    update_duals: `(duals [K], data) -> duals [K]`, or None.
    shardings: where each array of the next state lies; None leaves it to the compiler.

  Returns:
    `step(state, frozen, data, key) -> (state, metrics)`, jitted, which donates `state`. `key` is
    the stage's key; the step folds in its number. `metrics` has the objective's metrics, `loss` and
    `grad_norm`.
  """

  def step(state: TrainState, frozen: Any, data: Any, key: jax.Array):
    key = jax.random.fold_in(key, state.step)
    (loss, metrics), grads = jax.value_and_grad(objective, has_aux=True)(
        state.params, frozen, data, key, state.duals
    )
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    ema_params = state.ema_params
    if ema_params is not None:
      count = state.step.astype(jnp.float32)
      decay = jnp.minimum(ema_decay, (1.0 + count) / (10.0 + count))
      ema_params = optax.incremental_update(params, ema_params, 1.0 - decay)
    duals = state.duals
    if update_duals is not None:
      duals = update_duals(duals, data)
    state = TrainState(
        step=state.step + 1, params=params, opt_state=opt_state, ema_params=ema_params, duals=duals
    )
    return state, {**metrics, "loss": loss, "grad_norm": optax.tree.norm(grads)}

  return jax.jit(step, donate_argnums=0, out_shardings=(shardings, None))
