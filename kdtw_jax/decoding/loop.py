"""The batched decoding loop: one `lax.while_loop` for every policy, never vmapped.

A handover costs one sequential student step per token and one teacher pass per ask, however many
student tokens came before ("Knowledge Distillation with Training Wheels", arXiv 2502.17717).
Not here: models, which are passed in as base.DecoderFns, and who writes (policies/).

Shape letters: B batch, S source length.
"""

from collections.abc import Callable
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from kdtw_jax import base
from kdtw_jax.decoding import drafting, gating, writing
from kdtw_jax.decoding import state as state_lib
from kdtw_jax.decoding.policies.policy import Policy
from kdtw_jax.decoding.sampling import Key, Sampling
from kdtw_jax.decoding.state import Cache, DecodeResult, DecodeState, Setup

GREEDY = Sampling()


def decode(
    student_fns: base.DecoderFns | None,
    teacher_fns: base.DecoderFns | None,
    student_params: base.Params,
    teacher_params: base.Params,
    student_source: Int[base.ArrayLike, "B S_student"] | None,
    teacher_source: Int[base.ArrayLike, "B S_teacher"] | None,
    budget: Float[base.ArrayLike, " B"],
    key: Key,
    policy: Policy,
    *,
    max_length: int,
    sampling: Sampling = GREEDY,
    chunk: int | tuple[int, ...] = 8,
    cap: str = "none",
    eager: bool = False,
    eos_id: int = base.EOS_ID,
) -> DecodeResult:
  """Decodes a batch; a pure function without jit. `make_decoder` makes the jitted form.

  A model that the policy does not need is not run and has no cache; it may be None, together with
  its parameters and source. A row is padding and emits nothing if a source that is read contains
  only PAD_ID in that row.

  Args:
    student_fns: the student.
    teacher_fns: the teacher.
    student_params: the student's parameters.
    teacher_params: the teacher's parameters.
    student_source: the student's input, including the budget instruction.
    teacher_source: the teacher's input.
    budget: allowed share of asks. At 0 the learned gate never asks. Above 0 the student learns it
      from the instruction, and the cap 'hard' enforces it.
    key: PRNG key; needed only if the sampling or the policy is random.
    policy: who writes which token.
    max_length: most tokens that a row may emit, EOS included; longer rows are cut.
    sampling: how both models choose tokens.
    chunk: inputs that one catch-up pass of the teacher covers; a row that lags by more takes
      several passes. With several widths, e.g. (1, 4, 16), each pass is as narrow as the lag
      allows. A policy that drafts covers its whole draft in one pass instead; a policy that runs
      the teacher at every step uses 1.
    cap: 'none' or 'hard' (see gating.within_cap).
    eager: False lets the teacher catch up when a row asks; True runs it at every step. The tokens
      are the same, and so are the counts per row, which say what the row's own asks would have cost
      alone. Eager is for large batches, where some row asks at nearly every step and most of a
      catch-up pass is wasted.
    eos_id: token that ends a row.

  Returns:
    The tokens, who wrote them, and the counters.

  Raises:
    ValueError: if a setting is impossible, a required model or key is missing, or the sources and
      budgets differ in their number of rows.
  """
  validate(policy, max_length=max_length, sampling=sampling, chunk=chunk, cap=cap)
  _require(policy.needs_student, "student", student_fns, student_source, policy)
  _require(policy.needs_teacher, "teacher", teacher_fns, teacher_source, policy)
  check_batch(
      budget,
      student_source=student_source if policy.needs_student else None,
      teacher_source=teacher_source if policy.needs_teacher else None,
  )
  setup = Setup(
      student=(student_fns, student_params),
      teacher=(teacher_fns, teacher_params),
      teacher_source=teacher_source,
      policy=policy,
      budget=jnp.asarray(budget, jnp.float32),
      sampling=sampling,
      cap=cap,
      widths=widths_of(chunk, max_length),
      eager=eager,
      eos_id=eos_id,
  )
  return result_of(setup, advance(setup, start(setup, student_source, max_length, key)))


def make_decoder(
    student_fns: base.DecoderFns | None,
    teacher_fns: base.DecoderFns | None,
    *,
    max_length: int,
    sampling: Sampling = GREEDY,
    chunk: int | tuple[int, ...] = 8,
    cap: str = "none",
    eager: bool = False,
    eos_id: int = base.EOS_ID,
) -> Callable[..., DecodeResult]:
  """Makes the jitted decoder of a pair of models.

  Parameters, sources and the policy are arguments, not constants, so there is one compilation per
  input shape and per static structure of the policy. The dials of policies made with `make_policy`
  are arrays, so that a sweep over a dial compiles once.

  Args:
    student_fns: the student, or None.
    teacher_fns: the teacher, or None.
    max_length: most tokens that a row may emit, EOS included.
    sampling: how both models choose tokens.
    chunk: inputs that one catch-up pass of the teacher covers, or several widths; `best_chunk`
      finds the best by timing.
    cap: 'none' or 'hard'.
    eager: True for large batches; see `decode`.
    eos_id: token that ends a row.

  Returns:
    The jitted `(student_params, teacher_params, student_source, teacher_source, budget, key,
    policy) -> DecodeResult`, which can be lowered and compiled ahead of time.
  """
  return jax.jit(
      functools.partial(
          decode,
          student_fns,
          teacher_fns,
          max_length=max_length,
          sampling=sampling,
          chunk=chunk,
          cap=cap,
          eager=eager,
          eos_id=eos_id,
      )
  )


def validate(
    policy: Policy, *, max_length: int, sampling: Sampling, chunk: int | tuple[int, ...], cap: str
) -> None:
  """Rejects settings that cannot work, before anything is traced.

  Raises:
    ValueError: if a setting is invalid; names the field, its value and the remedy.
  """
  sampling.validate()
  if max_length < 1:
    raise ValueError(f"max_length={max_length}: must be >= 1")
  if min(_as_tuple(chunk), default=0) < 1:
    raise ValueError(f"chunk={chunk}: must be >= 1")
  if cap not in gating.CAPS:
    raise ValueError(f"cap={cap!r}: must be 'none' or 'hard'")
  if cap == "hard" and (policy.drafts or not policy.needs_student):
    raise ValueError(
        f"cap='hard': policy {policy.name!r} does not ask token by token; use cap='none'"
    )


def widths_of(chunk: int | tuple[int, ...], max_length: int) -> tuple[int, ...]:
  """Returns the widths of a catch-up pass, ascending, none wider than a row can lag."""
  return tuple(sorted({min(width, max_length) for width in _as_tuple(chunk)}))


def _as_tuple(chunk: int | tuple[int, ...]) -> tuple[int, ...]:
  return chunk if isinstance(chunk, tuple) else (chunk,)


def _require(
    needed: bool, who: str, fns: base.DecoderFns | None, source: Any, policy: Policy
) -> None:
  for field, value in ((f"{who}_fns", fns), (f"{who}_source", source)):
    if needed and value is None:
      raise ValueError(f"{field}=None: policy {policy.name!r} runs the {who}; give it")


def check_batch(budget: Any, **sources: Any) -> None:
  """Rejects a batch whose parts differ in their number of rows; costs nothing once compiled.

  Args:
    budget: `[B]` numbers.
    **sources: `[B, S]` token ids by field; None for a model that is not run.

  Raises:
    ValueError: if a part does not fit; names the field, its shape or dtype, and what it must be.
  """
  rows = jnp.shape(budget)
  if len(rows) != 1:
    raise ValueError(f"budget: of shape {rows}, must be [B], one share for each row")
  for field, source in sources.items():
    if source is None:
      continue
    shape, dtype = jnp.shape(source), jnp.result_type(source)
    if len(shape) != 2 or shape[:1] != rows:
      raise ValueError(
          f"{field}: of shape {shape}, must be [{rows[0]}, S], as many rows as budget has"
      )
    if not jnp.issubdtype(dtype, jnp.integer):
      raise ValueError(f"{field}: of dtype {dtype}, must be whole numbers: token ids")


def start(
    setup: Setup,
    student_source: Int[base.ArrayLike, "B S_student"] | None,
    max_length: int,
    key: Key,
) -> DecodeState:
  """Encodes the sources of the models that will run and makes the initial state."""
  draws = setup.policy.draws or not setup.sampling.greedy
  if draws and key is None:
    raise ValueError(f"key=None: policy {setup.policy.name!r} or the sampling draws; give a key")
  padding = jnp.zeros(setup.budget.shape, bool)
  caches: list[Cache] = []
  for needed, model, source in (
      (setup.policy.needs_student, setup.student, student_source),
      (setup.policy.needs_teacher, setup.teacher, setup.teacher_source),
  ):
    cache = None
    if needed:
      source = jnp.asarray(source, jnp.int32)
      padding = padding | jnp.all(source == base.PAD_ID, axis=1)
      fns, params = state_lib.running(model)
      cache = fns.start(params, source, max_length)
    caches.append(cache)
  return state_lib.init_state(
      student_cache=caches[0],
      teacher_cache=caches[1],
      done=padding,
      max_length=max_length,
      key=key if draws else None,
  )


def advance(
    setup: Setup, state: DecodeState, num_done: Int[Array, ""] | None = None
) -> DecodeState:
  """Runs the loop until `num_done` rows are done, or all rows if it is None."""
  step = drafting.draft_round if setup.policy.drafts else writing.write_step
  wanted = state.done.shape[0] if num_done is None else num_done
  return jax.lax.while_loop(
      lambda now: jnp.sum(now.done) < wanted, functools.partial(step, setup), state
  )


def result_of(setup: Setup, state: DecodeState) -> DecodeResult:
  """Returns what the rows have written so far and what it has cost."""
  result = state_lib.finish(state, setup.eos_id)
  return state_lib.count_catch_up(result, setup.widths) if setup.policy.catches_up else result
