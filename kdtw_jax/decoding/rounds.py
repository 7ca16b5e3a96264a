"""A drafter's decoding one round at a time, for those who want to know what it knew at each end.

Not here: the loop that decodes (loop.py), and what is made of the decisions (stages/).

Shape letters: B batch, T most tokens, D width, E signals of a decision.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from kdtw_jax import base
from kdtw_jax.decoding import checking, drafting, loop
from kdtw_jax.decoding import signals as signals_lib
from kdtw_jax.decoding import state as state_lib
from kdtw_jax.decoding.budgets import Limits, as_budget
from kdtw_jax.decoding.policies.policy import Policy, present
from kdtw_jax.decoding.sampling import Sampling
from kdtw_jax.decoding.state import DecodeResult, DecodeState, Setup


class Decision(NamedTuple):
  """What is known of each row's draft before the teacher checks it.

  Attributes:
    made: True for rows whose draft the teacher checks next.
    tokens: the output with its draft, then PAD_ID.
    calls: calls before this one.
    hidden: the decoder state that predicted the last draft.
    hidden_mean: the mean of these states over the draft.
    signals: signals of the draft, the tokens of the output, and the calls before this one.
  """

  made: Bool[base.ArrayLike, " B"]
  tokens: Int[base.ArrayLike, "B T"]
  calls: Int[base.ArrayLike, " B"]
  hidden: Float[base.ArrayLike, "B D"]
  hidden_mean: Float[base.ArrayLike, "B D"]
  signals: Float[base.ArrayLike, "B E"]


class Rounds(NamedTuple):
  """A decoder in three jitted functions.

  Attributes:
    start: `(params, teacher_params, batch) -> DecodeState`.
    play: `(params, teacher_params, batch, state) -> (DecodeState, Decision)`, donating the state:
      rows draft until enough of them need the teacher, then it checks their drafts.
    finish: `(state) -> DecodeResult`.
  """

  start: Callable[..., DecodeState]
  play: Callable[..., tuple[DecodeState, Decision]]
  finish: Callable[[DecodeState], DecodeResult]


def make_rounds(
    student_fns: base.DecoderFns,
    teacher_fns: base.DecoderFns,
    policy: Policy,
    *,
    max_length: int,
    chunk: int = 8,
    eos_id: int = base.EOS_ID,
) -> Rounds:
  """Makes a greedy decoder of one policy whose rounds can be looked into.

  Args:
    student_fns: the student.
    teacher_fns: the teacher.
    policy: a drafter that reads signals and draws nothing.
    max_length: most tokens that a row may emit, EOS included.
    chunk: width in tokens of the teacher's narrower pass.
    eos_id: token that ends a row.
  """

  def setup_of(params: base.Params, teacher_params: base.Params, batch: base.Batch) -> Setup:
    return Setup(
        student=(student_fns, params),
        teacher=(teacher_fns, teacher_params),
        teacher_source=jnp.asarray(batch.teacher_source),
        policy=policy,
        limits=Limits(as_budget(batch.budget), batch.teacher_source, max_length, unit=policy.pace),
        sampling=Sampling(),
        widths=loop.widths_of(chunk, max_length),
        wait=loop.WAIT,
        pass_rows=None,
        alone=False,
        eager=False,
        eos_id=eos_id,
    )

  def start(params, teacher_params, batch: base.Batch) -> DecodeState:
    setup = setup_of(params, teacher_params, batch)
    return loop.start(setup, batch.student_source, max_length, None)

  def play(params, teacher_params, batch: base.Batch, state: DecodeState):
    setup = setup_of(params, teacher_params, batch)
    drafted = drafting.draft_tokens(setup, state, None, None)
    state = drafting.close_ended(setup, drafted.state)
    hidden, hidden_mean, signals = signals_lib.features(
        present(state.signals), drafting.drafted(state), state.teacher_calls
    )
    whole = state._replace(length=drafting.drafted(state))
    checked = checking.verify(setup, drafted._replace(state=state), None)
    decision = Decision(
        made=checked.teacher_calls > state.teacher_calls,
        tokens=state_lib.finish(whole, eos_id).tokens,
        calls=state.teacher_calls,
        hidden=hidden,
        hidden_mean=hidden_mean,
        signals=signals,
    )
    return checked, decision

  def finish(state: DecodeState) -> DecodeResult:
    return state_lib.finish(state, eos_id)

  return Rounds(jax.jit(start), jax.jit(play, donate_argnums=3), jax.jit(finish))
