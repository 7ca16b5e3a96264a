"""The records of the decoding loop: its constants, its carry and its result.

Not here: rules about who writes a token (policies/) and model calls (forward.py).

Decoder inputs and emitted tokens are numbered differently. `tokens[:, 0]` is the start token
(PAD_ID), and the emitted token y_t, t = 0 .. length-1, is input number t + 1. A model that has
consumed inputs 0 .. length predicts y_length. A cache that has consumed n inputs is valid up to n
and stale beyond. Rolling back lowers a length and never touches a cache.

Shape letters: B batch, T most tokens that a row may emit, S source length.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from kdtw_jax import base
from kdtw_jax.decoding import signals as signals_lib
from kdtw_jax.decoding.budgets import Limits
from kdtw_jax.decoding.policies.policy import Policy
from kdtw_jax.decoding.sampling import Key, Sampling
from kdtw_jax.decoding.signals import Signals

Cache = Any  # a pytree defined by the model; None if that model does not run
Model = tuple[base.DecoderFns | None, base.Params]  # functions are None if not run


class Setup(NamedTuple):
  """The constants of the loop.

  Attributes:
    student: the student's functions and parameters.
    teacher: the teacher's functions and parameters.
    teacher_source: the teacher's input, for policies that copy from it.
    policy: who writes which token.
    limits: what each row may spend.
    sampling: how tokens are chosen.
    widths: inputs per teacher pass, ascending, static.
    wait: share of the unfinished rows that must need the teacher before it runs, static.
    pass_rows: R, rows of the teacher's smaller pass, static; None if passes take the whole batch.
    alone: True if there is one row, or one slot; static.
    eager: True runs the teacher at every step instead of letting it catch up; static.
    eos_id: token that ends a row.
    pause: (passes of both models by the state's count, how many more until the loop pauses); None
      never pauses.
  """

  student: Model
  teacher: Model
  teacher_source: Int[base.ArrayLike, "B S_teacher"] | None
  policy: Policy
  limits: Limits
  sampling: Sampling
  widths: tuple[int, ...]
  wait: float
  pass_rows: int | None
  alone: bool
  eager: bool
  eos_id: int
  pause: tuple[Int[Array, ""], Int[Array, ""]] | None = None


def running(model: Model) -> tuple[base.DecoderFns, base.Params]:
  """Returns the functions and parameters of a model that the policy runs."""
  fns, params = model
  assert fns is not None  # loop.decode has checked it
  return fns, params


class DecodeState(NamedTuple):
  """Everything that one iteration of the loop reads and writes.

  Attributes:
    tokens: start token, emitted tokens and pending drafts; stale beyond.
    length: number of emitted tokens.
    pending: number of drafts after `length` that the teacher has not seen yet.
    done: True where the row has emitted EOS or T tokens; it never changes again.
    waiting: True where the row can go no further without the teacher.
    asking: True where a draft stopped before its end because the row asks.
    credit: what a ledger has saved up; see budgets.Budget.
    signals: of the drafts; None for a policy that does not read them.
    advice: what the teacher would have written in place of the drafts that its last check found
      wrong, by input number; −1 elsewhere. None for a policy that forgets it.
    student_cache: the student's cache, or None.
    student_len: number of inputs in the student's cache.
    teacher_cache: the teacher's cache, or None.
    teacher_len: number of inputs in the teacher's cache.
    teacher_read: True where the teacher has read the source.
    written_by_teacher: True where the teacher wrote y_t.
    asked: True where the action was `<τ>`.
    gate_logits: the student's log-odds of asking when y_t was written.
    asks: number of `<τ>` actions so far.
    run: number of consecutive asks up to here; kept by policies that write token by token.
    student_steps: student forward passes executed for the whole batch.
    student_row_steps: student forward passes that the row itself needed.
    teacher_passes: teacher forward passes executed for the whole batch.
    teacher_row_passes: teacher forward passes that the row itself needed.
    teacher_calls: times the row consulted the teacher.
    teacher_tokens: inputs that the teacher processed for the row.
    key: PRNG key, or None if nothing is drawn.
  """

  tokens: Int[Array, "B inputs"]
  length: Int[Array, " B"]
  pending: Int[Array, " B"]
  done: Bool[Array, " B"]
  waiting: Bool[Array, " B"]
  asking: Bool[Array, " B"]
  credit: Int[Array, ""]
  signals: Signals | None
  advice: Int[Array, "B inputs"] | None
  student_cache: Cache
  student_len: Int[Array, " B"]
  teacher_cache: Cache
  teacher_len: Int[Array, " B"]
  teacher_read: Bool[Array, " B"]
  written_by_teacher: Bool[Array, "B T"]
  asked: Bool[Array, "B T"]
  gate_logits: Float[Array, "B T"]
  asks: Int[Array, " B"]
  run: Int[Array, " B"]
  student_steps: Int[Array, ""]
  student_row_steps: Int[Array, " B"]
  teacher_passes: Int[Array, ""]
  teacher_row_passes: Int[Array, " B"]
  teacher_calls: Int[Array, " B"]
  teacher_tokens: Int[Array, " B"]
  key: Key


class DecodeResult(NamedTuple):
  """What decoding wrote, who wrote it and what it cost.

  Attributes:
    tokens: y_t including EOS, then PAD_ID.
    length: number of emitted tokens, EOS included.
    ended: True where the row emitted EOS, False where it was cut at T tokens.
    written_by_teacher: True where the teacher wrote y_t; False after `length`.
    asked: True where the action was `<τ>`; False after `length`.
    gate_logits: the student's log-odds of asking at y_t; 0 after `length`, and 0 for a policy that
      drafts or runs no student.
    asks: number of `<τ>` actions, the row sum of `asked`.
    student_steps: student forward passes executed for the whole batch.
    student_row_steps: student forward passes that the row itself needed.
    teacher_passes: teacher forward passes executed for the whole batch.
    teacher_row_passes: teacher forward passes that the row itself needed.
    teacher_calls: times the row consulted the teacher, whoever wrote the token.
    teacher_tokens: inputs that the teacher processed for the row.
    credit: what a ledger has left for the next batch; see budgets.Budget.
  """

  tokens: Int[Array, "B T"]
  length: Int[Array, " B"]
  ended: Bool[Array, " B"]
  written_by_teacher: Bool[Array, "B T"]
  asked: Bool[Array, "B T"]
  gate_logits: Float[Array, "B T"]
  asks: Int[Array, " B"]
  student_steps: Int[Array, ""]
  student_row_steps: Int[Array, " B"]
  teacher_passes: Int[Array, ""]
  teacher_row_passes: Int[Array, " B"]
  teacher_calls: Int[Array, " B"]
  teacher_tokens: Int[Array, " B"]
  credit: Int[Array, ""]


def init_state(
    *,
    student_cache: Cache,
    teacher_cache: Cache,
    teacher_read: bool,
    done: Bool[Array, " B"],
    max_length: int,
    key: Key,
    credit: Int[base.ArrayLike, ""] | int = 0,
    signals: Signals | None = None,
    advised: bool = False,
) -> DecodeState:
  """Makes the state before the first token.

  Args:
    student_cache: cache of the student.
    teacher_cache: cache of the teacher.
    teacher_read: True if the teacher has read the sources.
    done: True for rows that emit nothing (padding of the batch).
    max_length: most tokens that a row may emit.
    key: PRNG key, or None if nothing is drawn.
    credit: what a ledger has saved up.
    signals: of no drafts, or None if they are not read.
    advised: True if the teacher's advice is kept.

  Returns:
    The state with all lengths and counters at zero.
  """
  B, T = done.shape[0], max_length

  def zeros() -> Int[Array, " B"]:
    return jnp.zeros((B,), jnp.int32)

  return DecodeState(
      tokens=jnp.full((B, T + 1), base.PAD_ID, jnp.int32),
      length=zeros(),
      pending=zeros(),
      done=done,
      waiting=jnp.zeros((B,), bool),
      asking=jnp.zeros((B,), bool),
      credit=jnp.asarray(credit, jnp.int32),
      signals=signals,
      advice=jnp.full((B, T + 1), -1, jnp.int32) if advised else None,
      student_cache=student_cache,
      student_len=zeros(),
      teacher_cache=teacher_cache,
      teacher_len=zeros(),
      teacher_read=jnp.full((B,), teacher_read),
      written_by_teacher=jnp.zeros((B, T), bool),
      asked=jnp.zeros((B, T), bool),
      gate_logits=jnp.zeros((B, T), jnp.float32),
      asks=zeros(),
      run=zeros(),
      student_steps=jnp.zeros((), jnp.int32),
      student_row_steps=zeros(),
      teacher_passes=jnp.zeros((), jnp.int32),
      teacher_row_passes=zeros(),
      teacher_calls=zeros(),
      teacher_tokens=zeros(),
      key=key,
  )


def goes_on(state: DecodeState, active: Bool[Array, " B"], wait: float) -> Bool[Array, ""]:
  """Returns True while the student should go on before the teacher serves the rows that need it.

  Args:
    state: the state.
    active: rows that can go on without the teacher.
    wait: share of the unfinished rows that must need the teacher before it runs; at 0 it runs as
      soon as one does, at 1 when no row can go on.
  """
  unfinished = jnp.sum(~state.done)
  blocked = unfinished - jnp.sum(active)
  enough = (blocked > 0) & (blocked.astype(jnp.float32) >= wait * unfinished.astype(jnp.float32))
  return jnp.any(active) & ~enough


def is_paused(setup: Setup, state: DecodeState) -> Bool[Array, ""]:
  """Returns True once the models have run as often as `Setup.pause` says."""
  if setup.pause is None:
    return jnp.array(False)
  begun, steps = setup.pause
  return state.student_steps + state.teacher_passes - begun >= steps  # counts may wrap around


def write_column(
    values: Shaped[Array, "B N"],
    column: Int[Array, " B"],
    new: Shaped[Array, " B"],
    where: Bool[Array, " B"],
) -> Shaped[Array, "B N"]:
  """Writes one value per row: `values[b, column[b]] = new[b]` where `where[b]`.

  This is a masked select over the whole (small) array. It fuses into one kernel, whereas a scatter
  of B single elements becomes a loop over rows on CPU. Do not use it on a cache.

  Args:
    values: the array to write into.
    column: column of each row; a column outside 0 .. N-1 writes nothing.
    new: the values to write.
    where: rows to write.
  """
  here = jnp.arange(values.shape[1])[None, :] == column[:, None]
  return jnp.where(here & where[:, None], new[:, None].astype(values.dtype), values)


def window(
    tokens: Int[Array, "B inputs"], start: Int[Array, " B"], width: int
) -> Int[Array, "B width"]:
  """Reads `width` inputs per row from its start; reads past the end repeat the last column."""
  column = start[:, None] + jnp.arange(width)[None, :]
  return jnp.take_along_axis(tokens, jnp.minimum(column, tokens.shape[1] - 1), axis=1)


def finish(state: DecodeState, eos_id: int) -> DecodeResult:
  """Cuts each row at its length, beyond which there are only stale drafts."""
  valid = jnp.arange(state.asked.shape[1])[None, :] < state.length[:, None]
  emitted = jnp.where(valid, state.tokens[:, 1:], base.PAD_ID)
  return DecodeResult(
      tokens=emitted,
      length=state.length,
      ended=jnp.any(valid & (emitted == eos_id), axis=1),
      written_by_teacher=state.written_by_teacher & valid,
      asked=state.asked & valid,
      gate_logits=jnp.where(valid, state.gate_logits, 0.0),
      asks=state.asks,
      student_steps=state.student_steps,
      student_row_steps=state.student_row_steps,
      teacher_passes=state.teacher_passes,
      teacher_row_passes=state.teacher_row_passes,
      teacher_calls=state.teacher_calls,
      teacher_tokens=state.teacher_tokens,
      credit=state.credit,
  )


def first_signals(model: Model, cache: Cache, rows: int) -> Signals:
  """Returns the signals of no drafts, as wide as the student's decoder states."""
  fns, params = running(model)
  one = jnp.zeros((rows, 1), jnp.int32)
  hidden, _ = jax.eval_shape(fns.extend, params, cache, one, one[:, 0])
  return signals_lib.zeros(rows, hidden.shape[-1])


def count_catch_up(result: DecodeResult) -> DecodeResult:
  """Counts each row's teacher passes as if the teacher caught up only when that row asks.

      an ask is one pass over  lag = t - (position of the ask before t, else -1)  inputs

  Args:
    result: result of a policy that asks token by token, whichever way the teacher was run.

  Returns:
    The result with `teacher_row_passes`, `teacher_calls` and `teacher_tokens` replaced.
  """
  position = jnp.broadcast_to(
      jnp.arange(result.asked.shape[1], dtype=jnp.int32), result.asked.shape
  )
  last = jnp.max(jnp.where(result.asked, position, -1), axis=1)
  return result._replace(
      teacher_row_passes=result.asks, teacher_calls=result.asks, teacher_tokens=last + 1
  )


def split_key(state: DecodeState) -> tuple[DecodeState, Key, Key, Key]:
  """Splits three new keys (gate, student, teacher) off the state's; None without a key."""
  if state.key is None:
    return state, None, None, None
  key, gate_key, student_key, teacher_key = jax.random.split(state.key, 4)
  return state._replace(key=key), gate_key, student_key, teacher_key
