"""Texts in, texts out: the implementation of `Pair.write`.

New texts do not compile new programs. Sources are padded to a few widths (powers of two up to the
longest source that the pair was trained on) and decoded in batches of 1 or BATCH rows. Not here:
who writes which token (decoding/), texts and ids (reader.py), one output in pieces (live.py).

Shape letters: B batch, S source length.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import dataclasses
import itertools
import math
import time
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int
import numpy as np

from kdtw_jax import decoding
from kdtw_jax.base import Params, PRNGKey
from kdtw_jax.models import Models
from kdtw_jax.orders import Order
from kdtw_jax.reader import Reader, Row, Written, check_texts

BATCH = 16  # rows that decode together if more than one text is given
DEFAULT_CHUNK = 8  # in place of config.decode.chunk=0: measuring the best one takes seconds

_NOTHING = Written("", (), (), 0, 0.0)  # the output for a blank text


class Writer:
  """The jitted decoder of one pair.

  Attributes:
    decode: `(params, teacher_params, student_source [B, S], teacher_source [B, S], budget, key,
      policy) -> DecodeResult`; jitted, compiled once per width, B, form and policy structure.
  """

  def __init__(
      self, config: Mapping[str, Any], reader: Reader, models: Models, params: tuple[Params, Params]
  ):
    """Takes the parts of a pair; `params` is (student's, teacher's)."""
    self._reader, self._params = reader, params
    self.decode = decoding.make_decoder(
        *(model.decoder_fns for model in models),
        max_length=config["decode"]["max_length"],
        chunk=config["decode"]["chunk"] or DEFAULT_CHUNK,
        wait=config["decode"]["wait"],
        pass_rows=config["decode"]["pass_rows"] or None,
    )

  def write(
      self,
      texts: object,
      budget: object = None,
      form: object = "share",
      policy: decoding.Policy | str | None = None,
  ) -> list[Written]:
    """Writes an output for each text; see `Pair.write` for arguments and errors."""
    order = self._reader.order(budget, form, policy)
    rows = self._reader.filled_rows(texts, order)
    key = jax.random.fold_in(jax.random.key(0), 0)
    return self._decoded(rows, order, BATCH, key, jnp.int32(0))[0]

  def stream(
      self,
      texts: Iterable[str],
      budget: object = None,
      form: object = "share",
      policy: decoding.Policy | str | None = None,
      *,
      batch: int = BATCH,
      window: int | None = None,
      cut: bool = False,
  ) -> Iterator[Written]:
    """Writes an output for each text as they come; see `Pair.write_stream`."""
    window = 64 * batch if window is None else window
    for field, value in (("batch", batch), ("window", window)):
      if value < 1:
        raise ValueError(f"{field}={value}: must be >= 1")
    order = self._reader.order(budget, form, policy)  # refused before the first text is read
    return self._in_windows(iter(texts), order, batch, window, cut)

  def _in_windows(
      self, texts: Iterator[str], order: Order, batch: int, window: int, cut: bool
  ) -> Iterator[Written]:
    """Decodes `window` texts at a time; a ledger passes from one window to the next."""
    credit, number = jnp.int32(0), 0
    while taken := list(itertools.islice(texts, window)):
      found = dict.fromkeys(range(len(taken)), _NOTHING)
      rows = self._reader.rows(check_texts(taken, number), order, number, cut)
      readable = [i for i in found if rows[i].student]
      key = jax.random.fold_in(jax.random.key(0), number)
      written, credit = self._decoded([rows[i] for i in readable], order, batch, key, credit)
      yield from (found | dict(zip(readable, written, strict=True))).values()
      number += len(taken)

  def _decoded(
      self, rows: Sequence[Row], order: Order, size: int, key: PRNGKey, credit: Int[Array, ""]
  ) -> tuple[list[Written], Int[Array, ""]]:
    """Decodes rows in batches of similar lengths; gives them in order, and the credit left."""
    similar = sorted(range(len(rows)), key=lambda i: len(rows[i].student))
    size, results = 1 if len(rows) == 1 else size, []
    for start in range(0, len(rows), size):
      batch = [rows[i] for i in similar[start : start + size]]
      own = jax.random.fold_in(key, start)
      limits = self._budget(batch, size, order, credit)
      sources, begun = self._reader.sources(batch, size), time.monotonic()
      result = self.decode(*self._params, *sources, limits, own, order.policy)
      credit = result.credit  # of the stream, so that no batch begins with nothing saved
      results.append((begun, result))
    written = itertools.chain.from_iterable(itertools.starmap(self._written, _timed(results)))
    found = dict(zip(similar, written, strict=False))  # the rest are rows of padding
    return [found[i] for i in range(len(rows))], credit

  def _budget(
      self, rows: Sequence[Row], size: int, order: Order, credit: Int[Array, ""]
  ) -> decoding.Budget:
    """Makes the budget of a batch, in which rows of padding have none."""
    shares, calls = np.zeros(size, np.float32), np.zeros(size, np.int32)
    shares[: len(rows)], calls[: len(rows)] = [row.share for row in rows], order.calls
    terms = self._reader.terms(order)
    return dataclasses.replace(terms, share=shares, calls=calls, credit=credit)

  def _written(self, result: decoding.DecodeResult, seconds: float) -> list[Written]:
    """Converts the rows of a batch, padding rows included."""
    return [
        self._reader.written(
            tokens, by_teacher, length=int(length), calls=int(calls), seconds=seconds
        )
        for tokens, by_teacher, length, calls in zip(
            result.tokens,
            result.written_by_teacher,
            result.length,
            result.teacher_calls,
            strict=True,
        )
    ]


def _timed(
    results: Iterable[tuple[float, decoding.DecodeResult]],
) -> list[tuple[decoding.DecodeResult, float]]:
  """Fetches the results of batches that were begun at these times, and how long each took."""
  found, free = [], -math.inf  # when the batch before was back
  for begun, result in results:
    result, begun = jax.device_get(result), max(begun, free)
    free = time.monotonic()
    found.append((result, free - begun))
  return found
