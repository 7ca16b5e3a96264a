"""Longer texts from short ones: each example joins several consecutive examples of a source."""

from typing import SupportsIndex

from kdtw_jax.data.example import Example, Source, check_index


class JoinedSource:
  """A source whose example i joins the examples `n i` to `n i + n - 1` of another.

  Texts are joined by a space. Examples that do not fill the last group are dropped. The number of
  references is the smallest of the group: reference k joins the group's references k.
  """

  def __init__(self, source: Source, n: int):
    """Makes a source.

    Args:
      source: the short examples.
      n: number of examples to join, at least 1.

    Raises:
      ValueError: if there are fewer than `n` examples.
    """
    if len(source) < n:
      raise ValueError(
          f"config.data.join={n}: the split has {len(source)} examples, too few for one text: "
          "lower it, or give more"
      )
    self._source, self._n = source, n

  def __len__(self) -> int:
    return len(self._source) // self._n

  def __getitem__(self, index: SupportsIndex) -> Example:
    number = check_index(index, len(self))
    parts = [self._source[number * self._n + i] for i in range(self._n)]
    references = tuple(map(" ".join, zip(*(part.references for part in parts), strict=False)))
    return Example(
        number,
        " ".join(part.source for part in parts),
        references[0],
        references,
        tuple(tag for part in parts for tag in part.tags),
    )
