"""One client's texts in the engine, for asyncio: what an engine's thread tells, a coroutine reads.

Not here: what a client may ask for, and what it is answered (app.py, demo/).
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
import contextlib
import time

from kdtw_jax.live import Piece
from kdtw_jax.orders import Order
from kdtw_jax.serving.engine import Engine
from kdtw_jax.serving.lane import End, Event, StoppedError


class Job:
  """The texts of one client, while they are written.

  Attributes:
    left: number of texts that have not ended.
  """

  def __init__(
      self, engine: Engine, texts: Sequence[str], order: Order, *, most: int | None = None
  ):
    """Gives all texts to the engine, or none; errors as in `Engine.submit`."""
    self._since = time.monotonic()
    self._engine = engine
    self._loop = asyncio.get_running_loop()
    self._told: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
    self._tickets = engine.submit(texts, order, self._tell, most=most)
    self.left = len(self._tickets)

  @property
  def seconds(self) -> float:
    """Time since the texts came, waiting for slots included."""
    return time.monotonic() - self._since

  def give_up(self) -> None:
    """Forgets what is left."""
    for ticket in self._tickets:
      self._engine.give_up(ticket)

  async def events(self) -> AsyncGenerator[tuple[int, list[Piece] | End], None]:
    """Iterates over (number of the text, event) until all texts have ended; closed, it gives up.

    Raises:
      StoppedError: if the engine has stopped.
    """
    try:
      while self.left:
        number, event = await self._told.get()
        if isinstance(event, StoppedError):
          raise event
        self.left -= isinstance(event, End)
        yield number, event
    finally:
      if self.left:
        self.give_up()

  def _tell(self, number: int, event: Event) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens
      self._loop.call_soon_threadsafe(self._told.put_nowait, (number, event))
