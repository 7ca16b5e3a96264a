"""Continuous batching: a list or stream of requests in a few slots, refilled when rows are done."""

from collections.abc import Callable, Iterable, Iterator
import itertools
from typing import NamedTuple

import jax

from kdtw_jax import base
from kdtw_jax.decoding import loop
from kdtw_jax.decoding.budgets import Budget
from kdtw_jax.decoding.policies.policy import Policy
from kdtw_jax.decoding.sampling import Key, Sampling
from kdtw_jax.decoding.slots import Params, Request, SlotPrograms, Slots
from kdtw_jax.decoding.state import DecodeResult


class Finished(NamedTuple):
  """A decoded request.

  Attributes:
    number: index of the request, from 0.
    result: its row of a DecodeResult, as numpy arrays without the batch axis. The counts of the
      whole batch (`student_steps`, `teacher_passes`) run from the start of the stream.
  """

  number: int
  result: DecodeResult


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
  programs = SlotPrograms(
      student_fns,
      teacher_fns,
      batch=batch,
      max_length=max_length,
      refill=refill,
      sampling=sampling,
      chunk=chunk,
      terms=terms,
      wait=wait,
      eager=eager,
      eos_id=eos_id,
  )

  def serve(
      student_params: base.Params,
      teacher_params: base.Params,
      requests: Iterable[Request],
      key: Key,
      policy: Policy,
  ) -> Iterator[Finished]:
    programs.validate(policy)
    run = _Run(programs, (student_params, teacher_params), requests, key, policy)
    yield from run.finished()

  return serve


class _Run:
  """One stream of requests, served through the slots."""

  def __init__(
      self,
      programs: SlotPrograms,
      params: Params,
      requests: Iterable[Request],
      key: Key,
      policy: Policy,
  ):
    """Opens the stream; see `make_continuous_decoder` and its result for the arguments."""
    self._programs, self._params, self._key, self._policy = programs, params, key, policy
    self._requests = enumerate(requests)
    self._upcoming = list(itertools.islice(self._requests, programs.batch))
    self._owners: list[int | None] = [None] * programs.batch

  def finished(self) -> Iterator[Finished]:
    """Serves the stream and yields the requests as they finish."""
    if not self._upcoming:
      return
    _, first = self._upcoming[0]
    slots = Slots(self._programs, self._params, first, self._key, self._policy)
    while True:
      self._fill_free(slots)
      if all(owner is None for owner in self._owners):
        return
      slots.advance(self._programs.refill if self._upcoming else self._programs.batch)
      done, results = slots.done(), slots.results()
      for row, owner in enumerate(self._owners):
        if owner is not None and done[row]:
          self._owners[row] = None
          yield Finished(owner, jax.tree.map(lambda x, r=row: x[r] if x.ndim else x, results))

  def _fill_free(self, slots: Slots) -> None:
    """Admits requests until no slot is free or no request is left."""
    placed = {}
    for row, owner in enumerate(self._owners):
      if owner is None and self._upcoming:
        self._owners[row], request = self._upcoming.pop(0)
        self._upcoming += itertools.islice(self._requests, 1)
        placed[row] = (request, self._policy)
    slots.admit(placed)
