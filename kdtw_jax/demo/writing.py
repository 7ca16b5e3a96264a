"""One text written by several methods, one after the other, so that none slows the next.

Not here: methods (methods.py), the queue and the slots that all people share (serving/).
"""

from collections.abc import AsyncGenerator, Sequence
import contextlib
import dataclasses

from kdtw_jax.live import Piece
from kdtw_jax.orders import Order
from kdtw_jax.serving.engine import Engine
from kdtw_jax.serving.job import Job
from kdtw_jax.serving.lane import End


@dataclasses.dataclass
class Run:
  """What one method has written.

  Attributes:
    title: the method's.
    order: what it asks of the engine.
    pieces: what is written so far.
    end: the whole output, with what it cost; None until it has ended.
  """

  title: str
  order: Order
  pieces: list[Piece] = dataclasses.field(default_factory=list)
  end: End | None = None


async def write(engine: Engine, text: str, runs: Sequence[Run]) -> AsyncGenerator[Run]:
  """Fills runs in their order, and gives the one that has grown; closed, it gives up.

  Raises:
    ValueError: if the pair cannot read the text.
    BusyError: if too many texts wait.
    StoppedError: if the engine has stopped.
  """
  for run in runs:
    async with contextlib.aclosing(Job(engine, [text], run.order).events()) as events:
      async for _, event in events:
        if isinstance(event, End):
          run.end = event
        else:
          run.pieces += event
        yield run
