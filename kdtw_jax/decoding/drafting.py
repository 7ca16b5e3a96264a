"""One loop iteration of the policies that draft: a round of drafts and one verification.

Not here: what the policies decide (policies/), policies that write token by token (writing.py),
model calls (forward.py). All rows draft together and are verified together, so one teacher pass
serves the whole batch. A row whose draft ends early waits for the others: it asks, drafted EOS, or
is close to T. The rounds, tokens and counts of a row do not depend on the other rows.

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

# After a fully accepted draft, the student still has to consume its last draft and the bonus token:
# two inputs in one forward pass.
STUDENT_WIDTH = 2


class Round(NamedTuple):
  """The result of drafting, which the verification reads.

  Attributes:
    state: the state with `pending` drafts in every row.
    asking: rows that stopped drafting because they ask.
    student_logits: the student's logits for each draft; None if nothing reads them.
    turn: number of student steps in this round.
  """

  state: DecodeState
  asking: Bool[Array, " B"]
  student_logits: Float[Array, "B k V"] | None
  turn: Int[Array, ""]


def draft_round(setup: Setup, state: DecodeState) -> DecodeState:
  """Drafts up to k tokens per row, then verifies all drafts with one teacher pass.

  Args:
    setup: models, parameters and rules; the policy is a Drafter with k >= 1.
    state: the state, with nothing pending.

  Returns:
    The state with nothing pending and a larger `length` in every row that was not done.
  """
  state, gate_key, student_key, teacher_key = state_lib.split_key(state)
  if setup.policy.needs_student:
    drafted = draft_tokens(setup, state, gate_key, student_key)
  else:
    drafted = copy_tokens(setup, state)
  return verify(setup, drafted, teacher_key)


def drafter(setup: Setup) -> Drafter:
  """Returns the policy, which is a Drafter."""
  assert isinstance(setup.policy, Drafter)
  return setup.policy


def most_drafts(setup: Setup, state: DecodeState) -> Int[Array, " B"]:
  """Returns the most drafts per row: k, or what fits before T along with the teacher's token."""
  policy = drafter(setup)
  bonus: bool | Array = policy.bonus
  silenced = policy.silenced(setup.budget)
  if silenced is not None:
    bonus = jnp.where(silenced, 0, int(bonus))
  left = state.asked.shape[1] - state.length - bonus
  return jnp.minimum(policy.k, left)


def drafted_eos(setup: Setup, state: DecodeState) -> Bool[Array, " B"]:
  """Returns the rows whose last draft is EOS."""
  last = state_lib.window(state.tokens, state.length + state.pending, 1)[:, 0]
  return (state.pending > 0) & (last == setup.eos_id)


def drafting_rows(setup: Setup, now: Round) -> Bool[Array, " B"]:
  """Returns the rows that go on drafting: not full, not ended by EOS and not asking."""
  full = now.state.pending >= most_drafts(setup, now.state)
  return ~(now.state.done | now.asking | full | drafted_eos(setup, now.state))


def draft_tokens(setup: Setup, state: DecodeState, gate_key: Key, student_key: Key) -> Round:
  """Lets the student draft until no row needs another draft."""
  policy, logits = drafter(setup), None
  if policy.needs_student_logits(setup.sampling):
    V = jax.eval_shape(
        lambda: forward.student_step(setup.student, state, state.done, STUDENT_WIDTH)
    )[1].shape[-1]
    logits = jnp.zeros((state.done.shape[0], policy.k, V), jnp.float32)
  # Drafting does not use the teacher's cache, so the inner loop does not carry it.
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
  """Adds a token or an ask to each row that is still drafting."""
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
  if kept is not None:  # each row still drafting has drafted one token in every turn
    kept = jax.lax.dynamic_update_slice(kept, logits[:, None], (0, now.turn, 0))
  state = state._replace(
      tokens=state_lib.write_column(state.tokens, length + 1, token, writes),
      pending=state.pending + writes,
  )
  return Round(state, now.asking | asks, kept, now.turn + 1)


def copy_tokens(setup: Setup, state: DecodeState) -> Round:
  """Takes as drafts the tokens that the policy copies from the source and the output."""
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
  """The decision of a verification.

  Attributes:
    accepted: number of drafts that are kept.
    correction: the token after them.
    corrected: True where the correction is written. It is not written after an accepted EOS, nor
      after a fully accepted draft if the policy has no bonus token.
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
    logits: the teacher's logits after input `length` and after each draft; width k + bonus.
    key: PRNG key, or None when greedy.

  Returns:
    The verdict.
  """
  policy, state = drafter(setup), drafted.state
  stay_key, draw_key = (None, None) if key is None else jax.random.split(key)
  tokens = state_lib.window(state.tokens, state.length + 1, policy.k)
  real = jnp.arange(policy.k)[None, :] < state.pending[:, None]
  judged = Drafts(tokens, drafted.student_logits, logits[:, : policy.k], real)
  stays = policy.stays(judged, stay_key, setup.sampling) & real
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
  """Reads one position per row, clipped to the last."""
  index = jnp.minimum(index, values.shape[1] - 1)[:, None, None]
  return jnp.take_along_axis(values, index, axis=1)[:, 0]


def verify(setup: Setup, drafted: Round, key: Key) -> DecodeState:
  """Scores all drafts with one teacher pass, keeps a prefix and lets the teacher write after it.

  Rolling back only lowers lengths: cache entries beyond them are stale and will be overwritten. The
  pass is skipped if no row needs the teacher. A row does not need it if it drafted EOS and the
  policy lets that end the row unchecked, or if its budget allows no call.
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
  else:  # a loop of at most one turn, because a conditional would copy the cache
    start = (state._replace(student_cache=None), unchecked, jnp.any(called))
    checked, verdict, _ = jax.lax.while_loop(lambda now: now[2], check, start)
    state = checked._replace(student_cache=state.student_cache)
  return settle(setup, state, verdict, drafted.asking)


def settle(
    setup: Setup, state: DecodeState, verdict: Verdict, asking: Bool[Array, " B"]
) -> DecodeState:
  """Commits the drafts that the verdict keeps and writes the correction."""
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
