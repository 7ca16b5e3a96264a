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
from kdtw_jax.decoding import checking, forward, writing
from kdtw_jax.decoding import rows as rows_lib
from kdtw_jax.decoding import state as state_lib
from kdtw_jax.decoding.budgets import Budget, Limits, as_budget
from kdtw_jax.decoding.policies.drafter import Drafter
from kdtw_jax.decoding.policies.policy import Policy
from kdtw_jax.decoding.sampling import Key, Sampling
from kdtw_jax.decoding.state import Cache, DecodeResult, DecodeState, Setup

GREEDY = Sampling()
WAIT = 0.5  # faster than 0.75 at 10 to 30% asks, batch 32, two CPU cores: benchmarks/decode.py


def decode(
    student_fns: base.DecoderFns | None,
    teacher_fns: base.DecoderFns | None,
    student_params: base.Params,
    teacher_params: base.Params,
    student_source: Int[base.ArrayLike, "B S_student"] | None,
    teacher_source: Int[base.ArrayLike, "B S_teacher"] | None,
    budget: Budget | Float[base.ArrayLike, " B"],
    key: Key,
    policy: Policy,
    *,
    max_length: int,
    sampling: Sampling = GREEDY,
    chunk: int | tuple[int, ...] = 8,
    wait: float = WAIT,
    pass_rows: int | None = None,
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
    budget: what each row may spend, and how far that is a promise; an array is a share of asks that
      nothing enforces: at 0 the learned gate never asks, above 0 the student learns it from the
      instruction.
    key: PRNG key; needed only if the sampling or the policy is random.
    policy: who writes which token.
    max_length: most tokens that a row may emit, EOS included; longer rows are cut.
    sampling: how both models choose tokens.
    chunk: width in tokens of the teacher's usual pass, or several, e.g. (1, 4, 16); a pass is as
      narrow as its rows allow, and a row that has more unread tokens than the widest gets a pass
      over all of them. A policy that runs the teacher at every step uses 1.
    wait: share of the unfinished rows that must need the teacher before it runs; the others write
      or draft on meanwhile. The greedy outputs and the counts per row are the same at any value.
    pass_rows: rows of the teacher's smaller pass, which checks drafts where several such passes
      read fewer tokens than one over the batch, and then reads their sources; None if every pass
      takes the whole batch. The smaller one is faster where arithmetic takes the time, as on a
      CPU, and slower where reading weights does. The greedy outputs and the counts per row are the
      same. On several devices, and for drafts whose logits of the student are read, passes take the
      whole batch.
    eager: True runs the teacher at every step instead of when rows ask. The greedy outputs and the
      counts per row, which say what the row's own asks would have cost alone, are the same.
    eos_id: token that ends a row.

  Returns:
    The tokens, who wrote them, and the counters.

  Raises:
    ValueError: if a setting is impossible, a required model or key is missing, or the sources and
      budgets differ in their number of rows.
  """
  budget = as_budget(budget)
  validate(
      policy,
      budget,
      max_length=max_length,
      sampling=sampling,
      chunk=chunk,
      wait=wait,
      pass_rows=pass_rows,
  )
  _require(policy.needs_student, "student", student_fns, student_source, policy)
  _require(policy.needs_teacher, "teacher", teacher_fns, teacher_source, policy)
  check_batch(
      budget.share,
      student_source=student_source if policy.needs_student else None,
      teacher_source=teacher_source if policy.needs_teacher else None,
  )
  setup = Setup(
      student=(student_fns, student_params),
      teacher=(teacher_fns, teacher_params),
      teacher_source=teacher_source,
      policy=policy,
      limits=Limits(budget, teacher_source, max_length, unit=policy.pace),
      sampling=sampling,
      widths=widths_of(chunk, max_length),
      wait=wait,
      pass_rows=rows_lib.pass_rows_of(teacher_fns, pass_rows, len(budget.share)),
      alone=len(budget.share) == 1,
      eager=eager,
      eos_id=eos_id,
  )
  return result_of(
      setup, advance(setup, start(setup, student_source, max_length, key, budget.credit))
  )


def make_decoder(
    student_fns: base.DecoderFns | None,
    teacher_fns: base.DecoderFns | None,
    *,
    max_length: int,
    sampling: Sampling = GREEDY,
    chunk: int | tuple[int, ...] = 8,
    wait: float = WAIT,
    pass_rows: int | None = None,
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
    chunk: width of the teacher's usual pass, or several; `best_chunk` finds the best by timing.
    wait: share of the rows that must need the teacher before it runs; see `decode`.
    pass_rows: rows of the teacher's smaller pass; see `decode`.
    eager: True runs the teacher at every step; see `decode`.
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
          wait=wait,
          pass_rows=pass_rows,
          eager=eager,
          eos_id=eos_id,
      )
  )


def validate(
    policy: Policy,
    budget: Budget,
    *,
    max_length: int,
    sampling: Sampling,
    chunk: int | tuple[int, ...],
    wait: float,
    pass_rows: int | None,
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
  if not 0.0 <= wait <= 1.0:
    raise ValueError(f"wait={wait}: must be a share of the rows, 0 to 1")
  if pass_rows is not None and pass_rows < 1:
    raise ValueError(f"pass_rows={pass_rows}: must be >= 1, or None for whole batches")
  if budget.form != "share" and not policy.keeps_budget(sampling):
    raise ValueError(
        f"budget.form={budget.form!r}: policy {policy.name!r} cannot write on without the teacher; "
        "use form='share'"
    )


def widths_of(chunk: int | tuple[int, ...], max_length: int) -> tuple[int, ...]:
  """Returns the widths of a teacher pass, ascending; the widest covers a whole output."""
  whole = max_length + 1
  return tuple(sorted({min(width, whole) for width in _as_tuple(chunk)} | {whole}))


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
    credit: Int[base.ArrayLike, ""] | int = 0,
) -> DecodeState:
  """Encodes the sources of the models that will run and makes the initial state."""
  draws = setup.policy.draws or not setup.sampling.greedy
  if draws and key is None:
    raise ValueError(f"key=None: policy {setup.policy.name!r} or the sampling draws; give a key")
  padding = jnp.zeros(setup.limits.share.shape, bool)
  later = rows_lib.reads_later(setup)
  caches: list[Cache] = []
  for needed, waits, model, source in (
      (setup.policy.needs_student, False, setup.student, student_source),
      (setup.policy.needs_teacher, later, setup.teacher, setup.teacher_source),
  ):
    cache = None
    if needed:
      source = jnp.asarray(source, jnp.int32)
      padding = padding | jnp.all(source == base.PAD_ID, axis=1)
      fns, params = state_lib.running(model)
      if waits:
        cache = forward.unread_cache(fns, params, source, max_length)
      else:
        cache = fns.start(params, source, max_length)
    caches.append(cache)
  signals, advised = None, False
  if isinstance(setup.policy, Drafter):
    advised = setup.policy.heeds_advice and setup.sampling.greedy
    if setup.policy.reads_signals:
      signals = state_lib.first_signals(setup.student, caches[0], len(padding))
  return state_lib.init_state(
      student_cache=caches[0],
      teacher_cache=caches[1],
      teacher_read=not later,
      done=padding,
      max_length=max_length,
      key=key if draws else None,
      credit=credit,
      signals=signals,
      advised=advised,
  )


def advance(
    setup: Setup, state: DecodeState, num_done: Int[Array, ""] | None = None
) -> DecodeState:
  """Runs the loop until `num_done` rows are done, all rows if it is None, or it is to pause."""
  if setup.policy.drafts:
    step = checking.draft_round
  else:
    lags = setup.policy.catches_up and not setup.eager
    step = writing.write_round if lags else writing.write_step
  wanted = state.done.shape[0] if num_done is None else num_done
  return jax.lax.while_loop(
      lambda now: (jnp.sum(now.done) < wanted) & ~state_lib.is_paused(setup, now),
      functools.partial(step, setup),
      state,
  )


def result_of(setup: Setup, state: DecodeState) -> DecodeResult:
  """Returns what the rows have written so far and what it has cost."""
  result = state_lib.finish(state, setup.eos_id)
  return state_lib.count_catch_up(result) if setup.policy.catches_up else result
