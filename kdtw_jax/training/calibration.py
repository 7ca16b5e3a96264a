"""After training: budgets in words made to mean what they say on sources not trained on.

A teacher knows its training sources, so use measured there is lower than elsewhere. The duals are
therefore moved on by dual ascent on rollouts over validation sources, the model standing still.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import ml_collections

from kdtw_jax import decoding, losses
from kdtw_jax.base import Batch, Params
from kdtw_jax.models import Model, with_duals
from kdtw_jax.training.progress import tracked


def calibrate(
    student: Model,
    teacher: Model,
    params: Params,
    teacher_params: Params,
    duals: jax.Array,
    stage: ml_collections.ConfigDict,
    *,
    knots: tuple[float, ...],
    batches: Iterator[Batch],
    max_length: int
) -> jax.Array:
  """Dual ascent on held-out sources.

  Args:
    student: with gate 'difficulty_price'.
    teacher: its teacher.
    params: the student's parameters.
    teacher_params: the teacher's parameters.
    duals: `[K]` prices at the knots to start from, nats per ask.
    stage: `calibration_steps`, `calibration_dual_learning_rate`, `max_dual`.
    knots: budgets at which the duals stand.
    batches: endless, of held-out sources with random budgets in random wordings.
    max_length: output tokens.

  Returns:
    `[K]` duals, the mean over the second half of the ascent.
  """

  @jax.jit
  def ascend(
      duals: jax.Array,
      params: Params,
      teacher_params: Params,
      batch: Batch,
      learning_rate: jax.Array,
  ):
    result = decoding.decode(
        student.decoder_fns,
        teacher.decoder_fns,
        with_duals(params, duals),
        teacher_params,
        batch.student_source,
        batch.teacher_source,
        batch.budget,
        jax.random.key(0),  # nothing is drawn
        decoding.Mixture(explore=0.0, sampled=False),
        max_length=max_length,
        eager=True,
    )
    return losses.dual_ascent(
        duals,
        jnp.asarray(knots),
        batch.budget,
        result.asks,
        result.length,
        learning_rate=learning_rate,
        max_dual=stage.max_dual,
    )

  steps, visited = stage.calibration_steps, []
  for number in tracked(range(steps), "calibration"):
    remaining = 1.0 - number / steps  # large steps first, then a mean over small ones
    duals = ascend(
        duals,
        params,
        teacher_params,
        next(batches),
        jnp.float32(stage.calibration_dual_learning_rate * remaining),
    )
    if 2 * (number + 1) > steps:
      visited.append(duals)
  return jnp.mean(jnp.stack(visited), axis=0)
