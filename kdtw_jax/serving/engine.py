"""The engine of the server: a thread that writes for all requests at once, in slots.

A request enters a free slot at the next pause of the loop, a few passes of the models away, leaves
it when its output ends or its client goes, and waits in a queue while all slots are taken. Requests
whose policy or form of budget is of another kind have slots of their own, opened when the first of
them comes; the others are written on while those compile. A ledger or pace is kept over all
requests of a kind.

Not here: HTTP (app.py). Nothing of a text is logged.
"""

import collections
from collections.abc import Callable, Hashable, Iterator
import dataclasses
import queue
import threading
import time

from absl import logging
import numpy as np

from kdtw_jax import decoding
from kdtw_jax.base import EOS_ID
from kdtw_jax.live import Lanes, Piece, Pieces
from kdtw_jax.orders import Order
from kdtw_jax.pair import Pair
from kdtw_jax.reader import Row, Written


class BusyError(RuntimeError):
  """Too many requests wait, or too many kinds of requests are served."""


class StoppedError(RuntimeError):
  """The engine is closed or has failed."""


@dataclasses.dataclass(frozen=True)
class Settings:
  """How an engine shares its machine.

  Attributes:
    slots: requests of a kind that are written at a time.
    waiting: most requests that wait for a slot, of all kinds.
    kinds: most kinds of requests; each has caches for all its slots.
    passes: of the models between two looks at what is written, and at what has come.
  """

  slots: int = 16
  waiting: int = 256
  kinds: int = 12
  passes: int = 8


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


class _Lane:
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


class Engine:
  """A thread that writes for everybody."""

  def __init__(self, pair: Pair, settings: Settings | None = None):
    """Takes the pair; `start` begins."""
    self._pair, self._settings = pair, settings or Settings()
    self._lanes = pair.lanes(self._settings.slots)
    self._inbox: queue.SimpleQueue[Ticket | tuple[Hashable, _Lane | Exception] | None] = (
        queue.SimpleQueue()
    )
    self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
    # Shared between threads, under the lock:
    self._lock = threading.Lock()
    self._tickets: set[Ticket] = set()
    self._kinds: set[Hashable] = set()
    self._stopped: StoppedError | None = None

  @property
  def alive(self) -> bool:
    """True while it takes requests."""
    return self._stopped is None and self._thread.is_alive()

  @property
  def unfinished(self) -> int:
    """Number of requests that it has."""
    return len(self._tickets)

  def start(self) -> None:
    """Starts the thread."""
    self._thread.start()

  def close(self, patience: float = 30.0) -> None:
    """Takes nothing more, and finishes what it has within so many seconds."""
    with self._lock:
      self._stopped = self._stopped or StoppedError("the server is closing")
    self._inbox.put(None)
    self._thread.join(patience)
    self._fail(StoppedError("the server has closed"))

  def order(self, budget: object, form: object, policy: decoding.Policy | str | None) -> Order:
    """Reads what a request asks for; errors as in `Pair.write`, and for policies that draw."""
    order = self._pair.reader.order(budget, form, policy)
    if order.policy.draws:
      raise ValueError(
          f"policy={order.policy.name!r}: what it draws would depend on the other requests: choose "
          "another policy"
      )
    return order

  def submit(
      self, text: str, order: Order, tell: Callable[[Event], None], *, most: int | None = None
  ) -> Ticket:
    """Takes a request.

    Args:
      text: what to write an output for.
      order: what it asks for, from `order`.
      tell: takes its events, in the engine's thread; must not block.
      most: most tokens of its output.

    Returns:
      Its ticket.

    Raises:
      ValueError: if the pair cannot read the text, or a promise needs the whole output.
      BusyError: if too many requests wait, or they are of too many kinds.
      StoppedError: if the engine takes no more.
    """
    (row,) = self._pair.reader.filled_rows(text, order)
    if most is not None and order.form in ("hard", "ledger"):
      raise ValueError(
          f"max_tokens={most}: form={order.form!r} promises about the whole output: leave one out"
      )
    ticket, kind, settings = Ticket(row, order, most, tell), self._lanes.kind(order), self._settings
    with self._lock:
      if self._stopped:
        raise self._stopped
      if len(self._tickets) >= settings.waiting + settings.slots:
        raise BusyError(f"{len(self._tickets)} requests are served or wait: try again later")
      if kind not in self._kinds and len(self._kinds) >= settings.kinds:
        raise BusyError(
            f"{len(self._kinds)} kinds of requests are served, and this would be one more: choose "
            "another policy or form of budget"
        )
      self._kinds.add(kind)
      self._tickets.add(ticket)
    self._inbox.put(ticket)
    return ticket

  def give_up(self, ticket: Ticket) -> None:
    """Forgets a request that nobody waits for; it leaves its slot at the next pause."""
    ticket.given_up = True
    with self._lock:
      self._tickets.discard(ticket)

  def warm(self, order: Order) -> None:
    """Compiles the programs of a kind of requests, and waits until they are ready."""
    told: queue.SimpleQueue[Event] = queue.SimpleQueue()
    ticket = Ticket(Row([EOS_ID], [EOS_ID], 0.0), order, 1, told.put)
    with self._lock:
      self._kinds.add(self._lanes.kind(order))
      self._tickets.add(ticket)
    self._inbox.put(ticket)
    while isinstance(event := told.get(), list):
      pass
    if isinstance(event, StoppedError):
      raise event

  def _run(self) -> None:
    """Serves until it is closed; if anything fails, everybody hears of it."""
    try:
      self._serve()
    except BaseException as error:
      logging.exception("the engine has failed")
      self._fail(StoppedError(f"the engine has failed: {type(error).__name__}"))

  def _serve(self) -> None:
    lanes: dict[Hashable, _Lane] = {}
    opening: dict[Hashable, list[Ticket]] = {}
    closing = False
    while True:
      busy = any(lane.busy for lane in lanes.values())
      if closing and not busy and not opening:
        return
      for item in self._come(wait=not busy):
        if item is None:
          closing = True
        elif isinstance(item, Ticket):
          kind = self._lanes.kind(item.order)
          if kind in lanes:
            lanes[kind].queue.append(item)
            continue
          if kind not in opening:
            threading.Thread(target=self._open, args=(kind, item.order), daemon=True).start()
          opening.setdefault(kind, []).append(item)
        else:
          kind, lane = item
          waiting = opening.pop(kind)
          if isinstance(lane, _Lane):
            lane.queue.extend(waiting)
            lanes[kind] = lane
          else:
            self._refuse(kind, waiting, lane)
      for lane in lanes.values():
        for ticket, end in lane.turn(self._settings.passes):
          with self._lock:
            self._tickets.discard(ticket)
          ticket.tell(end)

  def _come(self, *, wait: bool) -> Iterator[Ticket | tuple[Hashable, _Lane | Exception] | None]:
    """Takes what has come; waits for the first if there is nothing else to do."""
    if wait:
      yield self._inbox.get()
    while True:
      try:
        yield self._inbox.get_nowait()
      except queue.Empty:
        return

  def _open(self, kind: Hashable, order: Order) -> None:
    """Opens a lane beside the thread that writes, which goes on with the others."""
    try:
      self._inbox.put((kind, _Lane(self._pair, self._lanes, order, self._settings.slots)))
    except Exception as error:
      logging.exception("slots could not be opened")
      self._inbox.put((kind, error))

  def _refuse(self, kind: Hashable, tickets: list[Ticket], error: Exception) -> None:
    """Tells the requests of a kind that has no slots."""
    with self._lock:
      self._kinds.discard(kind)
      self._tickets -= {*tickets}
    for ticket in tickets:
      ticket.tell(StoppedError(f"requests of this kind cannot be served: {type(error).__name__}"))

  def _fail(self, error: StoppedError) -> None:
    """Takes nothing more, and tells everybody who waits."""
    with self._lock:
      self._stopped = self._stopped or error
      tickets, self._tickets = self._tickets, set()
    for ticket in tickets:
      ticket.given_up = True
      ticket.tell(error)
