"""A split as token ids, its examples in length buckets, and the layout of padded batches.

Not here: the order of training; `pipeline` decides which examples share a batch. Shape letters: B,
S, T; E examples; P tokens of an instruction.
"""

from collections.abc import Callable, Iterable, Sequence
import itertools
import logging
from typing import NamedTuple

from jaxtyping import Bool, Float, Int
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
  """Tokenises all examples of a source; drops and logs those with an empty side.

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
  checked = check_buckets(buckets)
  if over_long not in ("drop", "truncate"):
    raise ValueError(f"config.data.over_long={over_long!r}: must be 'drop' or 'truncate'")
  parts, lengths = [], [np.zeros((0, 2), np.int64)]
  for start in track_fn(range(0, len(source), _CHUNK)):
    examples = [source[i] for i in range(start, min(start + _CHUNK, len(source)))]
    sides = (
        tokenizer.encode_batch([example.source for example in examples]),
        tokenizer.encode_batch([example.target for example in examples]),
    )
    lengths.append(np.array([[len(row) + 1 for row in side] for side in sides], np.int64).T)
    kept = np.flatnonzero(_is_kept(lengths[-1], checked, over_long))
    parts.append(
        [
            _ragged([side[i] for i in kept], limit)
            for side, limit in zip(sides, checked[-1], strict=True)
        ]
    )
  sources, targets = (_joined([part[side] for part in parts]) for side in (0, 1))
  return _split_of(sources, targets, np.concatenate(lengths), checked, over_long, task)


def _is_kept(
    lengths: Int[np.ndarray, "E 2"], buckets: tuple[tuple[int, int], ...], over_long: str
) -> Bool[np.ndarray, " E"]:
  """Returns True where both sides have a token and, unless truncated, fit the last bucket."""
  filled = np.all(lengths > 1, axis=1)
  fits = np.all(lengths <= np.array(buckets[-1])[None], axis=1)
  return filled & (fits | (over_long == "truncate"))


def _split_of(
    sources: Ragged,
    targets: Ragged,
    lengths: Int[np.ndarray, "all_examples 2"],
    buckets: tuple[tuple[int, int], ...],
    over_long: str,
    task: str,
) -> TokenisedSplit:
  num_examples, longest = len(lengths), np.array(buckets[-1])[None]
  num_empty = int((lengths == 1).any(axis=1).sum())
  if num_empty:
    _logger.warning("dropped %d of %d examples with an empty side", num_empty, num_examples)
  num_over_long = int((lengths > longest).any(axis=1).sum())
  if num_over_long:
    verb = "dropped" if over_long == "drop" else "truncated"
    _logger.warning(
        "%s %d of %d examples longer than the last bucket %s (longest: %d source, %d target)",
        verb,
        num_over_long,
        num_examples,
        buckets[-1],
        *lengths.max(axis=0),
    )
  kept = np.flatnonzero(_is_kept(lengths, buckets, over_long))
  if not len(kept):
    raise ValueError(
        f"none of {num_examples} examples is left: {num_empty} have an empty side, "
        f"{num_over_long} do not fit config.data.buckets, last {buckets[-1]}: give more text, add "
        "a longer bucket or set config.data.over_long='truncate'"
    )
  cut = np.minimum(lengths[kept], longest)
  fits = (cut[:, None, :] <= np.array(buckets)[None]).all(axis=2)  # [E, buckets]
  return TokenisedSplit(
      source=sources,
      target=targets,
      example_id=kept.astype(np.int32),
      bucket=fits.argmax(axis=1).astype(np.int32),
      buckets=buckets,
      num_over_long=num_over_long,
      task=task,
  )


def _ragged(rows: list[list[int]], max_length: int) -> Ragged:
  """Cuts rows to `max_length` ids, the last of which is EOS."""
  ended = [[*row[: max_length - 1], EOS_ID] for row in rows]
  starts = np.cumsum([0, *map(len, ended)], dtype=np.int64)
  return Ragged(np.fromiter(itertools.chain.from_iterable(ended), np.int32, starts[-1]), starts)


def _joined(parts: list[Ragged]) -> Ragged:
  lengths = [np.diff(part.starts) for part in parts]
  starts = np.concatenate([np.zeros(1, np.int64), *lengths]).cumsum()
  return Ragged(np.concatenate([np.zeros(0, np.int32), *(part.ids for part in parts)]), starts)


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
