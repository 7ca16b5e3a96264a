"""One loop iteration of the policies that draft: a round of student drafts and one verification.

Not here: policies that write token by token (writing.py), model calls (forward.py). All rows draft
together and are verified together, so one teacher pass serves the whole batch; a row whose draft is
short (it drafted EOS, or L is near) waits. Rounds, tokens and per-row counts of a row do not
depend on the other rows.

Shape letters: B batch, L most tokens, k draft length, V vocabulary.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from kdtw_jax.decoding import forward
from kdtw_jax.decoding import sampling as sampling_lib
from kdtw_jax.decoding import state as state_lib
from kdtw_jax.decoding.state import DecodeState, Setup

# After a fully accepted draft the student has not consumed its own last draft nor the bonus token:
# two inputs, one forward.
STUDENT_WIDTH = 2


def draft_round(setup: Setup, state: DecodeState) -> DecodeState:
  """Drafts up to k tokens per row, then verifies all drafts with one teacher pass.

  Args:
    setup: models, parameters and rules; the policy has draft_length >= 1.
    state: the state, nothing pending.

  Returns:
    The state, nothing pending, `length` at least one larger in every row that was not done.
  """
  return verify(setup, draft(setup, state))


def drafting_rows(setup: Setup, state: DecodeState) -> Bool[Array, " B"]:
  """Says which rows draft another token: fewer than k, none of them EOS, room for one more after.

  The verification writes one token after the drafts, so at most L - length - 1 are drafted.
  """
  room = state.asked.shape[1] - state.length - 1
  limit = jnp.minimum(setup.policy.draft_length, room)
  last = state_lib.window(state.tokens, state.length + state.pending, 1)[:, 0]
  drafted_eos = (state.pending > 0) & (last == setup.eos_id)
  return ~state.done & (state.pending < limit) & ~drafted_eos


def draft(setup: Setup, state: DecodeState) -> DecodeState:
  """Lets the student draft greedily until every row has its draft."""

  def more(now: DecodeState) -> Bool[Array, ""]:
    return jnp.any(drafting_rows(setup, now))

  def one(now: DecodeState) -> DecodeState:
    rows = drafting_rows(setup, now)
    now, logits, _ = forward.student_step(*setup.student, now, rows, STUDENT_WIDTH)
    token = sampling_lib.choose_token(logits, None, setup.sampling)
    column = now.length + now.pending + 1
    return now._replace(
      tokens=state_lib.put(now.tokens, column, token, rows), pending=now.pending + rows
    )

  # The teacher's cache takes no part: it stays out of the inner loop's carry.
  drafted = jax.lax.while_loop(more, one, state._replace(teacher_cache=None))
  return drafted._replace(teacher_cache=state.teacher_cache)


class Verdict(NamedTuple):
  """What a verification decides.

  Attributes:
    accepted: `[B]` int32: drafts that stay.
    correction: `[B]` int32: the teacher's token after them.
    corrected: `[B]` bool: True where the correction is written, False after an accepted EOS.
  """

  accepted: Int[Array, " B"]
  correction: Int[Array, " B"]
  corrected: Bool[Array, " B"]


def judge(setup: Setup, state: DecodeState, logits: Array) -> Verdict:
  """Finds the longest prefix of the drafts that may stay and the teacher's token after it.

  Example, k = 4, pending = 4: drafts `a b c d`, the teacher's argmax `a b x y z` keeps `a b` and
  writes `x`; `a b c d z` keeps all and writes the bonus `z`.

  Args:
    setup: models, parameters and rules.
    state: the state with its drafts pending.
    logits: `[B, k + 1, V]` the teacher's, after input `length` and after each draft.

  Returns:
    The verdict.
  """
  k = setup.policy.draft_length
  drafts = state_lib.window(state.tokens, state.length + 1, k)
  is_pending = jnp.arange(k)[None, :] < state.pending[:, None]
  stays = setup.policy.accept(drafts, logits) & is_pending
  accepted = jnp.sum(jnp.cumprod(stays.astype(jnp.int32), axis=1), axis=1)
  here = jnp.take_along_axis(logits, accepted[:, None, None], axis=1)[:, 0]
  correction = sampling_lib.choose_token(here, None, setup.sampling)
  last = state_lib.window(state.tokens, state.length + accepted, 1)[:, 0]
  return Verdict(accepted, correction, ~((accepted > 0) & (last == setup.eos_id)))


def verify(setup: Setup, state: DecodeState) -> DecodeState:
  """Scores all drafts with one teacher pass, keeps a prefix and lets the teacher write after it.

  Rolling back is lowering lengths: caches beyond them are stale and rewritten.
  """
  active = ~state.done
  k = setup.policy.draft_length
  state, logits = forward.teacher_step(*setup.teacher, state, active, k + 1)
  verdict = judge(setup, state, logits)
  by_teacher = active & verdict.corrected
  end = state.length + verdict.accepted
  length = jnp.where(active, end + verdict.corrected, state.length)
  position = jnp.arange(state.asked.shape[1])[None, :]
  written = state.written_by_teacher | (by_teacher[:, None] & (position == end[:, None]))
  ended = ~verdict.corrected | (verdict.correction == setup.eos_id)
  full = length == state.asked.shape[1]
  return state._replace(
    tokens=state_lib.put(state.tokens, end + 1, verdict.correction, by_teacher),
    length=length,
    pending=jnp.zeros_like(state.pending),
    done=state.done | ended | full,
    student_len=jnp.minimum(state.student_len, length),
    teacher_len=jnp.minimum(state.teacher_len, length),
    written_by_teacher=written,
  )
