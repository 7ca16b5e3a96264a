"""One loop iteration of the policies that write token by token, each token by student or teacher.

Not here: drafts and their verification (drafting.py), model calls (forward.py).
Shape letters: B batch, T most tokens, V vocabulary.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from kdtw_jax.decoding import forward, gating
from kdtw_jax.decoding import sampling as sampling_lib
from kdtw_jax.decoding import state as state_lib
from kdtw_jax.decoding.policies.policy import Observation
from kdtw_jax.decoding.state import DecodeState, Setup


def write_step(setup: Setup, state: DecodeState) -> DecodeState:
  """Writes one token in every active row.

  The steps are: the student step, the teacher step if the policy needs it at every token, the
  decision, the cap, the teacher's catch-up for rows that ask, and the token.

  Args:
    setup: models, parameters and rules.
    state: the state, with nothing pending.

  Returns:
    The state with `length` one larger in every row that was not done.
  """
  state, gate_key, student_key, teacher_key = state_lib.split_key(state)
  active = ~state.done
  if not setup.policy.needs_student:
    state, logits = forward.teacher_step(setup.teacher, state, active, 1)
    token = sampling_lib.choose_token(logits[:, 0], teacher_key, setup.sampling)
    silent = jnp.zeros(active.shape, jnp.float32)
    return write(state, token, active, silent, setup.eos_id)

  state, logits, gate_logits = forward.student_step(setup.student, state, active, 1)
  token = sampling_lib.choose_token(logits, student_key, setup.sampling)
  if not setup.policy.needs_teacher:
    nobody = jnp.zeros(active.shape, bool)
    return write(state, token, nobody, gate_logits, setup.eos_id)

  looks, teacher_logits = setup.policy.teacher_every_step, None
  if looks or setup.eager:
    state, scores = forward.teacher_step(setup.teacher, state, active, 1)
    teacher_logits = scores[:, 0]
  seen = Observation(
      logits,
      gate_logits,
      teacher_logits if looks else None,
      state.length,
      state.asks,
      state.run,
      setup.budget,
  )
  allowed = gating.within_cap(state.asks, state.length, setup.budget, setup.cap)
  ask = active & allowed & setup.policy.ask(seen, gate_key)
  if teacher_logits is not None:
    teacher_token = sampling_lib.choose_token(teacher_logits, teacher_key, setup.sampling)
  else:
    state, teacher_token = forward.teacher_catch_up(
        setup.teacher, state, ask, teacher_key, widths=setup.widths, sampling=setup.sampling
    )
  return write(state, jnp.where(ask, teacher_token, token), ask, gate_logits, setup.eos_id)


def write(
    state: DecodeState,
    token: Int[Array, " B"],
    ask: Bool[Array, " B"],
    gate_logits: Float[Array, " B"],
    eos_id: int,
) -> DecodeState:
  """Appends one token to every active row and marks the rows that end with it as done.

  Args:
    state: the state.
    token: tokens to append.
    ask: True where the teacher wrote the token because the row asked.
    gate_logits: the student's log-odds of asking.
    eos_id: token that ends a row.

  Returns:
    The state; rows that were done are unchanged.
  """
  active = ~state.done
  length = state.length + active
  full = length == state.asked.shape[1]
  return state._replace(
      tokens=state_lib.write_column(state.tokens, state.length + 1, token, active),
      length=length,
      done=state.done | (token == eos_id) | full,
      written_by_teacher=state_lib.write_column(
          state.written_by_teacher, state.length, ask, active
      ),
      asked=state_lib.write_column(state.asked, state.length, ask, active),
      gate_logits=state_lib.write_column(state.gate_logits, state.length, gate_logits, active),
      asks=state.asks + (ask & active),
      run=jnp.where(ask, state.run + 1, 0),
  )
