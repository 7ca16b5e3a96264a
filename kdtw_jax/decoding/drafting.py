"""One loop iteration of the policies that draft: rows draft, and one teacher pass checks drafts.

A row drafts until it asks, has drafted EOS, or has k drafts. Whether an output that has come to its
end is checked at all, the policy decides. Rows whose draft needs the teacher wait until enough of
them do (`Setup.wait`), then one pass serves them all. The drafts, tokens and counts of a row do not
depend on the other rows.

Not here: what the policies decide (policies/), what a budget allows (budgets.py), policies that
write token by token (writing.py), model calls (forward.py).

Shape letters: B batch, T most tokens, V vocabulary; k draft length.
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from kdtw_jax.decoding import budgets, forward
from kdtw_jax.decoding import sampling as sampling_lib
from kdtw_jax.decoding import signals as signals_lib
from kdtw_jax.decoding import state as state_lib
from kdtw_jax.decoding.policies.drafter import Drafter, Drafts
from kdtw_jax.decoding.policies.policy import Observation, present
from kdtw_jax.decoding.sampling import Key
from kdtw_jax.decoding.state import DecodeState, Setup

# After a fully accepted draft, the student still has to consume its last draft and the bonus token:
# two inputs in one forward pass.
STUDENT_WIDTH = 2


class Round(NamedTuple):
  """The carry of the loop in which rows draft.

  Attributes:
    state: the state; drafts are pending in it.
    student_logits: the student's logits for each draft; None if nothing reads them.
    turn: number of student steps in this round.
  """

  state: DecodeState
  student_logits: Float[Array, "B k V"] | None
  turn: Int[Array, ""]


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
    drafted = drafted._replace(state=close_ended(setup, drafted.state, gate_key))
  else:
    drafted = copy_tokens(setup, state)
  return verify(setup, drafted, teacher_key)


def drafter(setup: Setup) -> Drafter:
  """Returns the policy, which is a Drafter."""
  assert isinstance(setup.policy, Drafter)
  return setup.policy


def drafted(state: DecodeState) -> Int[Array, " B"]:
  """Returns the number of tokens with the drafts."""
  return state.length + state.pending


def at_end(setup: Setup, state: DecodeState) -> Bool[Array, " B"]:
  """Returns the rows whose drafts end the output: with EOS, or with T tokens."""
  last = state_lib.window(state.tokens, drafted(state), 1)[:, 0]
  ended = (state.pending > 0) & (last == setup.eos_id)
  return ended | (drafted(state) >= state.asked.shape[1])


def is_full(setup: Setup, state: DecodeState) -> Bool[Array, " B"]:
  """Returns the rows with as many drafts as a check takes: k, or all but the last of T tokens.

  The teacher writes the last one, unless the policy decides about the end itself. A row that its
  budget allows no check drafts on.
  """
  policy = drafter(setup)
  full = state.pending >= policy.k
  if policy.bonus and not policy.decides_end:
    full = full | (drafted(state) + 1 >= state.asked.shape[1])
  return full & may_call(setup, state)


def may_call(setup: Setup, state: DecodeState, *, at_end: bool = False) -> Bool[Array, " B"]:
  """Returns the rows that their budget allows a call now."""
  limits = setup.limits
  allowed = limits.allowed(state.teacher_calls, drafted(state), state.credit, at_end=at_end)
  silenced = setup.policy.silenced(limits.share)
  return allowed if silenced is None else allowed & ~silenced


def drafting_rows(setup: Setup, state: DecodeState) -> Bool[Array, " B"]:
  """Returns the rows that go on drafting."""
  return ~(state.done | state.waiting | is_full(setup, state) | at_end(setup, state))


def draft_tokens(setup: Setup, state: DecodeState, gate_key: Key, student_key: Key) -> Round:
  """Lets the student draft until enough rows need the teacher."""
  policy, logits, wait = drafter(setup), None, setup.wait
  if policy.needs_student_logits(setup.sampling):
    V = jax.eval_shape(
        lambda: forward.student_step(setup.student, state, state.done, STUDENT_WIDTH)
    )[1].logits.shape[-1]
    logits = jnp.zeros((state.done.shape[0], policy.k, V), jnp.float32)
    wait = 1.0  # all rows begin their drafts together, so that one column holds one turn
  # Drafting does not use the teacher's cache, so the inner loop does not carry it.
  last = jax.lax.while_loop(
      lambda now: state_lib.goes_on(now.state, drafting_rows(setup, now.state), wait),
      lambda now: draft_token(setup, now, gate_key, student_key),
      Round(state._replace(teacher_cache=None), logits, jnp.int32(0)),
  )
  return last._replace(state=last.state._replace(teacher_cache=state.teacher_cache))


def draft_token(setup: Setup, now: Round, gate_key: Key, student_key: Key) -> Round:
  """Adds a token or an ask to each row that is still drafting."""
  policy, limits = drafter(setup), setup.limits
  rows = drafting_rows(setup, now.state)
  state, step = forward.student_step(setup.student, now.state, rows, STUDENT_WIDTH)
  gate_key, student_key = (
      key if key is None else jax.random.fold_in(key, now.turn) for key in (gate_key, student_key)
  )
  length, calls = drafted(state), state.teacher_calls
  logits = budgets.forbid_end(step.logits, limits.may_end(calls, length + 1), setup.eos_id)
  token = sampling_lib.choose_token(logits, student_key, setup.sampling)
  signals = state.signals
  if signals is not None:
    signals = signals_lib.add(
        signals, rows, token=token, logits=step.logits, hidden=step.hidden, gap=step.gap
    )
  seen = observe(setup, state._replace(signals=signals, pending=state.pending + 1))
  seen = seen._replace(logits=step.logits, gate_logits=step.gate_logits, length=length)
  score = policy.score(seen, gate_key) - limits.behind(calls, length, state.credit, ~state.done)
  wants = rows & (score > 0) & may_call(setup, state)
  asks, credit = limits.grant(wants, score, state.credit)
  writes = rows & ~asks
  kept = now.student_logits
  if kept is not None:  # each row still drafting has drafted one token in every turn
    kept = jax.lax.dynamic_update_slice(kept, step.logits[:, None], (0, now.turn, 0))
  state = state._replace(
      tokens=state_lib.write_column(state.tokens, length + 1, token, writes),
      pending=state.pending + writes,
      waiting=state.waiting | asks,
      asking=state.asking | asks,
      credit=credit,
      signals=signals,
  )
  return Round(state, kept, now.turn + 1)


def observe(setup: Setup, state: DecodeState) -> Observation:
  """Returns what a policy may know of a draft, without the logits of its next token."""
  policy, signals = drafter(setup), state.signals
  nothing = jnp.zeros_like(setup.limits.share)
  seen = Observation(
      logits=nothing[:, None],
      gate_logits=nothing,
      teacher_logits=None,
      length=drafted(state),
      asks=state.teacher_calls,
      run=jnp.zeros_like(state.length),
      budget=setup.limits.share,
  )
  if signals is None:
    return seen
  seen = seen._replace(signals=signals.values)
  if policy.reads_worth:
    fns, params = state_lib.running(setup.student)
    worth = present(fns.worth)(
        params, *signals_lib.features(signals, drafted(state), state.teacher_calls)
    )
    seen = seen._replace(gain=worth.gain, expected_calls=worth.calls)
  return seen


def close_ended(setup: Setup, state: DecodeState, key: Key) -> DecodeState:
  """Lets each row whose draft is over wait for the teacher, or end its output unchecked."""
  policy, limits, calls = drafter(setup), setup.limits, state.teacher_calls
  undecided = ~(state.done | state.waiting)
  ended, full = undecided & at_end(setup, state), undecided & is_full(setup, state)
  score = policy.at_end(observe(setup, state), key)
  score = score - limits.behind(calls, drafted(state) - 1, state.credit, ~state.done)
  wants = (full & ~ended) | (ended & (score > 0) & may_call(setup, state, at_end=True))
  waits, credit = limits.grant(wants, score, state.credit)
  closed = ended & ~waits
  return state._replace(
      waiting=state.waiting | waits,
      length=jnp.where(closed, drafted(state), state.length),
      credit=limits.saved(credit, jnp.where(closed, state.pending, 0)),
      pending=jnp.where(closed, 0, state.pending),
      done=state.done | closed,
  )


def copy_tokens(setup: Setup, state: DecodeState) -> Round:
  """Takes as drafts the tokens that the policy copies from the source and the output."""
  policy = drafter(setup)
  source = jnp.asarray(present(setup.teacher_source), jnp.int32)
  drafts, count = policy.propose(source, state.tokens, state.length)
  most = jnp.minimum(policy.k, state.asked.shape[1] - state.length - 1)
  pending = jnp.where(state.done, 0, jnp.minimum(count, most))
  tokens = state.tokens
  for i in range(policy.k):
    column = state.length + 1 + i
    tokens = state_lib.write_column(tokens, column, drafts[:, i], i < pending)
  state = state._replace(tokens=tokens, pending=pending, waiting=~state.done)
  return Round(state, None, jnp.int32(0))


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
  """Checks the drafts of the rows that wait with one teacher pass, as narrow as they allow.

  A prefix of the drafts stays, and the teacher writes after it. Rolling back only lowers lengths:
  cache entries beyond them are stale and will be overwritten. There is no pass while too few rows
  wait, or if none does.
  """
  state, policy = drafted.state, drafter(setup)
  called = state.waiting
  if policy.needs_student:
    called = called & ~state_lib.goes_on(state, drafting_rows(setup, state), setup.wait)
  widest = jnp.max(jnp.where(called, state.pending, 0)) + policy.bonus
  verdict = Verdict(state.pending, jnp.zeros_like(state.pending), jnp.zeros_like(state.done))

  def check(
      now: tuple[DecodeState, Verdict, Array], width: int
  ) -> tuple[DecodeState, Verdict, Array]:
    state, logits = forward.teacher_step(setup.teacher, now[0], called, width)
    found = judge(setup, drafted._replace(state=state), logits, key)
    return state, found, jnp.array(False)

  # One loop of at most one turn for each width, because a conditional would copy the cache.
  carry = (state._replace(student_cache=None), verdict, jnp.any(called))
  for narrower, width in itertools.pairwise((0, *check_widths(setup, state))):
    fits = (widest > narrower) & (widest <= width)
    carry = jax.lax.while_loop(
        lambda now, fits=fits: now[2] & fits, lambda now, width=width: check(now, width), carry
    )
  state, verdict, _ = carry
  state = state._replace(student_cache=drafted.state.student_cache)
  return settle(setup, state, verdict, called)


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
