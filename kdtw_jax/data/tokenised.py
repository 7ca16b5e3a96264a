"""A split as token ids, its examples in length buckets, and the layout of padded batches.

Not here: the order of training; `pipeline` decides which examples share a batch. Shape letters: B,
S, T; E examples; P tokens of an instruction.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
import itertools
import logging
from typing import NamedTuple

from jaxtyping import Float, Int
import numpy as np

from kdtw_jax.base import EOS_ID, PAD_ID, Batch
from kdtw_jax.data.example import Source
from kdtw_jax.data.published_tokenizer import AnyTokenizer

_logger = logging.getLogger(__name__)
_CHUNK = 4096  # examples per call of the tokenizer

Buckets = Sequence[tuple[int, int]]


class Ragged(NamedTuple):
  """Rows of unequal length in one array: row i is `ids[starts[i] : starts[i + 1]]`."""

  ids: Int[np.ndarray, " total"]
  starts: Int[np.ndarray, " rows_plus_one"]

  def row(self, index: int) -> np.ndarray:
    """Returns row `index`."""
    return self.ids[self.starts[index] : self.starts[index + 1]]


class TokenisedSplit(NamedTuple):
  """The examples of a split as token ids, EOS included on both sides.

  Attributes:
    source: source ids of the E kept examples, each ending with EOS.
    target: target ids, each ending with EOS.
    example_id: index of each kept example in its source.
    bucket: number of the first bucket that holds both sides.
    buckets: `(source_length, target_length)` in tokens including EOS, growing in both.
    num_over_long: number of examples that were longer than the last bucket.
    task: what to do with a source, stated before it; "" for no task.
  """

  source: Ragged
  target: Ragged
  example_id: Int[np.ndarray, " E"]
  bucket: Int[np.ndarray, " E"]
  buckets: tuple[tuple[int, int], ...]
  num_over_long: int
  task: str = ""


def check_buckets(buckets: Buckets) -> tuple[tuple[int, int], ...]:
  """Checks the buckets and returns them as tuples.

  Args:
    buckets: `(source_length, target_length)` in tokens including EOS.

  Returns:
    The same buckets.

  Raises:
    ValueError: if there are none, a length is below 2, or they do not grow in both lengths.
  """
  checked = tuple((int(source), int(target)) for source, target in buckets)
  if not checked or min(min(bucket) for bucket in checked) < 2:
    raise ValueError(
        f"config.data.buckets={checked}: give at least one (source_length, target_length) of at "
        "least 2 tokens each (EOS counts)"
    )
  for small, large in itertools.pairwise(checked):
    if small == large or small[0] > large[0] or small[1] > large[1]:
      raise ValueError(
          f"config.data.buckets: {large} after {small}: order the buckets so that neither length "
          "ever shrinks and one grows"
      )
  return checked


def tokenise(
    source: Source,
    tokenizer: AnyTokenizer,
    *,
    buckets: Buckets,
    over_long: str = "drop",
    task: str = "",
    track_fn: Callable[[range], Iterable[int]] = iter,
) -> TokenisedSplit:
  """Tokenises all examples of a source in memory; drops and logs those with an empty side.

  Args:
    source: the examples.
    tokenizer: encodes the examples.
    buckets: `(source_length, target_length)` in tokens including EOS, without the instruction.
    over_long: what to do with an example that the last bucket does not hold: "drop" it, or
      "truncate" the side that is too long to its first tokens and EOS. Both log their counts.
    task: what to do with a source, e.g. "summarize"; batches state it, lengths do not count it.
    track_fn: yields the numbers of a range (the first of every 4096 examples) and shows progress.

  Returns:
    The tokenised split.

  Raises:
    ValueError: if the buckets or `over_long` are invalid, or no example is left.
  """
  parts = list(
      tokenised_parts(source, tokenizer, buckets=buckets, over_long=over_long, track_fn=track_fn)
  )
  counts = Counts.total(part.counts for part in parts)
  counts.log(buckets, over_long)
  counts.check(buckets)
  return TokenisedSplit(
      source=_joined([part.source for part in parts]),
      target=_joined([part.target for part in parts]),
      example_id=np.concatenate([part.example_id for part in parts]),
      bucket=np.concatenate([part.bucket for part in parts]),
      buckets=check_buckets(buckets),
      num_over_long=counts.over_long,
      task=task,
  )


class Counts(NamedTuple):
  """What became of the examples of a split.

  Attributes:
    examples: number of examples of the source.
    kept: number of those that the split holds.
    empty: number of those with a side without tokens.
    over_long: number of those that the last bucket does not hold.
    longest_source: length of the longest source, in tokens including EOS.
    longest_target: the same for targets.
  """

  examples: int = 0
  kept: int = 0
  empty: int = 0
  over_long: int = 0
  longest_source: int = 0
  longest_target: int = 0

  @classmethod
  def total(cls, parts: Iterable["Counts"]) -> "Counts":
    """Adds the counts of all parts of a split."""
    columns = list(zip(cls(), *parts, strict=True))
    return cls(*map(sum, columns[:4]), *map(max, columns[4:]))

  def log(self, buckets: Buckets, over_long: str) -> None:
    """Logs what was dropped or cut."""
    if self.empty:
      _logger.warning("dropped %d of %d examples with an empty side", self.empty, self.examples)
    if self.over_long:
      _logger.warning(
          "%s %d of %d examples longer than the last bucket %s (longest: %d source, %d target)",
          "dropped" if over_long == "drop" else "truncated",
          self.over_long,
          self.examples,
          check_buckets(buckets)[-1],
          self.longest_source,
          self.longest_target,
      )

  def check(self, buckets: Buckets) -> None:
    """Raises ValueError if nothing is left."""
    if not self.kept:
      raise ValueError(
          f"none of {self.examples} examples is left: {self.empty} have an empty side, "
          f"{self.over_long} do not fit config.data.buckets, last {check_buckets(buckets)[-1]}: "
          "give more text, add a longer bucket or set config.data.over_long='truncate'"
      )


class Part(NamedTuple):
  """The tokens of some consecutive examples; see `TokenisedSplit`.

  Attributes:
    source: source ids of the E kept examples.
    target: target ids.
    example_id: index of each kept example in its source.
    bucket: number of the first bucket that holds both sides.
    counts: what became of the examples.
  """

  source: Ragged
  target: Ragged
  example_id: Int[np.ndarray, " E"]
  bucket: Int[np.ndarray, " E"]
  counts: Counts


def tokenised_parts(
    source: Source,
    tokenizer: AnyTokenizer,
    *,
    buckets: Buckets,
    over_long: str = "drop",
    track_fn: Callable[[range], Iterable[int]] = iter,
) -> Iterator[Part]:
  """Tokenises the examples of a source, 4096 at a time; see `tokenise` for the arguments.

  Yields:
    The parts of the split, in order. Nothing is logged.

  Raises:
    ValueError: if the buckets or `over_long` are invalid.
  """
  checked = check_buckets(buckets)
  if over_long not in ("drop", "truncate"):
    raise ValueError(f"config.data.over_long={over_long!r}: must be 'drop' or 'truncate'")
  for start in track_fn(range(0, len(source), _CHUNK)):
    numbers = np.arange(start, min(start + _CHUNK, len(source)), dtype=np.int32)
    yield _part(encoded(source, numbers, tokenizer), numbers, checked, over_long)


def encoded(
    source: Source, numbers: Int[np.ndarray, " N"], tokenizer: AnyTokenizer
) -> tuple[list[list[int]], list[list[int]]]:
  """Returns the ids of both sides of some examples, without EOS."""
  examples = [source[i] for i in numbers.tolist()]
  return (
      tokenizer.encode_batch([example.source for example in examples]),
      tokenizer.encode_batch([example.target for example in examples]),
  )


def _part(
    sides: tuple[list[list[int]], list[list[int]]],
    numbers: Int[np.ndarray, " N"],
    buckets: tuple[tuple[int, int], ...],
    over_long: str,
) -> Part:
  """Drops or cuts what the last bucket does not hold, and finds the buckets of the rest."""
  lengths = np.array([[len(row) + 1 for row in side] for side in sides], np.int64).T
  longest = np.array(buckets[-1])[None]
  too_long = np.any(lengths > longest, axis=1)
  is_kept = np.all(lengths > 1, axis=1) & (~too_long | (over_long == "truncate"))
  kept = np.flatnonzero(is_kept)
  cut = np.minimum(lengths[kept], longest)
  fits = (cut[:, None, :] <= np.array(buckets)[None]).all(axis=2)  # [E, buckets]
  sources, targets = (
      ragged([side[i] for i in kept], limit) for side, limit in zip(sides, buckets[-1], strict=True)
  )
  counts = Counts(
      examples=len(numbers),
      kept=len(kept),
      empty=int((lengths == 1).any(axis=1).sum()),
      over_long=int(too_long.sum()),
      longest_source=int(lengths[:, 0].max()),
      longest_target=int(lengths[:, 1].max()),
  )
  return Part(sources, targets, numbers[kept], fits.argmax(axis=1).astype(np.int32), counts)


def ragged(rows: list[list[int]], max_length: int) -> Ragged:
  """Cuts rows to `max_length` ids, the last of which is EOS."""
  ended = [[*row[: max_length - 1], EOS_ID] for row in rows]
  starts = np.cumsum([0, *map(len, ended)], dtype=np.int64)
  return Ragged(np.fromiter(itertools.chain.from_iterable(ended), np.int32, starts[-1]), starts)


def _joined(parts: list[Ragged]) -> Ragged:
  lengths = [np.diff(part.starts) for part in parts]
  starts = np.concatenate([np.zeros(1, np.int64), *lengths]).cumsum()
  return Ragged(np.concatenate([part.ids for part in parts]), starts)


def lay_out(
    split: TokenisedSplit,
    rows: Int[np.ndarray, " B"],
    prompts: Sequence[Sequence[int]],
    budgets: Float[np.ndarray, " B"],
    *,
    task: Sequence[int],
    bucket: int,
    prompt_length: int,
) -> Batch:
  """Pads some examples to the shape of a bucket.

  Args:
    split: the tokenised split.
    rows: rows of the split; -1 makes a row that is all padding.
    prompts: B instructions of the student as ids, each at most `prompt_length` long; () for none.
    budgets: the budgets that the instructions state.
    task: P_t ids of the teacher's instruction; () for none.
    bucket: number of the bucket that gives the shape.
    prompt_length: P, length reserved for the student's instruction.

  Returns:
    A batch with `S_student = S + P` and `S_teacher = S + P_t`; S is the bucket's source length.
  """
  source_length, target_length = split.buckets[bucket]
  shape = len(rows)
  student = np.full((shape, source_length + prompt_length), PAD_ID, np.int32)
  teacher = np.full((shape, source_length + len(task)), PAD_ID, np.int32)
  target = np.full((shape, target_length), PAD_ID, np.int32)
  example_id = np.full(shape, -1, np.int32)
  for b, row in enumerate(rows.tolist()):
    if row < 0:
      continue
    source, reference, prompt = split.source.row(row), split.target.row(row), prompts[b]
    _fill(student[b], prompt, source)
    _fill(teacher[b], task, source)
    target[b, : len(reference)] = reference
    example_id[b] = split.example_id[row]
  return Batch(student, teacher, target, budgets.astype(np.float32), example_id)


def _fill(row: np.ndarray, instruction: Sequence[int], source: np.ndarray) -> None:
  """Writes an instruction and a source into a row, in place."""
  start, stop = len(instruction), len(instruction) + len(source)
  row[:start], row[start:stop] = instruction, source
