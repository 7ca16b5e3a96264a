"""Texts in, texts out: the implementation of `Pair.write`.

New texts do not compile new programs. Sources are padded to a few widths (powers of two up to the
longest source that the pair was trained on) and decoded in batches of 1 or BATCH rows. Not here:
who writes which token (decoding/), what may be asked for (orders.py).

Shape letters: B batch, S source length.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int
import ml_collections
import numpy as np

from kdtw_jax import data, decoding
from kdtw_jax.base import EOS_ID, PAD_ID, Params, PRNGKey
from kdtw_jax.models import Models, knows_worth
from kdtw_jax.orders import Order, Orders

BATCH = 16  # rows that decode together if more than one text is given
_NARROWEST = 16
_DEFAULT_CHUNK = 8  # in place of config.decode.chunk=0: measuring the best one takes seconds


class Written(NamedTuple):
  """A pair's output for one text.

  Attributes:
    text: the output.
    tokens: its pieces, with "▁" for a space; ends with EOS unless the output was cut off.
    by_teacher: for each token, True where the teacher wrote it.
    calls: how often the teacher was consulted.
    share: share of the tokens that the teacher wrote, 0..1.
  """

  text: str
  tokens: tuple[str, ...]
  by_teacher: tuple[bool, ...]
  calls: int
  share: float


_NOTHING = Written("", (), (), 0, 0.0)  # the output for a blank text


class TextError(ValueError):
  """A text that a pair cannot read.

  Attributes:
    number: its index among the texts, from 0.
    problem: what is wrong with it and what to do.
  """

  def __init__(self, number: int, text: str, problem: str):
    """Takes the text to quote its beginning."""
    start = repr(text[:40]) + ("..." if len(text) > 40 else "")
    super().__init__(f"texts[{number}]={start}: {problem}")
    self.number, self.problem = number, problem


class _Row(NamedTuple):
  """One text, and what may be spent on it.

  Attributes:
    student: the ids that the student reads, ending with EOS.
    teacher: the ids that the teacher reads, ending with EOS.
    share: the share that the student reads in its instruction.
  """

  student: list[int]
  teacher: list[int]
  share: float


class Writer:
  """The jitted decoder of one pair, and the shapes it is compiled for.

  Attributes:
    widths: lengths in tokens that sources are padded to, ascending.
    decode: `(params, teacher_params, student_source [B, S], teacher_source [B, S], budget, key,
      policy) -> DecodeResult`; jitted, compiled once per width, B, form and policy structure.
  """

  def __init__(
      self,
      config: Mapping[str, Any],
      tokenizer: data.AnyTokenizer,
      models: Models,
      params: tuple[Params, Params],
      *,
      shortest: tuple[float, float],
      prices: tuple[tuple[float, ...], tuple[float, ...]] | None,
      paces: Mapping[str, float],
  ):
    """Takes the parts of a pair; `params` is (student's, teacher's), the rest as in `Pair`."""
    self._tokenizer, self._params = tokenizer, params
    self._orders = Orders(
        config, shortest=shortest, prices=prices, paces=paces, knows_worth=knows_worth(params[0])
    )
    self._task = config["data"]["task"]
    self._shortest = shortest
    self._longest = max(source for source, _ in config["data"]["buckets"])
    self._room = data.instruction_length(tokenizer, ml_collections.ConfigDict(config))
    self.widths = _ladder(self._longest + self._room)
    student, teacher = (model.decoder_fns for model in models)

    def decode(params, teacher_params, student_source, teacher_source, budget, key, policy):
      return decoding.decode(
          student,
          teacher,
          params,
          teacher_params,
          student_source,
          teacher_source,
          budget,
          key,
          policy,
          max_length=config["decode"]["max_length"],
          chunk=config["decode"]["chunk"] or _DEFAULT_CHUNK,
          wait=config["decode"]["wait"],
      )

    self.decode = jax.jit(decode)

  def write(
      self,
      texts: object,
      budget: object = None,
      form: object = "share",
      policy: decoding.Policy | str | None = None,
  ) -> list[Written]:
    """Writes an output for each text; see `Pair.write` for arguments and errors."""
    order = self._orders.order(budget, form, policy)
    rows = self._rows(texts := check_texts(texts), order)
    for number, row in enumerate(rows):
      if not row.student:
        raise TextError(number, texts[number], "has nothing to read; leave it out")
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
    order = self._orders.order(budget, form, policy)  # refused before the first text is read
    return self._in_windows(iter(texts), order, batch, window, cut)

  def _in_windows(
      self, texts: Iterator[str], order: Order, batch: int, window: int, cut: bool
  ) -> Iterator[Written]:
    """Decodes `window` texts at a time; a ledger passes from one window to the next."""
    credit, number = jnp.int32(0), 0
    while taken := list(itertools.islice(texts, window)):
      found = dict.fromkeys(range(len(taken)), _NOTHING)
      rows = self._rows(check_texts(taken, number), order, number, cut)
      readable = [i for i in found if rows[i].student]
      key = jax.random.fold_in(jax.random.key(0), number)
      written, credit = self._decoded([rows[i] for i in readable], order, batch, key, credit)
      yield from (found | dict(zip(readable, written, strict=True))).values()
      number += len(taken)

  def _decoded(
      self, rows: Sequence[_Row], order: Order, size: int, key: PRNGKey, credit: Int[Array, ""]
  ) -> tuple[list[Written], Int[Array, ""]]:
    """Decodes rows in batches of similar lengths; gives them in order, and the credit left."""
    similar = sorted(range(len(rows)), key=lambda i: len(rows[i].student))
    size, results = 1 if len(rows) == 1 else size, []
    for start in range(0, len(rows), size):
      batch = [rows[i] for i in similar[start : start + size]]
      own = jax.random.fold_in(key, start)
      limits = self._budget(batch, size, order, credit)
      result = self.decode(*self._params, *self._sources(batch, size), limits, own, order.policy)
      credit = result.credit  # of the stream, so that no batch begins with nothing saved
      results.append(result)
    written = itertools.chain.from_iterable(map(self._written, results))
    found = dict(zip(similar, written, strict=False))  # the rest are rows of padding
    return [found[i] for i in range(len(rows))], credit

  def _budget(
      self, rows: Sequence[_Row], size: int, order: Order, credit: Int[Array, ""]
  ) -> decoding.Budget:
    """Makes the budget of a batch, in which rows of padding have none."""
    shares, calls = np.zeros(size, np.float32), np.zeros(size, np.int32)
    shares[: len(rows)], calls[: len(rows)] = [row.share for row in rows], order.calls
    return decoding.Budget(
        share=shares,
        pace=np.float32(order.pace),
        shortest=tuple(map(np.float32, self._shortest)),
        calls=calls,
        credit=credit,
        form=order.form,
    )

  def _rows(
      self, texts: Sequence[str], order: Order, first: int = 0, cut: bool = False
  ) -> list[_Row]:
    """Encodes texts; a blank one gives a row without ids.

    Args:
      texts: the texts.
      order: what the student reads before each.
      first: the index of the first text, for errors.
      cut: reads only the beginning of a text that is too long.

    Raises:
      TextError: if a text is too long, and not to be cut.
    """
    stated = order.stated or self._orders.stated(self._orders.smallest)
    prompt = self._prompt(stated)
    task = data.encode_task(self._tokenizer, self._task)
    rows = []
    for number, source in enumerate(self._tokenizer.encode_batch(texts), first):
      if not source or not texts[number - first].strip():
        rows.append(_Row([], [], 0.0))
        continue
      if len(source) + 1 > self._longest and not cut:
        problem = (
            f"{len(source)} tokens, this pair reads at most {self._longest - 1}: split the text, "
            "or train with longer config.data.buckets"
        )
        raise TextError(number, texts[number - first], problem)
      ended = [*source[: self._longest - 1], EOS_ID]
      read = [*task, *ended]
      if order.stated is None:
        stated = self._orders.stated(self._orders.share_of_calls(order.calls, len(read)))
        prompt = self._prompt(stated)
      rows.append(_Row([*prompt, *ended], read, stated.share))
    return rows

  def _prompt(self, stated: data.Stated) -> list[int]:
    """Encodes an instruction; raises ValueError if it is too long for the pair."""
    prompt = self._tokenizer.encode_instruction(stated.instruction)
    if len(prompt) > self._room:
      raise ValueError(
          f"budget={stated.instruction.strip()!r}: takes {len(prompt)} tokens, this pair has room "
          f"for {self._room}: say it shorter, or give the share as a number"
      )
    return prompt

  def _sources(
      self, rows: Sequence[_Row], size: int
  ) -> tuple[Int[np.ndarray, "B S"], Int[np.ndarray, "B S"]]:
    """Pads the sources of student and teacher to one of the widths and to `size` rows."""
    longest = max(len(ids) for row in rows for ids in (row.student, row.teacher))
    width = next(width for width in self.widths if width >= longest)
    student, teacher = np.full((2, size, width), PAD_ID, np.int32)
    for i, row in enumerate(rows):
      student[i, : len(row.student)] = row.student
      teacher[i, : len(row.teacher)] = row.teacher
    return student, teacher

  def _written(self, result: decoding.DecodeResult) -> list[Written]:
    """Converts the rows of a batch, padding rows included."""
    result = jax.device_get(result)
    found = []
    for tokens, length, by_teacher, calls in zip(
        result.tokens, result.length, result.written_by_teacher, result.teacher_calls, strict=True
    ):
      ids, by_teacher = tokens[:length].tolist(), by_teacher[:length]
      found.append(
          Written(
              text=self._tokenizer.decode(ids),
              tokens=tuple(self._tokenizer.pieces(ids)),
              by_teacher=tuple(by_teacher.tolist()),
              calls=int(calls),
              share=float(by_teacher.sum() / max(length, 1)),
          )
      )
    return found


def check_texts(texts: object, first: int = 0) -> list[str]:
  """Returns the texts as a list; raises ValueError if they are not a text or a list of texts."""
  if isinstance(texts, str):
    texts = [texts]
  if not isinstance(texts, list | tuple):
    raise ValueError(f"texts={texts!r:.60}: must be a text or a list of texts")
  for i, text in enumerate(texts, first):
    if not isinstance(text, str):
      raise ValueError(
          f"texts[{i}]={text!r:.60}: must be a str, not {type(text).__name__}: give texts, not ids"
      )
    try:
      text.encode()
    except UnicodeEncodeError as error:
      raise ValueError(
          f"texts[{i}]={text!r:.60}: holds half a character at {error.start} (a lone surrogate): "
          "decode the text again with errors='replace'"
      ) from error
  return list(texts)


def _ladder(longest: int) -> tuple[int, ...]:
  """Returns the powers of two below `longest`, then itself: `_ladder(60)` is `(16, 32, 60)`."""
  powers = itertools.takewhile(lambda n: n < longest, (_NARROWEST << i for i in itertools.count()))
  return (*powers, longest)
