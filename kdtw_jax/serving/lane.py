"""The slots of one kind of requests, and who waits for them.

Not here: who comes and when lanes open and close (engine.py). Nothing of a text is logged.
"""

import collections
from collections.abc import Callable
import dataclasses
import time

import numpy as np

from kdtw_jax.base import EOS_ID
from kdtw_jax.live import Lanes, Piece, Pieces
from kdtw_jax.orders import Order
from kdtw_jax.pair import Pair
from kdtw_jax.reader import Row, Written


class StoppedError(RuntimeError):
  """The engine is closed or has failed."""


@dataclasses.dataclass(frozen=True)
class End:
  """The end of an output.

  Attributes:
    written: the output.
    cut: True if it ended at the most tokens that were asked for or that the pair writes.
    read: number of tokens that the student read.
  """

  written: Written
  cut: bool
  read: int


Event = list[Piece] | End | StoppedError


@dataclasses.dataclass(eq=False)
class Ticket:
  """One request.

  Attributes:
    row: its text, as ids.
    order: what it asks for.
    most: most tokens of its output; None leaves it to the pair.
    tell: takes its events, in the engine's thread; the last one is an End or a StoppedError.
    given_up: True once nobody waits for it.
    entered: when it got its slot, by time.monotonic.
  """

  row: Row
  order: Order
  most: int | None
  tell: Callable[[Event], None]
  given_up: bool = False
  entered: float = 0.0


class Lane:
  """The slots of one kind, and the requests that wait for them."""

  def __init__(self, pair: Pair, lanes: Lanes, order: Order, size: int):
    """Opens the slots and compiles their programs, by a request that is stopped at once."""
    self._reader, self._lanes, self._width = pair.reader, lanes, pair.reader.widths[-1]
    self._size = size
    self._slots = lanes.open(order, self._width)
    self._owners: dict[int, tuple[Ticket, Pieces]] = {}
    self.queue: collections.deque[Ticket] = collections.deque()
    request = lanes.request(Row([EOS_ID], [EOS_ID], 0.0), order, self._width)
    self._slots.admit({0: (request, order.policy)})
    self._slots.advance(size, 1)
    self._slots.stop([0])
    self._slots.results()

  @property
  def busy(self) -> bool:
    """True while it has a request."""
    return bool(self._owners or self.queue)

  def turn(self, passes: int) -> list[tuple[Ticket, End]]:
    """Admits who waits, writes on a little, and returns the requests that have ended."""
    self._leave([slot for slot, (ticket, _) in self._owners.items() if ticket.given_up])
    self._admit()
    if not self._owners:
      return []
    self._slots.advance(self._size - len(self._owners) + 1, passes)
    done, results, ended = self._slots.done(), self._slots.results(), {}
    for slot, (ticket, pieces) in self._owners.items():
      tokens, by_teacher = np.asarray(results.tokens[slot]), results.written_by_teacher[slot]
      length = int(results.length[slot])
      full = ticket.most is not None and length >= ticket.most
      length, last = min(length, ticket.most or length), bool(done[slot]) or full
      if new := pieces.grown(tokens, np.asarray(by_teacher), length=length, done=last):
        ticket.tell(new)
      if last:
        calls = int(results.teacher_calls[slot])
        seconds = time.monotonic() - ticket.entered
        written = self._reader.written(
            tokens, np.asarray(by_teacher), length=length, calls=calls, seconds=seconds
        )
        cut = int(tokens[length - 1]) != EOS_ID
        ended[slot] = ticket, End(written, cut, len(ticket.row.student))
    self._leave([*ended])
    return [*ended.values()]

  def _leave(self, slots: list[int]) -> None:
    """Frees slots."""
    for slot in slots:
      del self._owners[slot]
    if slots:
      self._slots.stop(slots)

  def _admit(self) -> None:
    """Gives free slots to those who wait: first come, first served."""
    free, placed = [s for s in range(self._size) if s not in self._owners], {}
    while free and self.queue:
      ticket = self.queue.popleft()
      if not ticket.given_up:
        slot = free.pop(0)
        ticket.entered = time.monotonic()
        self._owners[slot] = ticket, Pieces(self._reader.text)
        request = self._lanes.request(ticket.row, ticket.order, self._width)
        placed[slot] = (request, ticket.order.policy)
    if placed:
      self._slots.admit(placed)
