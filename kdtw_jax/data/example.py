"""An aligned example, and the interface of every source of examples.

Not here: readers of formats (`text`, `json_lines`, `delimited`, `parquet`, `datasets_source`,
`tfds_source` and `phrasebook`).
"""

from collections.abc import Sequence
import logging
import operator
from typing import NamedTuple, Protocol, SupportsIndex, runtime_checkable

from jaxtyping import Int
import numpy as np

_logger = logging.getLogger(__name__)

Tag = tuple[str, ...]


class Example(NamedTuple):
  """A source text and its target.

  Attributes:
    id: index of the example in its source: `source[example.id]` is an equal example.
    source: the task input, e.g. an English sentence.
    target: the reference that training uses.
    references: all references of the example, `target` first.
    tags: known properties of parts of the target. The phrasebook has one
      `(kind, surface, frequency)` per filler, e.g. `("territory", "Mosambik", "tail")`. The
      frequency is "head" or "tail" for a name, or "open" for a wording made by rule, such as a
      date. Other sources have no tags.
  """

  id: int
  source: str
  target: str
  references: tuple[str, ...]
  tags: tuple[Tag, ...] = ()


@runtime_checkable
class Source(Protocol):
  """A random-access sequence of examples."""

  def __len__(self) -> int:
    ...

  def __getitem__(self, index: SupportsIndex) -> Example:
    ...


class SelectedSource:
  """Some examples of another source, numbered anew."""

  def __init__(self, source: Source, numbers: Int[np.ndarray, " E"]):
    """Takes the source and the numbers of the examples, in their order; letters: E examples."""
    self._source, self._numbers = source, numbers

  def __len__(self) -> int:
    return len(self._numbers)

  def __getitem__(self, index: SupportsIndex) -> Example:
    number = check_index(index, len(self))
    return self._source[int(self._numbers[number])]._replace(id=number)


class InMemorySource:
  """A source in memory, numbered 0 .. n-1 in the order of the file.

  Attributes:
    rows: `(source, target, *further references)` per example.
  """

  def __init__(self, rows: Sequence[tuple[str, ...]]):
    """Makes a source.

    Args:
      rows: `(source, target, *further references)` per example.
    """
    self.rows = rows

  def __len__(self) -> int:
    return len(self.rows)

  def __getitem__(self, index: SupportsIndex) -> Example:
    number = check_index(index, len(self))
    source, *references = self.rows[number]
    return Example(number, source, references[0], tuple(references))


def check_index(index: SupportsIndex, size: int) -> int:
  """Returns the index as an int; raises IndexError outside 0 .. size-1."""
  number = operator.index(index)
  if not 0 <= number < size:
    raise IndexError(f"example {number} of a source of {size} examples")
  return number


def keep_filled(
    rows: Sequence[tuple[str, ...]], *, limit: int, where: str
) -> list[tuple[str, ...]]:
  """Drops rows with an empty source or target, logs how many, and keeps the first `limit` others.

  Empty further references are dropped from their row; the row stays.

  Args:
    rows: `(source, target, *further references)` per example.
    limit: largest number of rows to keep; 0 keeps all.
    where: name of the split and its files, for messages.

  Returns:
    The kept rows, in order.

  Raises:
    ValueError: if no row is left.
  """
  filled = [
      (row[0], row[1], *(r for r in row[2:] if r.strip()))
      for row in rows
      if row[0].strip() and row[1].strip()
  ]
  log_dropped(len(rows), len(filled), where=where)
  return filled[:limit] if limit else filled


def log_dropped(num_read: int, num_kept: int, *, where: str) -> None:
  """Logs how many rows have an empty side; raises ValueError if no other is left."""
  if num_kept < num_read:
    dropped = num_read - num_kept
    _logger.warning("%s: dropped %d of %d examples with an empty side", where, dropped, num_read)
  if not num_kept:
    raise ValueError(
        f"{where}: the split holds no example with both sides filled ({num_read} rows read): "
        "give it at least one, or point config.data.path at other data"
    )
