"""One loop iteration of the policies that draft: rows draft, and one teacher pass checks drafts.

Rows whose draft needs the teacher wait until enough of them do (`Setup.wait`), then one pass serves
them all. The drafts, tokens and counts of a row do not depend on the other rows.

Not here: drafting (drafting.py), what the policies decide (policies/), policies that write token by
token (writing.py), model calls (forward.py).

Shape letters: B batch, T most tokens, V vocabulary; k draft length.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from kdtw_jax.decoding import budgets, forward
from kdtw_jax.decoding import rows as rows_lib
from kdtw_jax.decoding import signals as signals_lib
from kdtw_jax.decoding import state as state_lib
from kdtw_jax.decoding.drafting import (
    Round,
    close_ended,
    copy_tokens,
    draft_tokens,
    drafter,
    drafting_rows,
)
from kdtw_jax.decoding.policies.drafter import Drafts
from kdtw_jax.decoding.sampling import Key
from kdtw_jax.decoding.state import DecodeState, Setup


def draft_round(setup: Setup, state: DecodeState) -> DecodeState:
  """Lets rows draft until enough of them need the teacher, then checks the drafts of those.

  Args:
    setup: models, parameters and rules; the policy is a Drafter with k >= 1.
    state: the state.

  Returns:
    The state, in which at least one row that was not done has a larger `length` or is done.
  """
  state, gate_key, student_key, teacher_key = state_lib.split_key(state)
  if setup.policy.needs_student:
    drafted = draft_tokens(setup, state, gate_key, student_key)
    drafted = drafted._replace(state=close_ended(setup, drafted.state))
  else:
    drafted = copy_tokens(setup, state)
  return verify(setup, drafted, teacher_key)


class Verdict(NamedTuple):
  """The decision of a verification.

  Attributes:
    accepted: number of drafts that are kept.
    correction: the token after them.
    corrected: True where the correction is written. It is not written after an accepted end,
      nor after a fully accepted draft if the policy has no bonus token.
  """

  accepted: Int[Array, " B"]
  correction: Int[Array, " B"]
  corrected: Bool[Array, " B"]


def judge(setup: Setup, drafted: Round, logits: Float[Array, "B width V"], key: Key) -> Verdict:
  """Finds the longest prefix of the drafts that may stay, and the token after it.

  Example, greedy and exact, with k = 4 and pending = 4: the drafts are `a b c d`. If the teacher's
  argmax is `a b x y z`, `a b` is kept and `x` written. If it is `a b c d z`, all drafts are kept
  and the bonus `z` is written.

  Args:
    setup: models, parameters and rules.
    drafted: the state with its drafts pending.
    logits: the teacher's logits after input `length` and after each draft.
    key: PRNG key, or None when greedy.

  Returns:
    The verdict.
  """
  policy, state = drafter(setup), drafted.state
  k = logits.shape[1] - policy.bonus
  stay_key, draw_key = (None, None) if key is None else jax.random.split(key)
  tokens = state_lib.window(state.tokens, state.length + 1, k)
  is_pending = jnp.arange(k)[None, :] < state.pending[:, None]
  judged = Drafts(tokens, drafted.student_logits, logits[:, :k], is_pending)
  stays = policy.stays(judged, stay_key, setup.sampling) & is_pending
  fewest = setup.limits.fewest(state.teacher_calls)
  if fewest is not None:
    kept = (fewest - 1 - state.length)[:, None]
    stays = is_pending & (stays | (jnp.arange(k)[None, :] < kept))
  accepted = jnp.sum(jnp.cumprod(stays.astype(jnp.int32), axis=1), axis=1)
  rejected = accepted < state.pending
  draft = state_lib.window(state.tokens, state.length + accepted + 1, 1)[:, 0]
  end = state.length + accepted
  may_end = setup.limits.may_end(state.teacher_calls, end + 1)
  correction = policy.correct(
      budgets.forbid_end(_entry(logits, accepted), may_end, setup.eos_id),
      None if drafted.student_logits is None else _entry(drafted.student_logits, accepted),
      jnp.where(rejected, draft, -1),
      draw_key,
      setup.sampling,
  )
  last = state_lib.window(state.tokens, end, 1)[:, 0]
  ended = ((accepted > 0) & (last == setup.eos_id)) | (end >= state.asked.shape[1])
  return Verdict(accepted, correction, rejected | (policy.bonus & ~ended))


def _entry(values: Float[Array, "B k V"], index: Int[Array, " B"]) -> Float[Array, "B V"]:
  """Reads one position per row, clipped to the last."""
  index = jnp.minimum(index, values.shape[1] - 1)[:, None, None]
  return jnp.take_along_axis(values, index, axis=1)[:, 0]


def verify(setup: Setup, drafted: Round, key: Key) -> DecodeState:
  """Checks the drafts of the rows that wait, in teacher passes over as few tokens as they allow.

  A prefix of the drafts stays, and the teacher writes after it. Rolling back only lowers lengths:
  cache entries beyond them are stale and will be overwritten. There is no pass while too few rows
  wait, or if none does.
  """
  state, policy = drafted.state, drafter(setup)
  called = state.waiting
  if policy.needs_student:
    called = called & ~state_lib.goes_on(state, drafting_rows(setup, state), setup.wait)
  passes = check_passes(setup, state)
  chosen = choose_pass(passes, called, state.pending + policy.bonus)
  state = forward.teacher_reads(setup, state, called)
  verdict = Verdict(state.pending, jnp.zeros_like(state.pending), jnp.zeros_like(state.done))

  def check(
      now: tuple[DecodeState, Verdict, Array], kind: Pass
  ) -> tuple[DecodeState, Verdict, Array]:
    state, verdict, left = now
    places, rows = None, left
    if kind.few:
      places = rows_lib.first_of(left, kind.rows)
      rows = left & rows_lib.among(places, left.shape[0])
    state, logits = forward.teacher_step(setup.teacher, state, rows, kind.width, places)
    found = judge(setup, drafted._replace(state=state), logits, key)
    verdict = jax.tree.map(lambda new, old: jnp.where(rows, new, old), found, verdict)
    return keep_advice(state, logits, found, rows), verdict, left & ~rows

  # A loop for each kind, of which at most one turns, because a conditional would copy the cache.
  carry = (state._replace(student_cache=None), verdict, called)
  for number, kind in enumerate(passes):
    carry = jax.lax.while_loop(
        lambda now, number=number: jnp.any(now[2]) & (chosen == number),
        lambda now, kind=kind: check(now, kind),
        carry,
    )
  state, verdict, _ = carry
  state = state._replace(student_cache=drafted.state.student_cache)
  return settle(setup, state, verdict, called)


def keep_advice(
    state: DecodeState,
    logits: Float[Array, "B width V"],
    verdict: Verdict,
    called: Bool[Array, " B"],
) -> DecodeState:
  """Keeps what the teacher would have written in place of the drafts that are taken back."""
  if state.advice is None:
    return state
  said = jnp.argmax(logits, axis=-1).astype(jnp.int32)
  draft = jnp.arange(state.advice.shape[1])[None, :] - (state.length + 1)[:, None]
  taken_back = (draft > verdict.accepted[:, None]) & (draft < state.pending[:, None])
  said = jnp.take_along_axis(said, jnp.clip(draft, 0, said.shape[1] - 1), axis=1)
  advice = jnp.where(called[:, None], jnp.where(taken_back, said, -1), state.advice)
  return state._replace(advice=advice)


class Pass(NamedTuple):
  """A kind of pass that checks drafts.

  Attributes:
    rows: rows that it runs on.
    width: inputs of each.
    few: True for the pass over some rows of the batch.
  """

  rows: int
  width: int
  few: bool


def check_passes(setup: Setup, state: DecodeState) -> list[Pass]:
  """Returns the kinds of passes: the whole batch in each width, or fewer rows in the widest.

  Several passes over fewer rows read as many tokens as one over the batch, so of a width above the
  usual one there is no pass over the whole batch besides them.
  """
  B, widths = state.done.shape[0], check_widths(setup, state)
  few = setup.pass_rows
  if few in (None, B) or drafter(setup).needs_student_logits(setup.sampling):
    return [Pass(B, width, few=False) for width in widths]
  whole = [Pass(B, width, few=False) for width in widths[:-1] or widths]
  return [*whole, Pass(few, widths[-1], few=True)]


def choose_pass(
    passes: list[Pass], called: Bool[Array, " B"], inputs: Int[Array, " B"]
) -> Int[Array, ""]:
  """Returns the number of the kind that reads the fewest tokens, padding and repetitions counted.

  A kind that fits the widest row is run as often as it takes to serve all rows that are called.
  """
  widest = jnp.max(jnp.where(called, inputs, 0))
  rows, width = (jnp.array(each, jnp.int32) for each in zip(*(p[:2] for p in passes), strict=True))
  tokens = -(-jnp.sum(called) // rows) * rows * width
  return jnp.argmin(jnp.where(width >= widest, tokens, jnp.iinfo(jnp.int32).max))


def check_widths(setup: Setup, state: DecodeState) -> tuple[int, ...]:
  """Returns the widths of the pass that checks, ascending; the last one fits every draft.

  A budget that may refuse a check lets drafts grow beyond k. A policy that reads the student's
  logits needs them for every input of the pass, so it has one width.
  """
  policy, most = drafter(setup), state.asked.shape[1]
  unbounded = setup.limits.form != "share"
  widest = min(most if unbounded else policy.k, most) + policy.bonus
  if policy.needs_student_logits(setup.sampling):
    return (policy.k + policy.bonus,)
  return (*(width for width in setup.widths if 2 * width <= widest), widest)


def settle(
    setup: Setup, state: DecodeState, verdict: Verdict, called: Bool[Array, " B"]
) -> DecodeState:
  """Commits the drafts that the verdict keeps in the rows that were checked, and the correction."""
  corrected = called & verdict.corrected
  end = state.length + verdict.accepted
  granted = corrected & state.asking & (verdict.accepted == state.pending)
  length = jnp.where(called, end + verdict.corrected, state.length)
  position = jnp.arange(state.asked.shape[1])[None, :]
  here = position == end[:, None]
  tokens = state_lib.write_column(state.tokens, end + 1, verdict.correction, corrected)
  last = state_lib.window(tokens, length, 1)[:, 0]
  full = length == state.asked.shape[1]
  signals = state.signals
  return state._replace(
      tokens=tokens,
      length=length,
      pending=jnp.where(called, 0, state.pending),
      done=state.done | (called & ((last == setup.eos_id) | full)),
      waiting=state.waiting & ~called,
      asking=state.asking & ~called,
      credit=setup.limits.saved(state.credit, length - state.length),
      signals=None if signals is None else signals_lib.clear(signals, called),
      student_len=jnp.where(called, jnp.minimum(state.student_len, length), state.student_len),
      teacher_len=jnp.where(called, jnp.minimum(state.teacher_len, length), state.teacher_len),
      written_by_teacher=state.written_by_teacher | (corrected[:, None] & here),
      asked=state.asked | (granted[:, None] & here),
      asks=state.asks + granted,
  )
