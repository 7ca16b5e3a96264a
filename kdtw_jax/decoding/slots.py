"""Slots: rows of one batch that requests take and leave while the others are being written.

All shapes are fixed, so that a few programs serve everything. The dials of policies are arrays with
an entry per row: requests with other dials share a program, those with another kind of policy do
not. Greedy outputs do not depend on the other requests in the batch; drawn ones do, because all
rows share one key.

Not here: which request comes next (continuous.py for a list, serving/ for those that come as they
like).

Shape letters: B slots, R requests admitted at once, S source length.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Bool, Float, Int
import numpy as np

from kdtw_jax import base
from kdtw_jax.decoding import loop
from kdtw_jax.decoding import rows as rows_lib
from kdtw_jax.decoding.budgets import Budget, Limits
from kdtw_jax.decoding.policies.policy import Policy
from kdtw_jax.decoding.sampling import Key, Sampling
from kdtw_jax.decoding.state import DecodeResult, DecodeState, Setup

Params = tuple[base.Params, base.Params]  # the student's and the teacher's
_FOREVER = np.int32(2**30)  # passes of both models that no batch comes to


class Request(NamedTuple):
  """One text to decode; all requests of the same slots are padded to the same lengths with PAD_ID.

  Attributes:
    student_source: the student's input.
    teacher_source: the teacher's input.
    budget: B, the share of its tokens that the request may spend; see budgets.Budget.
    calls: n, the calls that it may spend.
  """

  student_source: Int[np.ndarray, " S_student"]
  teacher_source: Int[np.ndarray, " S_teacher"]
  budget: float = 0.0
  calls: int = 0


class _Rows(NamedTuple):
  """The arrays that the compiled programs pass on.

  Attributes:
    state: the loop's state; a free slot is a row that is done.
    teacher_source: the teacher's inputs, for policies that copy from them.
    share: B of each request.
    calls: n of each request.
    policy: who writes, with dials of shape `[B]`.
  """

  state: DecodeState | None
  teacher_source: Int[Array, "B S"]
  share: Float[Array, " B"]
  calls: Int[Array, " B"]
  policy: Policy


class SlotPrograms:
  """The compiled programs of slots, which all slots of the same settings share.

  Attributes:
    batch: B, the number of slots.
    refill: the most requests that are admitted at once.
    begin: `(params, student_source, teacher_source, share, calls, key, policy) -> rows`, just
      admitted.
    admit: `(by_row, rows, fresh, places) -> rows` with the fresh requests in these places.
    advance: `(params, rows, num_done, steps) -> rows`, of which `num_done` are done, or which have
      paused after `steps` passes.
    harvest: `(params, rows) -> DecodeResult` of all slots.
    stop: `(rows, stopped [B]) -> rows` of which these are done.
  """

  def __init__(
      self,
      student_fns: base.DecoderFns | None,
      teacher_fns: base.DecoderFns | None,
      *,
      batch: int,
      max_length: int,
      refill: int | None = None,
      sampling: Sampling = loop.GREEDY,
      chunk: int | tuple[int, ...] = 8,
      terms: Budget | None = None,
      wait: float = loop.WAIT,
      pass_rows: int | None = None,
      eager: bool = False,
      eos_id: int = base.EOS_ID,
  ):
    """Takes the models and settings.

    Args:
      student_fns: the student, or None.
      teacher_fns: the teacher, or None.
      batch: B, the number of slots.
      max_length: most tokens of a request.
      refill: the most requests that are admitted at once; by default an eighth of the batch. A
        smaller number keeps the slots fuller; a larger one encodes less often.
      sampling: how tokens are chosen.
      chunk: as in `loop.decode`.
      terms: the form of all budgets, with its pace and `shortest`; None promises nothing.
      wait: as in `loop.decode`.
      pass_rows: as in `loop.decode`.
      eager: as in `loop.decode`.
      eos_id: token that ends a request.

    Raises:
      ValueError: if a setting is impossible.
    """
    self.batch = batch
    self.refill = max(1, batch // 8) if refill is None else refill
    if not 1 <= self.refill <= batch:
      raise ValueError(f"refill={refill}: must be from 1 to the batch of {batch}")
    self._terms, self._max_length = Budget(()) if terms is None else terms, max_length
    self._fns = (student_fns, teacher_fns)
    self._setup = functools.partial(
        Setup,
        sampling=sampling,
        widths=loop.widths_of(chunk, max_length),
        wait=wait,
        pass_rows=rows_lib.pass_rows_of(teacher_fns, pass_rows, batch),
        alone=batch == 1,
        eager=eager,
        eos_id=eos_id,
    )
    self._validate = functools.partial(
        loop.validate,
        budget=self._terms,
        max_length=max_length,
        sampling=sampling,
        chunk=chunk,
        wait=wait,
        pass_rows=pass_rows,
    )
    self.begin = jax.jit(self._begin)
    self.admit = jax.jit(_admit, static_argnums=0, donate_argnums=1)
    self.advance = jax.jit(self._advance, donate_argnums=1)
    self.harvest = jax.jit(self._harvest)
    self.stop = jax.jit(_stop, donate_argnums=0)

  def validate(self, policy: Policy) -> None:
    """Rejects a policy that cannot work in these slots.

    Raises:
      ValueError: if it cannot keep the form of the budgets, or has a dial per row already.
    """
    self._validate(policy)
    if any(np.ndim(leaf) for leaf in jax.tree.leaves(policy)):
      raise ValueError(
          f"policy {policy.name}: has a dial per row, but rows change here; give one dial"
      )

  def _setup_of(self, params: Params, rows: _Rows, pause: Any = None) -> Setup:
    student, teacher = zip(self._fns, params, strict=True)
    return self._setup(
        student=student,
        teacher=teacher,
        teacher_source=rows.teacher_source,
        policy=rows.policy,
        limits=Limits(
            dataclasses.replace(self._terms, share=rows.share, calls=rows.calls),
            rows.teacher_source,
            self._max_length,
            unit=rows.policy.pace,
        ),
        pause=pause,
    )

  def _begin(self, params, student_source, teacher_source, share, calls, key, policy) -> _Rows:
    rows = _Rows(None, teacher_source, share, calls, policy)
    setup = self._setup_of(params, rows)
    credit = self._terms.credit
    state = loop.start(setup, student_source, self._max_length, key, credit)
    return rows._replace(state=state)

  def _advance(self, params, rows, num_done, steps) -> _Rows:
    state = rows.state
    begun = state.student_steps + state.teacher_passes
    setup = self._setup_of(params, rows, pause=(begun, steps))
    return rows._replace(state=loop.advance(setup, state, num_done))

  def _harvest(self, params, rows) -> DecodeResult:
    return loop.result_of(self._setup_of(params, rows), rows.state)


def _admit(by_row: tuple[bool, ...], rows: _Rows, fresh: _Rows, places: Int[Array, " R"]) -> _Rows:
  """Writes the rows of `fresh` into these places; places from B on write nothing."""
  old, tree = jax.tree.flatten(rows)
  placed = [
      have.at[places].set(new, mode="drop", unique_indices=True) if varies else have
      for have, new, varies in zip(old, jax.tree.leaves(fresh), by_row, strict=True)
  ]
  return jax.tree.unflatten(tree, placed)


def _stop(rows: _Rows, stopped: Bool[Array, " B"]) -> _Rows:
  """Ends some rows where they are."""
  state = rows.state
  assert state is not None
  waiting = state.waiting & ~stopped  # so that no pass of the teacher is for them
  return rows._replace(state=state._replace(done=state.done | stopped, waiting=waiting))


class Slots:
  """The slots of one kind of policy, all free at the start."""

  def __init__(
      self, programs: SlotPrograms, params: Params, example: Request, key: Key, policy: Policy
  ):
    """Opens the slots.

    Args:
      programs: the programs, for the form of all budgets.
      params: parameters of the student and the teacher.
      example: a request as long as all are padded.
      key: PRNG key, shared by all rows; needed only if the sampling or the policy is random.
      policy: who writes; requests may have other dials.

    Raises:
      ValueError: if the policy cannot work in slots.
    """
    programs.validate(policy)
    self._programs, self._params, self._key = programs, params, key
    self._empty = example._replace(
        student_source=np.zeros_like(example.student_source),
        teacher_source=np.zeros_like(example.teacher_source),
    )
    self._policy = policy
    self._rows = self._begin([(self._empty, policy)] * programs.batch)
    wider = jax.eval_shape(
        programs.begin, *self._arguments([(self._empty, policy)] * (programs.batch + 1))
    )
    by_row = jax.tree.map(lambda a, b: a.shape != b.shape, self._rows, wider)
    self._by_row = tuple(jax.tree.leaves(by_row))

  def _begin(self, requests: Sequence[tuple[Request, Policy]]) -> _Rows:
    """Begins some requests, which are in no slot yet."""
    return self._programs.begin(*self._arguments(requests))

  def _arguments(self, requests: Sequence[tuple[Request, Policy]]) -> tuple[Any, ...]:
    """Stacks requests and dials to the arguments of the program that begins them."""
    sources, policies = zip(*requests, strict=True)
    student, teacher, share, calls = zip(*sources, strict=True)
    policy = jax.tree.map(lambda *dials: np.asarray(dials, np.float32), *policies)
    return (
        self._params,
        np.stack(student).astype(np.int32),
        np.stack(teacher).astype(np.int32),
        np.asarray(share, np.float32),
        np.asarray(calls, np.int32),
        self._key,
        policy,
    )

  def admit(self, requests: Mapping[int, tuple[Request, Policy]]) -> None:
    """Puts requests with their policies into free slots, given by number."""
    batch, refill, placed = self._programs.batch, self._programs.refill, [*requests.items()]
    for start in range(0, len(placed), refill):
      some = placed[start : start + refill]
      padding = refill - len(some)
      fresh = self._begin([*(own for _, own in some), *[(self._empty, self._policy)] * padding])
      places = [*(row for row, _ in some), *range(batch, batch + padding)]  # beyond: dropped
      self._rows = self._programs.admit(
          self._by_row, self._rows, fresh, np.asarray(places, np.int32)
      )

  def advance(self, num_done: int, steps: int = int(_FOREVER)) -> None:
    """Writes on until so many slots are done or free, or for about so many passes of the models."""
    self._rows = self._programs.advance(
        self._params, self._rows, np.int32(num_done), np.int32(steps)
    )

  def stop(self, rows: Sequence[int]) -> None:
    """Ends the requests in some slots where they are."""
    stopped = np.isin(np.arange(self._programs.batch), rows)
    self._rows = self._programs.stop(self._rows, stopped)

  def done(self) -> Bool[np.ndarray, " B"]:
    """Returns the slots that are done or free."""
    state = self._rows.state
    assert state is not None
    return np.asarray(state.done)

  def results(self) -> DecodeResult:
    """Returns what all slots have written so far, as numpy arrays.

    Of a policy that drafts, these are the tokens that no check will take back. The counts of the
    whole batch (`student_steps`, `teacher_passes`) run from the opening of the slots, and wrap
    around at 2^31.
    """
    return jax.device_get(self._programs.harvest(self._params, self._rows))
