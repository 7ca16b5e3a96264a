"""Outputs in pieces, while they are written: the implementation of `Pair.stream`.

Not here: many requests at a time (serving/), slots themselves (decoding/slots.py).

Shape letters: T tokens of an output.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
import time
from typing import Any, NamedTuple

import jax
from jaxtyping import Bool, Int
import numpy as np

from kdtw_jax import decoding
from kdtw_jax.base import PAD_ID, Params
from kdtw_jax.models import Models
from kdtw_jax.orders import Order
from kdtw_jax.reader import Reader, Row, Written
from kdtw_jax.writer import DEFAULT_CHUNK

_PASSES = 4  # of the models between two looks at what is written
_HALF = "\N{REPLACEMENT CHARACTER}"  # ends a text whose last character has not all of its bytes


class Piece(NamedTuple):
  """The next part of an output.

  Attributes:
    text: to be put after the pieces before it.
    by_teacher: True where the teacher wrote it.
  """

  text: str
  by_teacher: bool


class Pieces:
  """The parts of one output, as it grows."""

  def __init__(self, text_of: Callable[[list[int]], str]):
    """Takes what turns ids into text."""
    self._text_of, self._said, self._seen = text_of, "", 0

  def grown(
      self,
      tokens: Int[np.ndarray, " T"],
      by_teacher: Bool[np.ndarray, " T"],
      *,
      length: int,
      done: bool,
  ) -> list[Piece]:
    """Returns the new pieces of an output of which `length` tokens are written.

    Tokens that follow each other and have the same writer are one piece. A character of several
    tokens belongs to the piece of its last one.
    """
    ids, found = tokens[:length].tolist(), []
    changes = np.flatnonzero(np.diff(by_teacher[self._seen : length])) + 1 + self._seen
    for end in (*changes.tolist(), length) if length > self._seen else ():
      text = self._text_of(ids[:end])
      if not (done and end == length):
        text = text.rstrip(_HALF)
      if text.startswith(self._said) and len(text) > len(self._said):
        found.append(Piece(text[len(self._said) :], bool(by_teacher[end - 1])))
        self._said = text
    self._seen = length
    return found


class Lanes:
  """The slots of a pair; orders of another kind have slots of their own."""

  def __init__(
      self,
      config: Mapping[str, Any],
      reader: Reader,
      models: Models,
      params: tuple[Params, Params],
      *,
      batch: int,
  ):
    """Takes the parts of a pair, (student's, teacher's) parameters, and the number of slots."""
    self._config, self._reader, self._params = config, reader, params
    self._fns = tuple(model.decoder_fns for model in models)
    self._batch, self._programs = batch, dict[Hashable, decoding.SlotPrograms]()

  def kind(self, order: Order) -> Hashable:
    """Returns what orders have in common that share slots."""
    return order.form, order.pace, jax.tree.structure(order.policy)

  def open(self, order: Order, width: int) -> decoding.Slots:
    """Opens slots for orders of this kind, whose sources are padded to a width.

    The programs compile when they are first used.
    """
    kind = self.kind(order)
    if kind not in self._programs:
      self._programs[kind] = self._program(order)
    example = self.request(Row([PAD_ID], [PAD_ID], 0.0), order, width)
    return decoding.Slots(
        self._programs[kind], self._params, example, jax.random.key(0), order.policy
    )

  def forget(self, kind: Hashable) -> None:
    """Drops the programs of a kind, which compile anew if it is opened again."""
    self._programs.pop(kind, None)

  def request(self, row: Row, order: Order, width: int) -> decoding.Request:
    """Makes the request of one text, padded to a width."""
    (student,), (teacher,) = self._reader.sources([row], 1, width=width)
    return decoding.Request(student, teacher, row.share, order.calls)

  def _program(self, order: Order) -> decoding.SlotPrograms:
    decode = self._config["decode"]
    return decoding.SlotPrograms(
        *self._fns,
        batch=self._batch,
        max_length=decode["max_length"],
        chunk=decode["chunk"] or DEFAULT_CHUNK,
        wait=decode["wait"],
        pass_rows=decode["pass_rows"] or None,
        terms=self._reader.terms(order),
    )


class Stream(Iterator[Piece]):
  """The pieces of one output.

  Attributes:
    written: the whole output, once the last piece has been taken; until then None.
  """

  def __init__(self, lanes: Lanes, reader: Reader, text: str, order: Order):
    """Reads the text; raises ValueError if it is not one that the pair reads."""
    (row,) = reader.filled_rows(text, order)
    self.written: Written | None = None
    self._pieces = self._written_on(lanes, reader, row, order)

  def __next__(self) -> Piece:
    """Returns the next piece as soon as it is written."""
    return next(self._pieces)

  def _written_on(self, lanes: Lanes, reader: Reader, row: Row, order: Order) -> Iterator[Piece]:
    begun, width = time.monotonic(), reader.width([row])
    slots, pieces = lanes.open(order, width), Pieces(reader.text)
    slots.admit({0: (lanes.request(row, order, width), order.policy)})
    while True:
      slots.advance(1, _PASSES)
      done, result = bool(slots.done()[0]), slots.results()
      tokens, by_teacher = np.asarray(result.tokens[0]), np.asarray(result.written_by_teacher[0])
      length, seconds = int(result.length[0]), time.monotonic() - begun
      yield from pieces.grown(tokens, by_teacher, length=length, done=done)
      if done:
        break
    calls = int(result.teacher_calls[0])
    self.written = reader.written(tokens, by_teacher, length=length, calls=calls, seconds=seconds)
