"""The compiled training step that all stages share.

An objective is `(params, frozen, data, key, duals) -> (terms, metrics)`. `frozen` holds parameters
that do not train (the teacher's); they are arguments so that they are not compiled in as constants.
The loss is the sum of the values of `terms`, and `metrics` are for the log; both are means over
tokens or rows, by name (`losses.Mean`). The step donates its state.

A batch may be worked off in parts, so that the activations of one part are in memory at a time.
Each mean is divided by its count over all parts, which are counted first, without the models:

    ∇ Σ_k (Σ_m total_mk) / (Σ_m count_mk) = Σ_m ∇ Σ_k total_mk / (Σ_m' count_m'k)

So the number of parts changes rounding, and the masks of dropout, and nothing else.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
import optax

from kdtw_jax.losses import Mean
from kdtw_jax.training.state import TrainState

Means = dict[str, Mean]
Objective = Callable[..., tuple[Means, Means]]


def loss_of(objective: Objective) -> Callable[..., tuple[Float[Array, ""], dict[str, Array]]]:
  """Returns `(params, frozen, data, key, duals) -> (loss, metrics)` of a whole batch."""

  def loss(*args: Any):
    terms, metrics = objective(*args)
    return _sum(terms), _values(metrics)

  return loss


def gradients(
    objective: Objective,
    params: Any,
    frozen: Any,
    data: Any,
    key: jax.Array,
    duals: Any,
    *,
    microbatches: int = 1,
) -> tuple[Any, Float[Array, ""], dict[str, Array]]:
  """Computes the gradients of an objective, on one part of the batch after the other.

  Args:
    objective: see the module.
    params: what it is differentiated by.
    frozen: passed on to it.
    data: arrays whose first axis is the batch's. Part m gets the rows m, m + M, ..., so that each
      device keeps its rows.
    key: passed on to it; each of several parts folds in its number.
    duals: passed on to it.
    microbatches: M, the number of parts; divides the rows of each device.

  Returns:
    `(gradients, loss, metrics)` of the whole batch.
  """
  if microbatches == 1:
    fn = jax.value_and_grad(loss_of(objective), has_aux=True)
    (loss, metrics), grads = fn(params, frozen, data, key, duals)
    return grads, loss, metrics

  def of_part(params: Any, number: jax.Array, part: Any) -> tuple[Means, Means]:
    return objective(params, frozen, part, jax.random.fold_in(key, number), duals)

  parts = jnp.arange(microbatches), jax.tree.map(lambda x: _dealt(x, microbatches), data)

  def counts_of(part: tuple[jax.Array, Any]) -> dict[str, Array]:
    return {name: term.count for name, term in of_part(params, *part)[0].items()}

  counts = _over_parts(jax.lax.map(counts_of, parts))

  def share(params: Any, number: jax.Array, part: Any):
    terms, metrics = of_part(params, number, part)
    shares = {name: Mean(term.total, counts[name]) for name, term in terms.items()}
    return _sum(shares), metrics

  def add(grads: Any, part: tuple[jax.Array, Any]):
    found, new = jax.value_and_grad(share, has_aux=True)(params, *part)
    return jax.tree.map(jnp.add, grads, new), found

  grads, found = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, params), parts)
  loss, metrics = _over_parts(found)
  return grads, loss, _values(metrics)


def make_train_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    microbatches: int = 1,
    ema_decay: float = 0.0,
    update_duals: Callable | None = None,
    shardings: TrainState | None = None,
) -> Callable:
  """Makes a jitted training step.

  Args:
    objective: see the module.
    optimizer: an optax transformation.
    microbatches: parts of a batch whose activations are in memory one after the other.
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
    grads, loss, metrics = gradients(
        objective, state.params, frozen, data, key, state.duals, microbatches=microbatches
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


def _sum(terms: Means) -> Float[Array, ""]:
  """Returns the sum of the values of all terms."""
  return sum(_values(terms).values(), start=jnp.zeros(()))


def _values(means: Means) -> dict[str, Array]:
  return {name: mean.value() for name, mean in means.items()}


def _dealt(x: Array, parts: int) -> Array:
  """Deals the rows [B, ...] out to parts, [M, B/M, ...]."""
  return jnp.swapaxes(x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 0, 1)


def _over_parts(tree: Any) -> Any:
  """Sums arrays [M, ...] over their first axis."""
  return jax.tree.map(lambda x: jnp.sum(x, axis=0), tree)
