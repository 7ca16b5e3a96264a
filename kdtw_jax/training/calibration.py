"""After training: budgets in words made to mean what they say on sources not trained on.

A teacher knows its training sources, so use measured there is lower than elsewhere. Duals are
therefore moved by dual ascent on rollouts over validation sources, the model standing still and the
price in the gate replaced by λ_B; then the price alone is fitted to what came out.
"""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import ml_collections
import optax

from kdtw_jax import decoding, losses
from kdtw_jax.base import Batch, Params
from kdtw_jax.models import Model
from kdtw_jax.training import optim
from kdtw_jax.training.progress import tracked
from kdtw_jax.training.state import TrainState

PRICE_STEPS_PER_STEP = 4


def gate_offset(student: Model, knots: tuple[float, ...]) -> Callable:
  """What replaces the price that the student reads by the price that the duals set.

      (p(x_B) − λ_B) / α_g     for gate 'difficulty_price';   0 for a gate without a price

  Args:
    student: the model with the gate.
    knots: budgets at which the duals stand.

  Returns:
    `(params, batch, duals [K]) -> [B]`, to be added to the gate's log-odds.
  """
  def offset(params: Params, batch: Batch, duals: jax.Array) -> jax.Array:
    if student.config.gate != "difficulty_price":
      return jnp.zeros(batch.student_source.shape[:1])
    price = student.price(params, student.encode(params, batch.student_source))
    row_duals = losses.interpolate_duals(duals, jnp.asarray(knots), batch.budget)
    return (price - row_duals) / student.config.gate_alpha
  return offset


def calibrate(student: Model, teacher: Model, state: TrainState, teacher_params: Params,
              stage: ml_collections.ConfigDict, *, knots: tuple[float, ...],
              batches: Iterator[Batch], max_length: int, chunk: int, key: jax.Array) -> TrainState:
  """Dual ascent on held-out sources, then regression of the price.

  Args:
    student: with gate 'difficulty_price'.
    teacher: its teacher.
    state: of the finished stage.
    teacher_params: the teacher's parameters.
    stage: `calibration_steps`, `calibration_dual_learning_rate`, `calibration_learning_rate`,
      `max_dual`.
    knots: budgets at which the duals stand.
    batches: endless, of held-out sources with random budgets in random wordings.
    max_length: output tokens.
    chunk: width of the teacher's catch-up pass.
    key: for the policy; greedy decoding draws nothing.

  Returns:
    The state with new duals (the mean over the second half of the ascent) and a fitted price.
  """
  params, offset = state.result(), gate_offset(student, knots)
  knots = jnp.asarray(knots)

  @jax.jit
  def ascend(duals: jax.Array, params: Params, teacher_params: Params, batch: Batch):
    result = decoding.decode(
        student.decoder_fns, teacher.decoder_fns, params, teacher_params, batch.student_source,
        batch.teacher_source, batch.budget, key, decoding.Handover(offset(params, batch, duals)),
        max_length=max_length, chunk=chunk)
    return losses.dual_ascent(
        duals, knots, batch.budget, result.asks, result.length,
        learning_rate=stage.calibration_dual_learning_rate, max_dual=stage.max_dual)

  duals, visited = state.duals, []
  for number in tracked(range(stage.calibration_steps), "calibration"):
    duals = ascend(duals, params, teacher_params, next(batches))
    if 2 * number >= stage.calibration_steps:
      visited.append(duals)
  duals = jnp.mean(jnp.stack(visited), axis=0)
  params = _fit_price(student, params, duals, knots, batches, stage)
  return state._replace(params=params, ema_params=None, duals=duals)


def _fit_price(student: Model, params: Params, duals: jax.Array, knots: jax.Array,
               batches: Iterator[Batch], stage: ml_collections.ConfigDict) -> Params:
  """Moves the price head alone until the instruction's price is λ of the budget it states."""
  steps = PRICE_STEPS_PER_STEP * stage.calibration_steps
  optimizer = optim.only(("price",), optax.cosine_decay_schedule(
      stage.calibration_learning_rate, steps))

  @jax.jit
  def fit(params: Params, opt_state, batch: Batch):
    def loss_fn(params: Params) -> jax.Array:
      price = student.price(params, student.encode(params, batch.student_source))
      target = losses.interpolate_duals(duals, knots, batch.budget)
      return jnp.mean(optax.huber_loss(price, target))
    updates, opt_state = optimizer.update(jax.grad(loss_fn)(params), opt_state, params)
    return optax.apply_updates(params, updates), opt_state

  opt_state = optimizer.init(params)
  for _ in tracked(range(steps), "price"):
    params, opt_state = fit(params, opt_state, next(batches))
  return params
