"""What a teacher gave to the tokens of a split, on disk: written in parts, mapped into memory.

    made_of.json                  everything that the scores depend on
    00000/, 00001/, ...           4096 examples each, in the order of the split
      log_probs.npy               log μ of each target token, float32, one example after the other
      top_ids.npy                 [tokens, top], 16 bits each if the vocabulary allows it
      top_log_probs.npy           [tokens, top], float16
      ids.npy, starts.npy         the targets, if the teacher wrote them; see `tokenised.Ragged`
      checksums.json

A part is whole or absent, whenever the writer is killed. Not here: the teacher
(`stages/teacher_scores.py`). Shape letters: B, T; E examples.
"""

from collections.abc import Sequence
import itertools
import json
from pathlib import Path
from typing import Any, NamedTuple

from jaxtyping import Float, Int, Shaped
import numpy as np

from kdtw_jax.base import PAD_ID, ArrayLike, Batch, TeacherScores
from kdtw_jax.data.tokenised import Ragged, TokenisedSplit
from kdtw_jax.files import (
    CHECKSUMS,
    damaged_file,
    read_json_object,
    replaced_folder,
    write_checksums,
    write_json,
)

PART = 4096  # examples
_MADE_OF = "made_of.json"
_LEAST = np.finfo(np.float16).min
_FORMAT = 1  # of the folder; another one is not read


class ScoredPart(NamedTuple):
  """The scores of some consecutive examples of a split, token after token.

  Attributes:
    target: the E targets that were scored.
    log_probs: log μ of each token, nats.
    top_ids: the most likely tokens there.
    top_log_probs: their log μ, nats.
  """

  target: Ragged
  log_probs: Float[np.ndarray, " tokens"]
  top_ids: Shaped[np.ndarray, "tokens top"]
  top_log_probs: Float[np.ndarray, "tokens top"]


def begin_scores(folder: Path, made_of: dict[str, Any]) -> None:
  """Opens a folder of scores, or makes it.

  Args:
    folder: the folder.
    made_of: everything that the scores depend on, of JSON types.

  Raises:
    OSError: if it cannot be written.
    ValueError: if the scores in it were made of something else; names it.
  """
  wanted = json.loads(json.dumps({"format": _FORMAT, **made_of}))  # tuples are lists in a file
  if not (folder / _MADE_OF).is_file():
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / _MADE_OF, wanted)
  found = read_json_object(folder / _MADE_OF, remedy=f"delete {folder} to score again")
  for name in sorted({*wanted, *found}):
    if found.get(name) != wanted.get(name):
      raise ValueError(
          f"{folder}: these scores are of another run: {name} was {found.get(name)!r}, is "
          f"{wanted.get(name)!r}; name another config.scores.path, or delete the folder"
      )


def is_scored(folder: Path, part: int) -> bool:
  """Returns True if a part is there as it was written; reads all of it.

  Raises:
    ValueError: if the list of its files is damaged; names it.
  """
  path = folder / f"{part:05d}"
  return (path / CHECKSUMS).is_file() and damaged_file(path) is None


def write_scores(folder: Path, part: int, scores: ScoredPart, *, with_targets: bool) -> None:
  """Writes a part.

  Args:
    folder: from `begin_scores`.
    part: its number.
    scores: its scores.
    with_targets: False for references, which the split has.

  Raises:
    OSError: if it cannot be written.
  """
  arrays = {name: array for name, array in scores._asdict().items() if name != "target"}
  arrays |= scores.target._asdict() if with_targets else {}
  with replaced_folder(folder / f"{part:05d}") as unfinished:
    for name, array in arrays.items():
      np.save(unfinished / f"{name}.npy", array, allow_pickle=False)
    write_checksums(unfinished, unfinished.iterdir())


class ScoredSplit:
  """A split with what the teacher gave to its targets, or to its own outputs."""

  def __init__(self, split: TokenisedSplit, folder: Path, *, with_targets: bool):
    """Maps all parts into memory.

    Args:
      split: the split that was scored.
      folder: where all of its parts lie.
      with_targets: True if the targets are the teacher's own, and lie there too.

    Raises:
      OSError: if a part is missing.
    """
    self._example_id = split.example_id
    self._parts: Sequence[ScoredPart] = [
        _mapped(folder / f"{part:05d}", None if with_targets else part_of(split.target, part))
        for part in range(num_parts(split))
    ]

  def fill(self, batch: Batch) -> Batch:
    """Adds the scores of its rows to a batch, whose targets become those that were scored."""
    target = np.full(batch.target.shape, PAD_ID, np.int32)
    top = self._parts[0].top_ids.shape[1]
    log_probs = np.zeros(target.shape, np.float32)
    top_ids = np.zeros((*target.shape, top), np.int32)
    top_log_probs = np.zeros((*target.shape, top), np.float16)
    ids = np.asarray(batch.example_id)
    rows = np.searchsorted(self._example_id, ids)
    for b in np.flatnonzero(ids >= 0).tolist():
      number, row = divmod(int(rows[b]), PART)
      part = self._parts[number]
      start, stop = part.target.starts[row : row + 2].tolist()
      size = stop - start
      target[b, :size] = part.target.ids[start:stop]
      log_probs[b, :size] = part.log_probs[start:stop]
      top_ids[b, :size] = part.top_ids[start:stop]
      top_log_probs[b, :size] = part.top_log_probs[start:stop]
    return batch._replace(
        target=target, teacher_scores=TeacherScores(log_probs, top_ids, top_log_probs)
    )


def num_parts(split: TokenisedSplit) -> int:
  """Returns the number of parts of a split."""
  return -(-len(split.example_id) // PART)


def part_of(rows: Ragged, part: int) -> Ragged:
  """Returns the rows of a part; their ids are a view."""
  starts = rows.starts[part * PART : (part + 1) * PART + 1]
  return Ragged(rows.ids[starts[0] : starts[-1]], starts - starts[0])


def packed(
    rows: Sequence[tuple[Int[np.ndarray, " T"], TeacherScores]], vocab_size: int
) -> ScoredPart:
  """Makes a part of padded rows, in the order of the split.

  Args:
    rows: of each example the target, padded with PAD_ID, and the scores of that row.
    vocab_size: decides how many bits an id takes.
  """
  sizes = [int(np.sum(target != PAD_ID)) for target, _ in rows]
  starts = np.array([0, *itertools.accumulate(sizes)], np.int64)

  def joined(arrays: list[ArrayLike], kind: type[np.generic]) -> np.ndarray:
    cut = [np.asarray(array)[:size] for array, size in zip(arrays, sizes, strict=True)]
    return np.concatenate(cut).astype(kind)

  id_kind = np.uint16 if vocab_size <= 2**16 else np.int32
  return ScoredPart(
      target=Ragged(joined([target for target, _ in rows], np.int32), starts),
      log_probs=joined([scores.log_probs for _, scores in rows], np.float32),
      top_ids=joined([scores.top_ids for _, scores in rows], id_kind),
      top_log_probs=joined(
          [np.maximum(scores.top_log_probs, _LEAST) for _, scores in rows], np.float16
      ),
  )


def _mapped(folder: Path, target: Ragged | None) -> ScoredPart:
  """Maps a part into memory, with the targets that it has or is given."""

  def array(name: str) -> np.ndarray:
    return np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False))

  return ScoredPart(
      target or Ragged(array("ids"), array("starts")),
      *(array(name) for name in ScoredPart._fields[1:]),
  )
