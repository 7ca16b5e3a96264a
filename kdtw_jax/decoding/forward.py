"""Model calls of the decoding loop: the student step, the teacher step and the teacher's catch-up.

Not here: who writes the token (writing.py, drafting.py).

Each call gathers a window of static width per row, starting where that row's cache ends, and passes
it to `extend` for the whole batch. Rows that do not need the call are extended too, but their cache
length stays the same: what was written lies beyond it, and the next call overwrites it. So no
branch or select ever touches a cache, which would make XLA copy it.

Shape letters: B batch, C chunk of inputs in one call, D width, V vocabulary.
"""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from kdtw_jax import base
from kdtw_jax.decoding import budgets
from kdtw_jax.decoding import rows as rows_lib
from kdtw_jax.decoding import sampling as sampling_lib
from kdtw_jax.decoding import state as state_lib
from kdtw_jax.decoding.policies.policy import present
from kdtw_jax.decoding.sampling import Key
from kdtw_jax.decoding.state import DecodeState, Setup


def last_hidden(hidden: Float[Array, "B C D"], index: Int[Array, " B"]) -> Float[Array, "B 1 D"]:
  """Reads the hidden state at one chunk position per row, clipped to the chunk."""
  C = hidden.shape[1]
  if C == 1:
    return hidden
  return jnp.take_along_axis(hidden, jnp.clip(index, 0, C - 1)[:, None, None], axis=1)


class StudentStep(NamedTuple):
  """The student's view of the next token.

  Attributes:
    logits: its logits; PAD_ID is masked.
    gate_logits: its log-odds of asking.
    gap: the gap that its gate predicts, nats; the log-odds for a gate that predicts none.
    hidden: the decoder state.
  """

  logits: Float[Array, "B V"]
  gate_logits: Float[Array, " B"]
  gap: Float[Array, " B"]
  hidden: Float[Array, "B D"]


def student_step(
    model: state_lib.Model, state: DecodeState, rows: Bool[Array, " B"], width: int
) -> tuple[DecodeState, StudentStep]:
  """Lets the student consume inputs student_len .. length + pending in one forward pass.

  Args:
    model: the student.
    state: the decoding state; `rows` lag by at most `width` inputs.
    rows: rows that need the step.
    width: inputs per forward pass, static.

  Returns:
    The state, and the student's view of the next token, meaningless outside `rows`.
  """
  fns, params = state_lib.running(model)
  end = state.length + state.pending
  chunk = state_lib.window(state.tokens, state.student_len, width)
  hidden, cache = fns.extend(params, state.student_cache, chunk, state.student_len)
  hidden = last_hidden(hidden, end - state.student_len)
  output = fns.readout(params, cache, hidden)
  gap = output.gate_logits if output.gap is None else output.gap
  state = state._replace(
      student_cache=cache,
      student_len=jnp.where(rows, end + 1, state.student_len),
      student_steps=state.student_steps + 1,
      student_row_steps=state.student_row_steps + rows,
  )
  logits = sampling_lib.forbid_pad(output.logits[:, 0])
  return state, StudentStep(logits, output.gate_logits[:, 0], gap[:, 0], hidden[:, 0])


def unread_cache(
    fns: base.DecoderFns, params: base.Params, source: Int[Array, "B S"], max_length: int
) -> state_lib.Cache:
  """Makes the cache of a model that has read nothing."""
  shapes = jax.eval_shape(lambda: fns.start(params, source, max_length))
  return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


# The teacher's cache, and the rows whose source is in it.
_Sources = tuple[state_lib.Cache, Bool[Array, " B"]]


def teacher_reads(setup: Setup, state: DecodeState, rows: Bool[Array, " B"]) -> DecodeState:
  """Lets the teacher read the sources of these rows, unless it has.

  It reads `pass_rows` sources at a time. Where fewer are needed, others are read with them that may
  be needed later.
  """
  B, T = state.asked.shape
  if not rows_lib.reads_later(setup):
    return state
  fns, params = state_lib.running(setup.teacher)
  source = jnp.asarray(present(setup.teacher_source), jnp.int32)

  def read(now: _Sources) -> _Sources:
    cache, known = now
    if B == 1:
      # If it depended on constants alone, XLA would move it to the loop around: read every turn.
      unread_source = jnp.where(known[:, None], base.PAD_ID, source)
      return fns.start(params, unread_source, T), jnp.ones_like(known)
    unread = ~(known | state.done)
    places = rows_lib.first_of(unread & rows, present(setup.pass_rows), then=unread)
    part = fns.start(params, source[places], T)
    places = rows_lib.only(unread, places)  # those that have begun stay as they are
    return rows_lib.put(fns, cache, part, places), known | rows_lib.among(places, B)

  cache, known = jax.lax.while_loop(
      lambda now: jnp.any(rows & ~now[1]), read, (state.teacher_cache, state.teacher_read)
  )
  return state._replace(teacher_cache=cache, teacher_read=known)


def teacher_step(
    model: state_lib.Model,
    state: DecodeState,
    rows: Bool[Array, " B"],
    width: int,
    places: Int[Array, " R"] | None = None,
) -> tuple[DecodeState, Float[Array, "B width V"]]:
  """Lets the teacher consume inputs teacher_len .. length + pending in one forward pass.

  Args:
    model: the teacher.
    state: the decoding state; `rows` lag by at most `width` inputs.
    rows: rows that need the step.
    width: inputs per forward pass, static.
    places: rows that the pass runs on, `rows` among them; None for all.

  Returns:
    The state and the logits after each input of the window, zeros outside `places`.
  """
  fns, params = state_lib.running(model)
  end, begin, cache = state.length + state.pending, state.teacher_len, state.teacher_cache
  chunk = state_lib.window(state.tokens, begin, width)
  if places is None:
    hidden, cache = fns.extend(params, cache, chunk, begin)
    logits = sampling_lib.forbid_pad(fns.readout(params, cache, hidden).logits)
  else:
    before = present(fns.take)(cache, places)
    hidden, part = fns.extend(params, before, chunk[places], begin[places])
    some = sampling_lib.forbid_pad(fns.readout(params, part, hidden).logits)
    logits = jnp.zeros((*chunk.shape, some.shape[-1]), some.dtype)
    logits = logits.at[places].set(some, unique_indices=True)
    cache = rows_lib.put(fns, cache, part, places, before)
  consumed = jnp.where(rows, end + 1 - state.teacher_len, 0)
  state = state._replace(
      teacher_cache=cache,
      teacher_len=state.teacher_len + consumed,
      teacher_passes=state.teacher_passes + 1,
      teacher_row_passes=state.teacher_row_passes + rows,
      teacher_calls=state.teacher_calls + rows,
      teacher_tokens=state.teacher_tokens + consumed,
  )
  return state, logits


class _CatchUp(NamedTuple):
  """The carry of the catch-up loop: the teacher's part of the state and its chosen tokens."""

  cache: state_lib.Cache
  teacher_len: Int[Array, " B"]
  token: Int[Array, " B"]
  passes: Int[Array, ""]


def teacher_catch_up(
    model: state_lib.Model,
    state: DecodeState,
    rows: Bool[Array, " B"],
    key: Key,
    *,
    widths: tuple[int, ...],
    sampling: sampling_lib.Sampling,
    may_end: Bool[Array, " B"] | None,
    eos_id: int,
) -> tuple[DecodeState, Int[Array, " B"]]:
  """Runs the teacher over the tokens since its last call and lets it choose the next token.

  Each width, from the widest down, has its own loop of passes. It runs while some asking row lags
  by more than the next width covers. So there is no pass if no row asks, and the last pass is as
  narrow as possible. The loop conditions are the only predicates; there is no `lax.cond`.

  Rows that lag but do not ask catch up in the same passes. In a batch of 8 rows that ask for a
  tenth of their tokens, this saves more than a third of the passes. The cost of a row's own asks is
  therefore not counted here, but computed from the positions of the asks (state.count_catch_up).

  Args:
    model: the teacher.
    state: the decoding state, with nothing pending.
    rows: rows that ask; the passes continue until these have caught up.
    key: PRNG key of the teacher's draw, or None when greedy. A row draws with it once, in the pass
      that reaches its last input.
    widths: inputs per pass, ascending, static.
    sampling: how the teacher chooses.
    may_end: rows in which it may write EOS; None if in all.
    eos_id: EOS.

  Returns:
    The state and the teacher's tokens, meaningless outside `rows`.
  """
  fns, params = state_lib.running(model)
  # A row that does not ask keeps its last token unread: its next ask needs the logits after it.
  end = jnp.where(rows, state.length, state.length - 1)

  def lagging(now: _CatchUp, by_more_than: int) -> Bool[Array, ""]:
    return jnp.any(rows & (end + 1 - now.teacher_len > by_more_than))

  def advance(now: _CatchUp, chunk: int) -> _CatchUp:
    inputs = state_lib.window(state.tokens, now.teacher_len, chunk)
    hidden, cache = fns.extend(params, now.cache, inputs, now.teacher_len)
    last = end - now.teacher_len
    output = fns.readout(params, cache, last_hidden(hidden, last))
    logits = sampling_lib.forbid_pad(output.logits[:, 0])
    logits = budgets.forbid_end(logits, may_end, eos_id)
    choice = sampling_lib.choose_token(logits, key, sampling)
    arrived = rows & (last >= 0) & (last < chunk)
    return _CatchUp(
        cache=cache,
        teacher_len=now.teacher_len + jnp.clip(last + 1, 0, chunk),
        token=jnp.where(arrived, choice, now.token),
        passes=now.passes + 1,
    )

  before = _CatchUp(
      cache=state.teacher_cache,
      teacher_len=state.teacher_len,
      token=jnp.zeros(rows.shape, jnp.int32),
      passes=state.teacher_passes,
  )
  after = before
  for narrower, width in reversed(list(itertools.pairwise((0, *widths)))):
    after = jax.lax.while_loop(
        functools.partial(lagging, by_more_than=narrower),
        functools.partial(advance, chunk=width),
        after,
    )
  state = state._replace(
      teacher_cache=after.cache, teacher_len=after.teacher_len, teacher_passes=after.passes
  )
  return state, after.token
