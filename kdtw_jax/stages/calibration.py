"""The last part of `wheels`: duals fitted on validation, so that budgets hold on new sources.

A teacher knows its training sources, so the student asks less there than elsewhere. Dual ascent
therefore continues on rollouts over validation sources, with the model fixed.

Shape letters: K knots of the dual function.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdtw_jax import decoding, devices, losses
from kdtw_jax.base import Batch, Params
from kdtw_jax.models import with_duals
from kdtw_jax.stages.stage import Run
from kdtw_jax.terminal import print_line, tracked
from kdtw_jax.training.state import TrainState


def calibrated(run: Run, state: TrainState) -> TrainState:
  """Returns the state of a finished `wheels` with duals fitted on validation, set as the prices."""
  stage, params, duals = run.config.calibration, state.result(), state.duals
  assert duals is not None  # `wheels` starts with duals
  if stage.steps and "price" in params:
    size = min(stage.batch_size, len(run.inputs.tokenised("validation").example_id))
    size -= size % devices.batch_parts(run.mesh)
    batches = run.batches(
        "wheels", stage, split="validation", batch_size=size, budgets=run.config.budgets.train
    )
    sharded = (devices.shard_batch(run.mesh, batch) for batch in batches)
    duals = calibrate(run, params, run.params("teacher"), duals, sharded)
  return state._replace(params=with_duals(params, duals), ema_params=None, duals=duals)


def calibrate(
    run: Run,
    params: Params,
    teacher_params: Params,
    duals: Float[Array, " K"],
    batches: Iterator[Batch],
) -> Float[Array, " K"]:
  """Fits the duals by dual ascent on held-out sources.

  Args:
    run: the run; its student has the gate 'difficulty_price'.
    params: the student's parameters.
    teacher_params: the teacher's parameters.
    duals: initial prices at the knots, nats per ask.
    batches: endless batches of held-out sources, with random budgets in random wordings.

  Returns:
    The mean of the duals over the second half of the ascent.
  """
  student, teacher = run.inputs.models
  knots, stage = jnp.asarray(run.config.budgets.knots), run.config.calibration
  max_dual, max_length = run.config.wheels.max_dual, run.config.decode.max_length
  by_gate = decoding.Mixture(explore=0.0, sampled=False)  # may ask at budget 0 too

  @jax.jit
  def ascend(duals, params: Params, teacher_params: Params, batch: Batch, learning_rate):
    result = decoding.decode(
        student.decoder_fns,
        teacher.decoder_fns,
        with_duals(params, duals),
        teacher_params,
        batch.student_source,
        batch.teacher_source,
        batch.budget,
        jax.random.key(0),  # unused, since nothing is drawn
        by_gate,
        max_length=max_length,
        eager=True,
    )
    return losses.dual_ascent(
        duals,
        knots,
        batch.budget,
        result.asks,
        result.length,
        learning_rate=learning_rate,
        max_dual=max_dual,
    )

  print_line("calibration", "prices of asking are set so that budgets hold on validation")
  visited = []
  for number in tracked(range(stage.steps), "calibration"):
    remaining = 1.0 - number / stage.steps  # large steps first, small ones under the mean
    learning_rate = jnp.float32(stage.dual_learning_rate * remaining)
    duals = ascend(duals, params, teacher_params, next(batches), learning_rate)
    if 2 * (number + 1) > stage.steps:
      visited.append(duals)
  return jnp.mean(jnp.stack(visited), axis=0)
