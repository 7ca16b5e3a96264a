"""The state of a training stage: everything a checkpoint needs to resume with the same numbers.

There is no random state: the key of step n is the stage's key with n folded in.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import optax

from kdtw_jax.base import Params


class TrainState(NamedTuple):
  """The state that one step passes to the next.

  Attributes:
    step: number of steps taken, an int32 scalar.
    params: the model's parameters.
    opt_state: the optimizer's state.
    ema_params: exponential moving average of `params`; None if the stage keeps none.
    duals: λ at the knots of the budget axis in nats per ask, float32; None without budgets.
  """

  step: Int[Array, ""]
  params: Params
  opt_state: Any
  ema_params: Params | None = None
  duals: Float[Array, " K"] | None = None

  def result(self) -> Params:
    """Returns the parameters that the stage is judged by: the average if one is kept."""
    return self.params if self.ema_params is None else self.ema_params


def create(
    params: Params,
    optimizer: optax.GradientTransformation,
    *,
    ema: bool = False,
    duals: Float[Array, " K"] | None = None,
) -> TrainState:
  """Makes a state at step 0; copies the caller's `params`, because steps donate their state."""
  params = jax.tree.map(jnp.copy, params)
  return TrainState(
      step=jnp.zeros((), jnp.int32),
      params=params,
      opt_state=optimizer.init(params),
      ema_params=jax.tree.map(jnp.copy, params) if ema else None,
      duals=duals,
  )
