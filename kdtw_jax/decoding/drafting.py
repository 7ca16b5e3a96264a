"""How rows draft until they need the teacher, or their output ends unchecked.

A row drafts until it asks, has drafted EOS, or has k drafts. Whether an output that has come to its
end is checked at all, the policy decides. Not here: the check, and the loop's iteration
(checking.py), what the policies decide (policies/), what a budget allows (budgets.py), model calls
(forward.py).

Shape letters: B batch, T most tokens, V vocabulary; k draft length.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from kdtw_jax.decoding import budgets, forward
from kdtw_jax.decoding import sampling as sampling_lib
from kdtw_jax.decoding import signals as signals_lib
from kdtw_jax.decoding import state as state_lib
from kdtw_jax.decoding.policies.drafter import Drafter
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

  def goes_on(now: Round) -> Bool[Array, ""]:
    going = state_lib.goes_on(now.state, drafting_rows(setup, now.state), wait)
    if logits is not None:  # they are not kept from one round to the next
      return going
    return going & ~state_lib.is_paused(setup, now.state)

  # Drafting does not use the teacher's cache, so the inner loop does not carry it.
  last = jax.lax.while_loop(
      goes_on,
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
  token, advised = take_advice(setup, state, token)
  signals = state.signals
  if signals is not None:
    signals = signals_lib.add(
        *(signals, rows & ~advised),
        token=token,
        logits=step.logits,
        hidden=step.hidden,
        gap=step.gap,
    )
  seen = observe(setup, state._replace(signals=signals, pending=state.pending + 1))
  seen = seen._replace(logits=step.logits, gate_logits=step.gate_logits, length=length)
  score = policy.score(seen, gate_key) - limits.behind(calls, length, state.credit, ~state.done)
  wants = rows & (score > 0) & may_call(setup, state)
  asks, credit = limits.grant(wants, score, state.credit)
  writes = rows & ~asks
  written, kept = state.written_by_teacher, now.student_logits
  if state.advice is not None:
    written = state_lib.write_column(written, length, advised, writes)
  if kept is not None:  # each row still drafting has drafted one token in every turn
    kept = jax.lax.dynamic_update_slice(kept, step.logits[:, None], (0, now.turn, 0))
  state = state._replace(
      tokens=state_lib.write_column(state.tokens, length + 1, token, writes),
      written_by_teacher=written,
      pending=state.pending + writes,
      waiting=state.waiting | asks,
      asking=state.asking | asks,
      credit=credit,
      signals=signals,
  )
  return Round(state, kept, now.turn + 1)


def take_advice(
    setup: Setup, state: DecodeState, token: Int[Array, " B"]
) -> tuple[Int[Array, " B"], Bool[Array, " B"]]:
  """Replaces the tokens about which the teacher has said something already.

  A check takes back a draft from its first fault on, but the teacher has seen all of it. Where the
  student writes the same token again at the same position, it takes what the teacher would have
  written there instead. That was said of the old draft, so the next check may take it back.

  Args:
    setup: models, parameters and rules.
    state: the state; beyond the output, `tokens` still has the old draft.
    token: the student's choices.

  Returns:
    The tokens to draft, and the rows in which the teacher's was taken.
  """
  if state.advice is None:
    return token, jnp.zeros_like(state.done)
  column = drafted(state) + 1
  before, said = (state_lib.window(each, column, 1)[:, 0] for each in (state.tokens, state.advice))
  taken = (said >= 0) & (token == before)
  may_end = setup.limits.may_end(state.teacher_calls, column)
  if may_end is not None:
    taken = taken & (may_end | (said != setup.eos_id))
  return jnp.where(taken, said, token), taken


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


def close_ended(setup: Setup, state: DecodeState) -> DecodeState:
  """Lets each row whose draft is over wait for the teacher, or end its output unchecked."""
  policy, limits, calls = drafter(setup), setup.limits, state.teacher_calls
  undecided = ~(state.done | state.waiting)
  ended, full = undecided & at_end(setup, state), undecided & is_full(setup, state)
  score = policy.at_end(observe(setup, state))
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
