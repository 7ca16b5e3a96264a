"""The engine of the server: a thread that writes for all requests at once, in slots.

A request enters a free slot at the next pause of the loop, a few passes of the models away, leaves
it when its output ends or its client goes, and waits in a queue while all slots are taken. Requests
whose policy or form of budget is of another kind have slots of their own, opened when the first of
them comes; the others are written on while those compile. Where there would be too many kinds, the
one that has been idle for longest is closed. A ledger or pace is kept over all requests of a kind,
until it is closed.

Not here: HTTP (app.py). Nothing of a text is logged.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
import dataclasses
import functools
import queue
import threading

from absl import logging

from kdtw_jax import decoding
from kdtw_jax.base import EOS_ID
from kdtw_jax.orders import Order
from kdtw_jax.pair import Pair
from kdtw_jax.reader import Row
from kdtw_jax.serving.lane import Event, Lane, StoppedError, Ticket


class BusyError(RuntimeError):
  """Too many requests wait, or too many kinds of requests are served."""


@dataclasses.dataclass(frozen=True)
class Settings:
  """How an engine shares its machine.

  Attributes:
    slots: requests of a kind that are written at a time.
    waiting: most requests that wait for a slot, of all kinds.
    kinds: most kinds of requests at a time; each has caches for all its slots.
    passes: of the models between two looks at what is written, and at what has come.
  """

  slots: int = 16
  waiting: int = 256
  kinds: int = 12
  passes: int = 8


# What comes to the engine: a request; a kind, with the slots that are opened for it, or why they
# cannot be, or None to close them; None to finish.
_Item = Ticket | tuple[Hashable, Lane | Exception | None] | None
_Lanes = dict[Hashable, Lane]
_Opening = dict[Hashable, list[Ticket]]


class Engine:
  """A thread that writes for everybody."""

  def __init__(self, pair: Pair, settings: Settings | None = None):
    """Takes the pair; `start` begins."""
    self._pair, self._settings = pair, settings or Settings()
    self._lanes = pair.lanes(self._settings.slots)
    self._inbox: queue.SimpleQueue[_Item] = queue.SimpleQueue()
    self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
    # Shared between threads, under the lock:
    self._lock = threading.Lock()
    self._tickets: set[Ticket] = set()
    self._kinds: dict[Hashable, None] = {}  # the one that was used last is last
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
      self,
      texts: Sequence[str],
      order: Order,
      tell: Callable[[int, Event], None],
      *,
      most: int | None = None,
  ) -> list[Ticket]:
    """Takes all texts, or none.

    Args:
      texts: what to write outputs for.
      order: what they ask for, from `order`.
      tell: takes the number of a text and its next event, in the engine's thread; must not block.
      most: most tokens of each output.

    Returns:
      A ticket for each text.

    Raises:
      ValueError: if the pair cannot read a text, or a promise needs the whole output.
      BusyError: if too many requests wait, or they are of too many kinds.
      StoppedError: if the engine takes no more.
    """
    rows = self._pair.reader.filled_rows(texts, order)
    if most is not None and order.form in ("hard", "prefix", "ledger"):
      raise ValueError(
          f"max_tokens={most}: form={order.form!r} promises about the whole output: leave one out"
      )
    tickets = [
        Ticket(row, order, most, functools.partial(tell, number)) for number, row in enumerate(rows)
    ]
    settings = self._settings
    with self._lock:
      if self._stopped:
        raise self._stopped
      if len(self._tickets) + len(tickets) > settings.waiting + settings.slots:
        raise BusyError(f"{len(self._tickets)} requests are served or wait: try again later")
      self._use(self._lanes.kind(order))
      self._tickets.update(tickets)
    for ticket in tickets:
      self._inbox.put(ticket)
    return tickets

  def _use(self, kind: Hashable) -> None:
    """Notes that a kind is used; at the most kinds, an idle one is closed for it."""
    if kind not in self._kinds and len(self._kinds) >= self._settings.kinds:
      busy = {self._lanes.kind(ticket.order) for ticket in self._tickets}
      idle = next((known for known in self._kinds if known not in busy), None)
      if idle is None:
        raise BusyError(
            f"{len(self._kinds)} kinds of requests are served, and this would be one more: choose "
            "another policy or form of budget, or try again later"
        )
      del self._kinds[idle]
      self._inbox.put((idle, None))
    self._kinds.pop(kind, None)
    self._kinds[kind] = None

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
      self._use(self._lanes.kind(order))
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
    lanes: _Lanes = {}
    opening: _Opening = {}
    closing = False
    while True:
      busy = any(lane.busy for lane in lanes.values())
      if closing and not busy and not opening:
        return
      for item in self._come(wait=not busy):
        if item is None:
          closing = True
        elif isinstance(item, Ticket):
          self._queue(item, lanes, opening)
        else:
          self._change(*item, lanes, opening)
      for lane in lanes.values():
        for ticket, end in lane.turn(self._settings.passes):
          with self._lock:
            self._tickets.discard(ticket)
          ticket.tell(end)

  def _come(self, *, wait: bool) -> Iterator[_Item]:
    """Takes what has come; waits for the first if there is nothing else to do."""
    if wait:
      yield self._inbox.get()
    while True:
      try:
        yield self._inbox.get_nowait()
      except queue.Empty:
        return

  def _queue(self, ticket: Ticket, lanes: _Lanes, opening: _Opening) -> None:
    """Lets a request wait for a slot of its kind, which may have to be opened."""
    kind = self._lanes.kind(ticket.order)
    if kind in lanes:
      lanes[kind].queue.append(ticket)
      return
    if kind not in opening:
      threading.Thread(target=self._open, args=(kind, ticket.order), daemon=True).start()
    opening.setdefault(kind, []).append(ticket)

  def _change(
      self, kind: Hashable, lane: Lane | Exception | None, lanes: _Lanes, opening: _Opening
  ) -> None:
    """Closes a kind if its lane is None; else takes the lane, or says why there is none."""
    if lane is None:
      lanes.pop(kind, None)
      self._lanes.forget(kind)
    elif isinstance(lane, Exception):
      self._refuse(kind, opening.pop(kind), lane)
    else:
      lane.queue.extend(opening.pop(kind))
      if kind in self._kinds:  # not closed meanwhile: all who waited had gone
        lanes[kind] = lane

  def _open(self, kind: Hashable, order: Order) -> None:
    """Opens a lane beside the thread that writes, which goes on with the others."""
    try:
      self._inbox.put((kind, Lane(self._pair, self._lanes, order, self._settings.slots)))
    except Exception as error:
      logging.exception("slots could not be opened")
      self._inbox.put((kind, error))

  def _refuse(self, kind: Hashable, tickets: list[Ticket], error: Exception) -> None:
    """Tells the requests of a kind that has no slots."""
    with self._lock:
      self._kinds.pop(kind, None)
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
