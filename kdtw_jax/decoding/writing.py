"""One loop iteration of the policies that write token by token.

Rows write on until they ask. A row that asks waits, and one teacher pass serves all that wait
(`write_round`). Policies that run one model alone, or look at the teacher at every token, write one
token in every row (`write_step`).

Not here: who asks (policies/), what a budget allows (budgets.py), model calls (forward.py),
policies that draft (drafting.py). Shape letters: B batch, T most tokens.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from kdtw_jax.decoding import budgets, forward
from kdtw_jax.decoding import sampling as sampling_lib
from kdtw_jax.decoding import state as state_lib
from kdtw_jax.decoding.policies.policy import Observation
from kdtw_jax.decoding.sampling import Key
from kdtw_jax.decoding.state import DecodeState, Setup


def write_round(setup: Setup, state: DecodeState) -> DecodeState:
  """Lets the student write until enough rows ask, then the teacher in all rows that do.

  Args:
    setup: models, parameters and rules.
    state: the state, with nothing pending.

  Returns:
    The state with a larger `length` in at least one row that was not done, unless it is paused.
  """

  def goes_on(now: DecodeState) -> Bool[Array, ""]:
    return state_lib.goes_on(now, ~now.done & ~now.waiting, setup.wait)

  # The student's loop does not use the teacher's cache, so it does not carry it.
  written = jax.lax.while_loop(
      lambda now: goes_on(now) & ~state_lib.is_paused(setup, now),
      functools.partial(_student_turn, setup),
      state._replace(teacher_cache=None),
  )
  state = written._replace(teacher_cache=state.teacher_cache)
  state, _, _, teacher_key = state_lib.split_key(state)
  rows = state.waiting & ~goes_on(state)  # too few may wait if the loop is paused
  state = forward.teacher_reads(setup, state, rows)
  state, token = forward.teacher_catch_up(
      setup.teacher,
      state,
      rows,
      teacher_key,
      widths=setup.widths,
      sampling=setup.sampling,
      may_end=setup.limits.may_end(state.asks + 1, state.length + 1),
      eos_id=setup.eos_id,
  )
  return write(setup, state, token, rows, by_teacher=rows)


def _student_turn(setup: Setup, state: DecodeState) -> DecodeState:
  """Writes the student's token in each row that goes on, unless the row asks."""
  state, gate_key, student_key, _ = state_lib.split_key(state)
  rows = ~state.done & ~state.waiting
  state, seen = forward.student_step(setup.student, state, rows, 1)
  state, asks = _asks(setup, state, rows, seen, None, gate_key)
  token = _student_token(setup, state, seen, student_key)
  state = write(setup, state, token, rows & ~asks, by_teacher=jnp.zeros_like(rows))
  return state._replace(waiting=state.waiting | asks)


def write_step(setup: Setup, state: DecodeState) -> DecodeState:
  """Writes one token in every active row.

  The steps are: the student step, the teacher step, the decision, and the token.

  Args:
    setup: models, parameters and rules; the teacher runs at every step or not at all.
    state: the state, with nothing pending.

  Returns:
    The state with `length` one larger in every row that was not done.
  """
  state, gate_key, student_key, teacher_key = state_lib.split_key(state)
  rows, nobody = ~state.done, jnp.zeros_like(state.done)
  if not setup.policy.needs_student:
    state, logits = forward.teacher_step(setup.teacher, state, rows, 1)
    token = sampling_lib.choose_token(logits[:, 0], teacher_key, setup.sampling)
    return write(setup, state, token, rows, by_teacher=rows)

  state, seen = forward.student_step(setup.student, state, rows, 1)
  if not setup.policy.needs_teacher:
    state = _note_gate(state, rows, seen.gate_logits)
    token = sampling_lib.choose_token(seen.logits, student_key, setup.sampling)
    return write(setup, state, token, rows, by_teacher=nobody)

  state, logits = forward.teacher_step(setup.teacher, state, rows, 1)
  looks = setup.policy.teacher_every_step
  state, asks = _asks(setup, state, rows, seen, logits[:, 0] if looks else None, gate_key)
  may_end = setup.limits.may_end(state.asks + 1, state.length + 1)
  logits = budgets.forbid_end(logits[:, 0], may_end, setup.eos_id)
  teacher_token = sampling_lib.choose_token(logits, teacher_key, setup.sampling)
  token = jnp.where(asks, teacher_token, _student_token(setup, state, seen, student_key))
  return write(setup, state, token, rows, by_teacher=asks)


def _asks(
    setup: Setup,
    state: DecodeState,
    rows: Bool[Array, " B"],
    seen: forward.StudentStep,
    teacher_logits: Float[Array, "B V"] | None,
    key: Key,
) -> tuple[DecodeState, Bool[Array, " B"]]:
  """Decides which of the rows ask, and takes their asks from a ledger."""
  limits = setup.limits
  score = setup.policy.score(
      Observation(
          logits=seen.logits,
          gate_logits=seen.gate_logits,
          teacher_logits=teacher_logits,
          length=state.length,
          asks=state.asks,
          run=state.run,
          budget=limits.share,
      ),
      key,
  )
  score = score - limits.behind(state.asks, state.length, state.credit, ~state.done)
  wants = rows & (score > 0) & limits.allowed(state.asks, state.length, state.credit)
  asks, credit = limits.grant(wants, score, state.credit)
  return _note_gate(state, rows, seen.gate_logits)._replace(credit=credit), asks


def _student_token(
    setup: Setup, state: DecodeState, seen: forward.StudentStep, key: Key
) -> Int[Array, " B"]:
  """Chooses the student's token; it may not be EOS where the budget needs a longer output."""
  may_end = setup.limits.may_end(state.asks, state.length + 1)
  logits = budgets.forbid_end(seen.logits, may_end, setup.eos_id)
  return sampling_lib.choose_token(logits, key, setup.sampling)


def _note_gate(
    state: DecodeState, rows: Bool[Array, " B"], gate_logits: Float[Array, " B"]
) -> DecodeState:
  """Records the log-odds of asking at the token that is written next."""
  noted = state_lib.write_column(state.gate_logits, state.length, gate_logits, rows)
  return state._replace(gate_logits=noted)


def write(
    setup: Setup,
    state: DecodeState,
    token: Int[Array, " B"],
    rows: Bool[Array, " B"],
    *,
    by_teacher: Bool[Array, " B"],
) -> DecodeState:
  """Appends one token to some rows and marks those that end with it as done.

  Args:
    setup: EOS and the limits.
    state: the state.
    token: tokens to append.
    rows: the rows to append to, none of them done.
    by_teacher: True where the teacher wrote the token because the row asked.

  Returns:
    The state; other rows are unchanged.
  """
  by_teacher = by_teacher & rows
  length = state.length + rows
  full = length == state.asked.shape[1]
  at = state.length
  return state._replace(
      tokens=state_lib.write_column(state.tokens, at + 1, token, rows),
      length=length,
      done=state.done | (rows & ((token == setup.eos_id) | full)),
      waiting=state.waiting & ~rows,
      credit=setup.limits.saved(state.credit, rows.astype(jnp.int32)),
      written_by_teacher=state_lib.write_column(state.written_by_teacher, at, by_teacher, rows),
      asked=state_lib.write_column(state.asked, at, by_teacher, rows),
      asks=state.asks + by_teacher,
      run=jnp.where(rows, jnp.where(by_teacher, state.run + 1, 0), state.run),
  )
