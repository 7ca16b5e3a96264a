"""Trajectories: batches of references, and sequences that student and teacher write together.

The decoder writes them and the objectives score them. A rollout keeps the rows of its batch: the
first rows are on-policy, the rest hold references or the teacher's own samples.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections

from kdtw_jax import decoding
from kdtw_jax.base import EOS_ID, Batch, Params, Trajectory
from kdtw_jax.models import Models


def from_references(batch: Batch) -> Trajectory:
  """Turns a batch's references into off-policy trajectories without asks."""
  return _unaided(batch, batch.target)


def from_stored(params: Params, frozen: None, batch: Batch, key: jax.Array) -> Trajectory:
  """Makes the trajectories of a stage whose targets, and their scores, were stored."""
  del params, frozen, key
  return _from_references(batch)


_from_references = jax.jit(from_references)


def _unaided(batch: Batch, tokens) -> Trajectory:
  """Makes off-policy trajectories without asks."""
  return _written(
      batch,
      tokens,
      jnp.zeros(tokens.shape, bool),
      ended=jnp.any(tokens == EOS_ID, axis=1),
      on_policy=False,
      own_gate=jnp.zeros(tokens.shape[:1], bool),
  )


def _written(batch: Batch, tokens, asked, *, ended, on_policy: bool, own_gate) -> Trajectory:
  rows = tokens.shape[0]
  return Trajectory(
      student_source=batch.student_source,
      teacher_source=batch.teacher_source,
      tokens=tokens,
      asked=asked,
      ended=ended,
      on_policy=jnp.full((rows,), on_policy),
      own_gate=own_gate,
      budget=batch.budget,
      example_id=batch.example_id,
      teacher_scores=batch.teacher_scores,
  )


def _rows(batch: Batch, start: int, stop: int) -> Batch:
  return jax.tree.map(lambda x: x[start:stop], batch)


def make_rollout(
    models: Models, stage: ml_collections.ConfigDict, *, max_length: int, may_ask: bool = False
) -> Callable[..., Trajectory]:
  """Makes the jitted function that mixes a stage's on-policy and off-policy trajectories.

  On-policy rows are sampled from the student at `stage.rollout_temperature` (0 is greedy). Tokens
  of the teacher, in own rows and in rows of its own, are drawn at the same temperature. If the
  student may ask, the gate decides when the teacher writes. Every second on-policy row also asks at
  random with probability `stage.explore`, so that the gate sees states that its own asks would not
  reach. The other on-policy rows measure the use of the teacher. If it may not ask, the teacher
  samples each token of an on-policy row with probability `stage.teacher_mixing`.

  Outputs are as long as the batch's targets at most. One that is cut there goes on unseen, unless
  the decoder would have cut it too, at `max_length`: that is its end.

  Args:
    models: student and teacher.
    stage: `on_policy_fraction`, `off_policy`, `rollout_temperature`, and if the student may ask,
      `explore` and `gate_sampled`, else `teacher_mixing`.
    max_length: length at which the decoder cuts an output, tokens.
    may_ask: True if the student may ask.

  Returns:
    `(student_params, teacher_params, batch, key) -> Trajectory`, jitted. The student's prices must
    be the newest duals: see `models.with_duals`.
  """
  sampling = decoding.Sampling(temperature=stage.rollout_temperature)

  def decode(policy, length, params, teacher_params, batch, key):
    return decoding.decode(
        models.student.decoder_fns,
        models.teacher.decoder_fns,
        params,
        teacher_params,
        batch.student_source,
        batch.teacher_source,
        batch.budget,
        key,
        policy,
        max_length=length,
        sampling=sampling,
        eager=True,
    )

  def rollout(params: Params, teacher_params: Params, batch: Batch, key: jax.Array) -> Trajectory:
    num_rows, length = batch.target.shape
    num_on = round(stage.on_policy_fraction * num_rows)
    student_key, teacher_key = jax.random.split(key)
    parts = []
    if num_on:
      on = _rows(batch, 0, num_on)
      own_gate = jnp.arange(num_on) % 2 == 0 if may_ask else jnp.zeros((num_on,), bool)
      policy = decoding.StudentAlone()
      if not may_ask and stage.teacher_mixing:
        policy = decoding.RandomAsk(stage.teacher_mixing)
      if may_ask:
        policy = decoding.Mixture(
            jnp.where(own_gate, 0.0, stage.explore), sampled=stage.gate_sampled
        )
      result = decode(policy, length, params, teacher_params, on, student_key)
      has_end = jnp.any(result.tokens == EOS_ID, axis=1)
      parts.append(
          _written(
              on,
              result.tokens,
              result.asked,
              ended=has_end | (length >= max_length),
              on_policy=True,
              own_gate=own_gate,
          )
      )
    if num_on < num_rows:
      off = _rows(batch, num_on, num_rows)
      if stage.off_policy == "reference":
        parts.append(from_references(off))
      else:
        result = decode(decoding.TeacherAlone(), length, params, teacher_params, off, teacher_key)
        parts.append(_unaided(off, result.tokens))
    return jax.tree.map(lambda *x: jnp.concatenate(x), *parts)

  return jax.jit(rollout)
