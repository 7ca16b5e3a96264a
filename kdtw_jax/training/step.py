"""One compiled training step, the same for every stage.

An objective is `(params, frozen, data, key, duals) -> (loss, metrics)`: `frozen` holds parameters
that do not train (the teacher's), passed as arguments so that they are never baked into the
program; `metrics` are scalars. The state is donated.
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
) -> Callable:
  """Compiles a step.

  Args:
    objective: see the module.
    optimizer: an optax transformation.
    ema_decay: decay of the average of parameters; used where the state keeps one. The effective
      decay of step n is min(ema_decay, (1 + n) / (10 + n)), so early steps do not weigh.
    update_duals: `(duals [K], data) -> duals [K]`, or None.

  Returns:
    `step(state, frozen, data, key) -> (state, metrics)`, jitted, `state` donated. `key` is the
    stage's key; the step number is folded in here. `metrics` has `loss` and `grad_norm` besides the
    objective's.
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

  return jax.jit(step, donate_argnums=0)
