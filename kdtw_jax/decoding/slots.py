"""Continuous batching: a stream of requests in a few slots, each refilled when its row is done.

The loop of loop.py stops whenever enough rows are done, and new requests take their places. All
shapes are fixed, so two programs serve everything: one advances the batch, one admits requests.
Greedy outputs do not depend on the other requests in the batch; drawn ones do, because all rows
share one key.

Shape letters: B slots, R requests admitted at once, S source length.
"""

from collections.abc import Callable, Iterable, Iterator
import dataclasses
import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from kdtw_jax import base
from kdtw_jax.decoding import loop
from kdtw_jax.decoding.budgets import Budget, Limits
from kdtw_jax.decoding.policies.policy import Policy
from kdtw_jax.decoding.sampling import Key, Sampling
from kdtw_jax.decoding.state import DecodeResult, DecodeState, Setup


class Request(NamedTuple):
  """One sentence to decode; all requests of a run are padded to the same lengths with PAD_ID.

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


class Finished(NamedTuple):
  """A decoded request.

  Attributes:
    number: index of the request, from 0.
    result: its row of a DecodeResult, as numpy arrays without the batch axis. The counts of the
      whole batch (`student_steps`, `teacher_passes`) run from the start of the stream.
  """

  number: int
  result: DecodeResult


class _Slots(NamedTuple):
  """The arrays that the compiled programs pass on.

  Attributes:
    state: the loop's state; a free slot is a row that is done.
    teacher_source: the teacher's inputs, for policies that copy from them.
    share: B of each request.
    calls: n of each request.
  """

  state: DecodeState | None
  teacher_source: Int[Array, "B S"]
  share: Float[Array, " B"]
  calls: Int[Array, " B"]


def make_continuous_decoder(
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
    eager: bool = False,
    eos_id: int = base.EOS_ID,
) -> Callable[..., Iterator[Finished]]:
  """Makes a decoder that serves a stream of requests.

  Args:
    student_fns: the student, or None.
    teacher_fns: the teacher, or None.
    batch: B, the number of slots.
    max_length: most tokens of a request.
    refill: number of done rows at which new requests are admitted, and the most that are admitted
      at once; by default an eighth of the batch. A smaller number keeps the slots fuller; a larger
      one stops the loop and encodes less often.
    sampling: how tokens are chosen.
    chunk: as in `loop.decode`.
    terms: the form of all budgets, with its pace and `shortest`; None promises nothing. A ledger
      is kept over the whole stream.
    wait: as in `loop.decode`.
    eager: as in `loop.decode`.
    eos_id: token that ends a request.

  Returns:
    `(student_params, teacher_params, requests, key, policy) -> iterator of Finished`, in the order
    in which requests finish. Requests are consumed as slots become free, so they may come from a
    generator.

  Raises:
    ValueError: if a setting is impossible. The returned function raises it for a dial per row.
  """
  refill = max(1, batch // 8) if refill is None else refill
  if not 1 <= refill <= batch:
    raise ValueError(f"refill={refill}: must be from 1 to the batch of {batch}")

  terms = Budget(()) if terms is None else terms
  setup = functools.partial(
      Setup,
      sampling=sampling,
      widths=loop.widths_of(chunk, max_length),
      wait=wait,
      eager=eager,
      eos_id=eos_id,
  )
  programs = _Programs(setup, (student_fns, teacher_fns), terms, max_length)

  def serve(
      student_params: base.Params,
      teacher_params: base.Params,
      requests: Iterable[Request],
      key: Key,
      policy: Policy,
  ) -> Iterator[Finished]:
    loop.validate(policy, terms, max_length=max_length, sampling=sampling, chunk=chunk, wait=wait)
    if any(np.ndim(leaf) for leaf in jax.tree.leaves(policy)):
      raise ValueError(
          f"policy {policy.name}: has a dial per row, but rows change here; give one dial"
      )
    params = (student_params, teacher_params)
    run = _Run(programs, params, requests, key, policy, batch=batch, refill=refill)
    yield from run.finished()

  return serve


Params = tuple[base.Params, base.Params]  # the student's and the teacher's


class _Programs:
  """The compiled programs that all runs of a decoder share.

  Attributes:
    begin: `(params, student_source, teacher_source, share, calls, key, policy) -> slots`, just
      admitted.
    admit: `(by_row, slots, fresh, rows) -> slots` with the fresh requests in these rows.
    advance: `(params, slots, num_done, policy) -> slots`, of which `num_done` are done.
    harvest: `(params, slots, policy) -> DecodeResult` of all slots.
  """

  def __init__(
      self,
      setup: Callable[..., Setup],
      fns: tuple[base.DecoderFns | None, base.DecoderFns | None],
      terms: Budget,
      max_length: int,
  ):
    """Takes a `setup` that lacks only the models, teacher source, policy and limits."""
    self._setup, self._fns, self._terms, self._max_length = setup, fns, terms, max_length
    self.begin = jax.jit(self._begin)
    self.admit = jax.jit(_admit, static_argnums=0, donate_argnums=1)
    self.advance = jax.jit(self._advance, donate_argnums=1)
    self.harvest = jax.jit(self._harvest)

  def _setup_of(self, params: Params, slots: _Slots, policy: Policy) -> Setup:
    student, teacher = zip(self._fns, params, strict=True)
    return self._setup(
        student=student,
        teacher=teacher,
        teacher_source=slots.teacher_source,
        policy=policy,
        limits=Limits(
            dataclasses.replace(self._terms, share=slots.share, calls=slots.calls),
            slots.teacher_source,
            self._max_length,
            unit=policy.pace,
        ),
    )

  def _begin(self, params, student_source, teacher_source, share, calls, key, policy) -> _Slots:
    slots = _Slots(None, teacher_source, share, calls)
    setup = self._setup_of(params, slots, policy)
    credit = self._terms.credit
    state = loop.start(setup, student_source, self._max_length, key, credit)
    return slots._replace(state=state)

  def _advance(self, params, slots, num_done, policy) -> _Slots:
    setup = self._setup_of(params, slots, policy)
    return slots._replace(state=loop.advance(setup, slots.state, num_done))

  def _harvest(self, params, slots, policy) -> DecodeResult:
    return loop.result_of(self._setup_of(params, slots, policy), slots.state)


def _admit(
    by_row: tuple[bool, ...], slots: _Slots, fresh: _Slots, rows: Int[Array, " R"]
) -> _Slots:
  """Writes the rows of `fresh` into these slots; row numbers from B on write nothing."""
  old, tree = jax.tree.flatten(slots)
  placed = [
      have.at[rows].set(new, mode="drop", unique_indices=True) if varies else have
      for have, new, varies in zip(old, jax.tree.leaves(fresh), by_row, strict=True)
  ]
  return jax.tree.unflatten(tree, placed)


class _Run:
  """One stream of requests, served through the slots."""

  def __init__(
      self,
      programs: _Programs,
      params: Params,
      requests: Iterable[Request],
      key: Key,
      policy: Policy,
      *,
      batch: int,
      refill: int,
  ):
    """Opens the stream; see `make_continuous_decoder` and its result for the arguments."""
    self._programs, self._params, self._key, self._policy = programs, params, key, policy
    self._batch, self._refill = batch, refill
    self._requests = enumerate(requests)
    self._upcoming = list(itertools.islice(self._requests, batch))
    self._owners: list[int | None] = [None] * batch

  def finished(self) -> Iterator[Finished]:
    """Serves the stream and yields the requests as they finish."""
    if not self._upcoming:
      return
    self._open_slots()
    while True:
      self._fill_free_slots()
      if all(owner is None for owner in self._owners):
        return
      num_done = self._refill if self._upcoming else self._batch
      self._slots = self._programs.advance(self._params, self._slots, num_done, self._policy)
      yield from self._free_done_slots()

  def _arguments(self, requests: list[Request]) -> tuple[Any, ...]:
    """Returns the arguments of the program that begins these requests."""
    return self._params, *_stack(requests), self._key, self._policy

  def _open_slots(self) -> None:
    """Makes the slots, all free, and finds which of their arrays have a row per slot."""
    _, first = self._upcoming[0]
    self._empty = first._replace(
        student_source=np.zeros_like(first.student_source),
        teacher_source=np.zeros_like(first.teacher_source),
    )
    self._slots = self._programs.begin(*self._arguments([self._empty] * self._batch))
    wider = jax.eval_shape(
        self._programs.begin, *self._arguments([self._empty] * (self._batch + 1))
    )
    by_row = jax.tree.map(lambda a, b: a.shape != b.shape, self._slots, wider)
    self._by_row = tuple(jax.tree.leaves(by_row))

  def _fill_free_slots(self) -> None:
    """Admits up to `refill` requests at once until no slot is free or no request is left."""
    free = [row for row, owner in enumerate(self._owners) if owner is None]
    while free and self._upcoming:
      count = min(self._refill, len(free), len(self._upcoming))
      taken, self._upcoming = self._upcoming[:count], self._upcoming[count:]
      self._upcoming += itertools.islice(self._requests, count)
      rows, free = free[:count], free[count:]
      for row, (index, _) in zip(rows, taken, strict=True):
        self._owners[row] = index
      padding = self._refill - count
      filled = [request for _, request in taken] + [self._empty] * padding
      fresh = self._programs.begin(*self._arguments(filled))
      rows += range(self._batch, self._batch + padding)  # beyond the slots, so dropped
      self._slots = self._programs.admit(self._by_row, self._slots, fresh, jnp.asarray(rows))

  def _free_done_slots(self) -> Iterator[Finished]:
    """Frees the rows that are done and yields their results."""
    done = np.asarray(self._slots.state.done)
    result = self._programs.harvest(self._params, self._slots, self._policy)
    result = jax.tree.map(np.asarray, result)
    for row, owner in enumerate(self._owners):
      if owner is not None and done[row]:
        self._owners[row] = None
        yield Finished(owner, jax.tree.map(lambda x, r=row: x[r] if x.ndim else x, result))


def _stack(requests: list[Request]) -> tuple[Array, Array, Array, Array]:
  """Stacks sources and budgets: `[R, S_student]`, `[R, S_teacher]`, shares and calls `[R]`."""
  student, teacher, share, calls = zip(*requests, strict=True)
  return (
      jnp.asarray(np.stack(student), jnp.int32),
      jnp.asarray(np.stack(teacher), jnp.int32),
      jnp.asarray(share, jnp.float32),
      jnp.asarray(calls, jnp.int32),
  )
