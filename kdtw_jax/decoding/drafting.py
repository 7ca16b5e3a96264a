"""One loop iteration of the policies that draft: a round of drafts and one verification.

Not here: what the policies decide (policies/), policies that write token by token (writing.py),
model calls (forward.py). All rows draft together and are verified together, so one teacher pass
serves the whole batch; a row whose draft is done early (it asks, it drafted EOS, or T is near)
waits. Rounds, tokens and per-row counts of a row do not depend on the other rows.

Shape letters: B batch, T most tokens, V vocabulary; k draft length.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from kdtw_jax.decoding import forward
from kdtw_jax.decoding import sampling as sampling_lib
from kdtw_jax.decoding import state as state_lib
from kdtw_jax.decoding.policies.drafter import Drafter, Drafts
from kdtw_jax.decoding.policies.policy import Observation, present
from kdtw_jax.decoding.sampling import Key
from kdtw_jax.decoding.state import DecodeState, Setup

# After a fully accepted draft the student has not consumed its own last draft nor the bonus token:
# two inputs, one forward.
STUDENT_WIDTH = 2


class Round(NamedTuple):
  """What drafting leaves to the verification.

  Attributes:
    state: the state with `pending` drafts in every row.
    asking: rows that stopped because they ask.
    student_logits: float32, the student's for each draft; None where nobody reads them.
    turn: int32, student steps of this round.
  """

  state: DecodeState
  asking: Bool[Array, " B"]
  student_logits: Float[Array, "B k V"] | None
  turn: Int[Array, ""]


def draft_round(setup: Setup, state: DecodeState) -> DecodeState:
  """Drafts up to k tokens per row, then verifies all drafts with one teacher pass.

  Args:
    setup: models, parameters and rules; the policy is a Drafter with k >= 1.
    state: the state, nothing pending.

  Returns:
    The state, nothing pending, `length` at least one larger in every row that was not done.
  """
  state, gate_key, student_key, teacher_key = state_lib.split_key(state)
  if setup.policy.needs_student:
    drafted = draft_tokens(setup, state, gate_key, student_key)
  else:
    drafted = copy_tokens(setup, state)
  return verify(setup, drafted, teacher_key)


def drafter(setup: Setup) -> Drafter:
  """The policy."""
  assert isinstance(setup.policy, Drafter)
  return setup.policy


def most_drafts(setup: Setup, state: DecodeState) -> Int[Array, " B"]:
  """Most drafts per row: k, and one less than what is left where the teacher writes after them."""
  policy = drafter(setup)
  bonus: bool | Array = policy.bonus
  silenced = policy.silenced(setup.budget)
  if silenced is not None:
    bonus = jnp.where(silenced, 0, int(bonus))
  left = state.asked.shape[1] - state.length - bonus
  return jnp.minimum(policy.k, left)


def drafted_eos(setup: Setup, state: DecodeState) -> Bool[Array, " B"]:
  """Rows whose last draft is EOS."""
  last = state_lib.window(state.tokens, state.length + state.pending, 1)[:, 0]
  return (state.pending > 0) & (last == setup.eos_id)


def drafting_rows(setup: Setup, now: Round) -> Bool[Array, " B"]:
  """Rows that draft another token: they may have more, none of theirs is EOS, and none asks."""
  full = now.state.pending >= most_drafts(setup, now.state)
  return ~(now.state.done | now.asking | full | drafted_eos(setup, now.state))


def draft_tokens(setup: Setup, state: DecodeState, gate_key: Key, student_key: Key) -> Round:
  """Lets the student draft until every row has its drafts."""
  policy, logits = drafter(setup), None
  if policy.needs_student_logits(setup.sampling):
    V = jax.eval_shape(
        lambda: forward.student_step(setup.student, state, state.done, STUDENT_WIDTH)
    )[1].shape[-1]
    logits = jnp.zeros((state.done.shape[0], policy.k, V), jnp.float32)
  # The teacher's cache takes no part: it stays out of the inner loop's carry.
  first = Round(
      state._replace(teacher_cache=None), jnp.zeros_like(state.done), logits, jnp.int32(0)
  )
  drafted = jax.lax.while_loop(
      lambda now: jnp.any(drafting_rows(setup, now)),
      lambda now: draft_token(setup, now, gate_key, student_key),
      first,
  )
  return drafted._replace(state=drafted.state._replace(teacher_cache=state.teacher_cache))


def draft_token(setup: Setup, now: Round, gate_key: Key, student_key: Key) -> Round:
  """One turn of drafting: in each row that drafts on, a token or an ask."""
  rows = drafting_rows(setup, now)
  state, logits, gate_logits = forward.student_step(setup.student, now.state, rows, STUDENT_WIDTH)
  gate_key, student_key = (
      key if key is None else jax.random.fold_in(key, now.turn) for key in (gate_key, student_key)
  )
  length = state.length + state.pending
  seen = Observation(
      logits=logits,
      gate_logits=gate_logits,
      teacher_logits=None,
      length=length,
      asks=state.asks,
      run=jnp.zeros_like(length),
      budget=setup.budget,
  )
  asks = rows & drafter(setup).stop(seen, gate_key)
  writes = rows & ~asks
  token = sampling_lib.choose_token(logits, student_key, setup.sampling)
  kept = now.student_logits
  if kept is not None:  # rows that draft at all have drafted one token in every turn so far
    kept = jax.lax.dynamic_update_slice(kept, logits[:, None], (0, now.turn, 0))
  state = state._replace(
      tokens=state_lib.write_column(state.tokens, length + 1, token, writes),
      pending=state.pending + writes,
  )
  return Round(state, now.asking | asks, kept, now.turn + 1)


def copy_tokens(setup: Setup, state: DecodeState) -> Round:
  """Takes as drafts what the policy copies out of the source and the output."""
  policy = drafter(setup)
  source = jnp.asarray(present(setup.teacher_source), jnp.int32)
  drafts, count = policy.propose(source, state.tokens, state.length)
  pending = jnp.where(state.done, 0, jnp.minimum(count, most_drafts(setup, state)))
  tokens = state.tokens
  for i in range(policy.k):
    column = state.length + 1 + i
    tokens = state_lib.write_column(tokens, column, drafts[:, i], i < pending)
  return Round(
      state._replace(tokens=tokens, pending=pending), jnp.zeros_like(state.done), None, jnp.int32(0)
  )


class Verdict(NamedTuple):
  """What a verification decides.

  Attributes:
    accepted: int32, drafts that stay.
    correction: int32, the token after them.
    corrected: True where it is written: not after an accepted EOS, and not after a full draft of a
      policy without a bonus.
  """

  accepted: Int[Array, " B"]
  correction: Int[Array, " B"]
  corrected: Bool[Array, " B"]


def judge(setup: Setup, drafted: Round, logits: Float[Array, "B width V"], key: Key) -> Verdict:
  """Finds the longest prefix of the drafts that may stay and the token after it.

  Example, greedy and exact, k = 4, pending = 4: drafts `a b c d`, the teacher's argmax `a b x y z`
  keeps `a b` and writes `x`; `a b c d z` keeps all and writes the bonus `z`.

  Args:
    setup: models, parameters and rules.
    drafted: the state with its drafts pending.
    logits: the teacher's, width k + bonus, after input `length` and after each draft.
    key: PRNG key, or None when greedy.

  Returns:
    The verdict.
  """
  policy, state = drafter(setup), drafted.state
  stay_key, draw_key = (None, None) if key is None else jax.random.split(key)
  tokens = state_lib.window(state.tokens, state.length + 1, policy.k)
  judged = Drafts(tokens, drafted.student_logits, logits[:, : policy.k])
  is_pending = jnp.arange(policy.k)[None, :] < state.pending[:, None]
  stays = policy.stays(judged, stay_key, setup.sampling) & is_pending
  accepted = jnp.sum(jnp.cumprod(stays.astype(jnp.int32), axis=1), axis=1)
  rejected = accepted < state.pending
  draft = state_lib.window(state.tokens, state.length + accepted + 1, 1)[:, 0]
  correction = policy.correct(
      _entry(logits, accepted),
      None if drafted.student_logits is None else _entry(drafted.student_logits, accepted),
      jnp.where(rejected, draft, -1),
      draw_key,
      setup.sampling,
  )
  last = state_lib.window(state.tokens, state.length + accepted, 1)[:, 0]
  ended = (accepted > 0) & (last == setup.eos_id)
  return Verdict(accepted, correction, rejected | (policy.bonus & ~ended))


def _entry(values: Float[Array, "B k V"], index: Int[Array, " B"]) -> Float[Array, "B V"]:
  """Reads one position per row (clipped to the last)."""
  index = jnp.minimum(index, values.shape[1] - 1)[:, None, None]
  return jnp.take_along_axis(values, index, axis=1)[:, 0]


def verify(setup: Setup, drafted: Round, key: Key) -> DecodeState:
  """Scores all drafts with one teacher pass, keeps a prefix and lets the teacher write after it.

  Rolling back is lowering lengths: caches beyond them are stale and rewritten. Where no row needs
  the teacher, because all ended by themselves and the policy lets them, or because their budgets
  allow no call, there is no pass.
  """
  state, policy = drafted.state, drafter(setup)
  called, silenced = ~state.done, policy.silenced(setup.budget)
  if not policy.checks_end:
    called = called & ~drafted_eos(setup, state)
  if silenced is not None:
    called = called & ~silenced
  unchecked = Verdict(state.pending, jnp.zeros_like(state.pending), jnp.zeros_like(state.done))

  def check(now: tuple[DecodeState, Verdict, Array]) -> tuple[DecodeState, Verdict, Array]:
    state, logits = forward.teacher_step(setup.teacher, now[0], called, policy.k + policy.bonus)
    found = judge(setup, drafted._replace(state=state), logits, key)
    verdict = jax.tree.map(lambda new, old: jnp.where(called, new, old), found, now[1])
    return state, verdict, jnp.array(False)

  if policy.checks_end and silenced is None:
    state, verdict, _ = check((state, unchecked, jnp.array(True)))
  else:  # a loop of one turn or none: a conditional would copy the cache
    start = (state._replace(student_cache=None), unchecked, jnp.any(called))
    checked, verdict, _ = jax.lax.while_loop(lambda now: now[2], check, start)
    state = checked._replace(student_cache=state.student_cache)
  return settle(setup, state, verdict, drafted.asking)


def settle(
    setup: Setup, state: DecodeState, verdict: Verdict, asking: Bool[Array, " B"]
) -> DecodeState:
  """Takes over what the verdict keeps and writes the correction."""
  active = ~state.done
  corrected = active & verdict.corrected
  end = state.length + verdict.accepted
  granted = corrected & asking & (verdict.accepted == state.pending)
  length = jnp.where(active, end + verdict.corrected, state.length)
  position = jnp.arange(state.asked.shape[1])[None, :]
  here = position == end[:, None]
  tokens = state_lib.write_column(state.tokens, end + 1, verdict.correction, corrected)
  last = state_lib.window(tokens, length, 1)[:, 0]
  full = length == state.asked.shape[1]
  return state._replace(
      tokens=tokens,
      length=length,
      pending=jnp.zeros_like(state.pending),
      done=state.done | (active & ((last == setup.eos_id) | full)),
      student_len=jnp.minimum(state.student_len, length),
      teacher_len=jnp.minimum(state.teacher_len, length),
      written_by_teacher=state.written_by_teacher | (corrected[:, None] & here),
      asked=state.asked | (granted[:, None] & here),
      asks=state.asks + granted,
  )
