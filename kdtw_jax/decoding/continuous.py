"""Continuous batching: a list or stream of requests in a few slots, refilled when rows are done."""

from collections.abc import Iterable, Iterator
import itertools
from typing import NamedTuple

import jax

from kdtw_jax import base
from kdtw_jax.decoding.policies.policy import Policy
from kdtw_jax.decoding.sampling import Key
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


def decode_stream(
    programs: SlotPrograms,
    student_params: base.Params,
    teacher_params: base.Params,
    requests: Iterable[Request],
    key: Key,
    policy: Policy,
) -> Iterator[Finished]:
  """Decodes a stream of requests; `programs` may serve any number of streams.

  Args:
    programs: the compiled programs; their `refill` is the number of done rows at which new requests
      are admitted. A ledger is kept over the whole stream.
    student_params: the student's parameters.
    teacher_params: the teacher's parameters.
    requests: consumed as slots become free, so they may come from a generator.
    key: PRNG key; needed only if the sampling or the policy is random.
    policy: who writes.

  Yields:
    The requests in the order in which they finish.

  Raises:
    ValueError: if the policy cannot keep the form of the budgets, or has a dial per row.
  """
  programs.validate(policy)
  yield from _Run(programs, (student_params, teacher_params), requests, key, policy).finished()


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
    """Opens the stream; see `decode_stream`."""
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
