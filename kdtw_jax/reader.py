"""What a pair reads and writes as text: prompts and texts to token ids, outputs to text.

Not here: decoding (writer.py decodes lists, live.py one text in pieces, serving/ what comes), and
what may be asked for (orders.py).

Shape letters: B batch, S source length, T tokens of an output.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import itertools
from typing import Any, NamedTuple

from jaxtyping import Bool, Int
import ml_collections
import numpy as np

from kdtw_jax import data, decoding
from kdtw_jax.base import EOS_ID, PAD_ID
from kdtw_jax.orders import Order, Orders

_NARROWEST = 16


@dataclasses.dataclass(frozen=True)
class Written:
  """A pair's output for one text. Two are equal if the same was written, however long it took.

  Attributes:
    text: the output.
    tokens: its pieces, with "▁" for a space; ends with EOS unless the output was cut off.
    by_teacher: for each token, True where the teacher wrote it.
    calls: how often the teacher was consulted.
    share: share of the tokens that the teacher wrote, 0..1.
    seconds: wall time of decoding, with that of compiling if a program was new. `Pair.write` and
      `write_stream` measure batches: from when the decoder had the batch and was done with the one
      before, until its outputs were back; all texts of a batch have its time. `Pair.stream`
      measures from when its first piece was asked for until the last one was written, with what
      the caller did between them. A server measures from when the text entered a slot, beside the
      others that were written then. 0 for a blank text, which is not decoded.
  """

  text: str
  tokens: tuple[str, ...]
  by_teacher: tuple[bool, ...]
  calls: int
  share: float
  seconds: float = dataclasses.field(default=0.0, compare=False)


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


class Row(NamedTuple):
  """One text, and what may be spent on it.

  Attributes:
    student: the ids that the student reads, ending with EOS.
    teacher: the ids that the teacher reads, ending with EOS.
    share: the share that the student reads in its instruction.
  """

  student: list[int]
  teacher: list[int]
  share: float


class Reader:
  """One pair's way from texts to ids and back.

  Attributes:
    widths: lengths in tokens that sources are padded to, ascending.
  """

  def __init__(
      self,
      config: Mapping[str, Any],
      tokenizer: data.AnyTokenizer,
      *,
      shortest: tuple[float, float],
      prices: tuple[tuple[float, ...], tuple[float, ...]] | None,
      paces: Mapping[str, float],
      knows_worth: bool,
  ):
    """Takes parts of a `Pair`, and whether its student has the head `worth`."""
    self._tokenizer, self._task = tokenizer, config["data"]["task"]
    self._orders = Orders(
        config, shortest=shortest, prices=prices, paces=paces, knows_worth=knows_worth
    )
    self._shortest = tuple(map(np.float32, shortest))
    self._longest = max(source for source, _ in config["data"]["buckets"])
    self._room = data.instruction_length(tokenizer, ml_collections.ConfigDict(config))
    self.widths = _ladder(self._longest + self._room)

  def order(
      self,
      budget: object = None,
      form: object = "share",
      policy: decoding.Policy | str | None = None,
  ) -> Order:
    """Reads what a call asks for; see `Pair.write` for the arguments and errors."""
    return self._orders.order(budget, form, policy)

  def filled_rows(self, texts: object, order: Order) -> list[Row]:
    """Encodes a text or a list of texts, none of which may be blank.

    Raises:
      TextError: if one is blank or too long.
      ValueError: if they are no texts.
    """
    rows = self.rows(texts := check_texts(texts), order)
    for number, row in enumerate(rows):
      if not row.student:
        raise TextError(number, texts[number], "has nothing to read; leave it out")
    return rows

  def terms(self, order: Order) -> decoding.Budget:
    """Returns the part of a budget that all texts of an order share."""
    return decoding.Budget(
        (), pace=np.float32(order.pace), shortest=self._shortest, form=order.form
    )

  def rows(
      self, texts: Sequence[str], order: Order, first: int = 0, cut: bool = False
  ) -> list[Row]:
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
        rows.append(Row([], [], 0.0))
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
      rows.append(Row([*prompt, *ended], read, stated.share))
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

  def sources(
      self, rows: Sequence[Row], size: int, *, width: int | None = None
  ) -> tuple[Int[np.ndarray, "B S"], Int[np.ndarray, "B S"]]:
    """Pads the sources of student and teacher to a width, by default their own, and `size` rows."""
    width = self.width(rows) if width is None else width
    student, teacher = np.full((2, size, width), PAD_ID, np.int32)
    for i, row in enumerate(rows):
      student[i, : len(row.student)] = row.student
      teacher[i, : len(row.teacher)] = row.teacher
    return student, teacher

  def width(self, rows: Sequence[Row]) -> int:
    """Returns the smallest of the widths that fits these rows."""
    longest = max(len(ids) for row in rows for ids in (row.student, row.teacher))
    return next(width for width in self.widths if width >= longest)

  def written(
      self,
      tokens: Int[np.ndarray, " T"],
      by_teacher: Bool[np.ndarray, " T"],
      *,
      length: int,
      calls: int,
      seconds: float,
  ) -> Written:
    """Converts an output, of which `length` tokens are written in so many seconds."""
    ids, by_teacher = tokens[:length].tolist(), by_teacher[:length]
    return Written(
        text=self.text(ids),
        tokens=tuple(self._tokenizer.pieces(ids)),
        by_teacher=tuple(by_teacher.tolist()),
        calls=calls,
        share=float(by_teacher.sum() / max(length, 1)),
        seconds=seconds,
    )

  def text(self, ids: Sequence[int]) -> str:
    """Returns the text of some ids."""
    return self._tokenizer.decode(ids)


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
