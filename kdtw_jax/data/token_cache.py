"""A tokenised split on disk: arrays that numpy maps into memory, written once and read by all.

    source_ids.npy, source_starts.npy    see `tokenised.Ragged`
    target_ids.npy, target_starts.npy
    example_id.npy, bucket.npy           see `tokenised.TokenisedSplit`
    made_of.json, checksums.json         what they were made of, and how to know that they are whole

The parts of a split are appended as they are made, so that writing takes the memory of one part.
Reading maps the files: the system loads pages that are read and drops them when memory is short.
The folder is whole or absent, whenever the writer is killed. Not here: what a split is made of, and
when it is made again (`inputs.py`).
"""

from collections.abc import Iterable
import contextlib
import hashlib
from pathlib import Path
import time
from typing import Any, NamedTuple

import numpy as np

from kdtw_jax.data.example import Source
from kdtw_jax.data.published_tokenizer import AnyTokenizer
from kdtw_jax.data.tokenised import (
    Buckets,
    Counts,
    Part,
    Ragged,
    TokenisedSplit,
    check_buckets,
    encoded,
    ragged,
)
from kdtw_jax.files import (
    CHECKSUMS,
    damaged_file,
    first_line,
    read_json_object,
    replaced_folder,
    write_checksums,
    write_json,
)

MADE_OF = "made_of.json"
_FORMAT = 1  # of the folder; another one is not read
_DTYPES = {
    "source_ids": np.int32,
    "source_starts": np.int64,
    "target_ids": np.int32,
    "target_starts": np.int64,
    "example_id": np.int32,
    "bucket": np.int32,
}
_HASHED = tuple(_DTYPES)[:5]  # the buckets follow from the lengths
_BLOCK = 2**22  # bytes
_MOST_CHECKED = 64  # examples that are tokenised again


class CachedTokens(NamedTuple):
  """A tokenised split whose arrays are files.

  Attributes:
    split: the split; its arrays can only be read.
    digest: the hash of its tokens, see `tokens_digest`.
    num_bytes: size of the files.
    seconds: time that making it took.
  """

  split: TokenisedSplit
  digest: str
  num_bytes: int
  seconds: float


def tokens_digest(split: TokenisedSplit) -> str:
  """Hashes a split's token ids and lengths; the same data give the same hash in any folder."""
  digest = hashlib.blake2b(digest_size=16)
  for array in (*split.source, *split.target, split.example_id):
    digest.update(np.ascontiguousarray(array).tobytes())
  return digest.hexdigest()


def write_cache(
    folder: Path, parts: Iterable[Part], *, made_of: dict[str, Any], buckets: Buckets
) -> None:
  """Writes a split part by part, in place of what the folder holds.

  Args:
    folder: the folder; the old one is kept until the new one is complete.
    parts: from `tokenised_parts`, in order.
    made_of: all that decides the tokens, as JSON; `read_cache` asks for the same.
    buckets: those of the parts.

  Raises:
    OSError: if it cannot be written.
    ValueError: if no example is left.
  """
  started, counts = time.monotonic(), []
  with replaced_folder(folder) as unfinished:
    with contextlib.ExitStack() as opened:
      files = {
          name: opened.enter_context(_Growing(unfinished / f"{name}.npy", kind))
          for name, kind in _DTYPES.items()
      }
      for side in ("source", "target"):
        files[f"{side}_starts"].append(np.zeros(1, np.int64))
      for part in parts:
        for side, rows in (("source", part.source), ("target", part.target)):
          files[f"{side}_starts"].append(rows.starts[1:] + files[f"{side}_ids"].size)
          files[f"{side}_ids"].append(rows.ids)
        files["example_id"].append(part.example_id)
        files["bucket"].append(part.bucket)
        counts.append(part.counts)
    total = Counts.total(counts)
    total.check(buckets)
    about = {
        "format": _FORMAT,
        "made_of": made_of,
        "counts": total._asdict(),
        "digest": _files_digest(unfinished),
        "seconds": time.monotonic() - started,
    }
    write_json(unfinished / MADE_OF, about)
    write_checksums(unfinished, unfinished.iterdir())


def read_cache(
    folder: Path,
    source: Source,
    tokenizer: AnyTokenizer,
    *,
    made_of: dict[str, Any],
    buckets: Buckets,
    over_long: str,
    task: str = "",
) -> CachedTokens:
  """Opens a split that `write_cache` wrote, and logs the same counts.

  All files are read once, block by block, and compared with their checksums. Up to 64 examples are
  tokenised again, in case the rules of tokenising changed and nothing in `made_of` says so.

  Args:
    folder: the folder.
    source: the examples.
    tokenizer: their tokenizer.
    made_of: all that decides the tokens.
    buckets: see `tokenise`.
    over_long: see `tokenise`.
    task: see `tokenise`; it does not change the tokens.

  Returns:
    The split, mapped into memory.

  Raises:
    FileNotFoundError: if there is no such folder.
    ValueError: if it is damaged, or was made of something else; names the folder and the reason.
  """
  if not folder.is_dir():
    raise FileNotFoundError(f"{folder}: no tokens yet")
  try:
    about = read_json_object(folder / MADE_OF, remedy="it cannot be used")
    if about.get("format") != _FORMAT:
      raise ValueError(f"{folder}: written by another version")
    others = [name for name, value in made_of.items() if about["made_of"].get(name) != value]
    if others:
      raise ValueError(f"{folder}: made with another {', '.join(others)}")
    damaged = damaged_file(folder) if (folder / CHECKSUMS).is_file() else CHECKSUMS
    if damaged:
      raise ValueError(f"{folder}: damaged, {damaged} is not as it was written")
    counts, digest, seconds = Counts(**about["counts"]), str(about["digest"]), about["seconds"]
  except (OSError, KeyError, TypeError, AttributeError) as error:
    raise ValueError(f"{folder}: damaged, {MADE_OF} ({first_line(error)})") from error
  split = _mapped(folder, buckets, counts, task)
  if not _agrees(split, source, tokenizer):
    raise ValueError(f"{folder}: made by other rules of tokenising")
  counts.log(buckets, over_long)
  num_bytes = sum((folder / f"{name}.npy").stat().st_size for name in _DTYPES)
  return CachedTokens(split, digest, num_bytes, float(seconds))


def _mapped(folder: Path, buckets: Buckets, counts: Counts, task: str) -> TokenisedSplit:
  """Maps the arrays, whose files are as they were written, into memory."""
  arrays = {
      name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False))
      for name in _DTYPES
  }
  return TokenisedSplit(
      source=Ragged(arrays["source_ids"], arrays["source_starts"]),
      target=Ragged(arrays["target_ids"], arrays["target_starts"]),
      example_id=arrays["example_id"],
      bucket=arrays["bucket"],
      buckets=check_buckets(buckets),
      num_over_long=counts.over_long,
      task=task,
  )


def _agrees(split: TokenisedSplit, source: Source, tokenizer: AnyTokenizer) -> bool:
  """Tokenises evenly spaced examples again; returns True if they have the split's tokens."""
  size = len(split.example_id)
  rows = np.unique(np.linspace(0, size - 1, min(_MOST_CHECKED, size)).astype(np.int64))
  if split.example_id[rows].max() >= len(source):
    return False
  sides = encoded(source, split.example_id[rows], tokenizer)
  for ids, kept, limit in zip(sides, (split.source, split.target), split.buckets[-1], strict=True):
    again = ragged(ids, limit)
    if any(not np.array_equal(again.row(i), kept.row(row)) for i, row in enumerate(rows.tolist())):
      return False
  return True


def _files_digest(folder: Path) -> str:
  """Returns `tokens_digest` of the arrays in a folder, read block by block."""
  digest = hashlib.blake2b(digest_size=16)
  for name in _HASHED:
    with (folder / f"{name}.npy").open("rb") as file:
      np.lib.format.read_magic(file)
      np.lib.format.read_array_header_1_0(file)
      while block := file.read(_BLOCK):
        digest.update(block)
  return digest.hexdigest()


class _Growing:
  """A one-dimensional array in a .npy file, written from its start to its end.

  Attributes:
    size: number of elements so far.
  """

  def __init__(self, path: Path, dtype: type[np.generic]):
    """Opens the file; numpy leaves room in the header for a longer array."""
    self._file, self._dtype, self.size = path.open("wb"), np.dtype(dtype), 0
    self._start = self._write_header()

  def append(self, array: np.ndarray) -> None:
    """Writes more elements."""
    self._file.write(np.ascontiguousarray(array, self._dtype).data)
    self.size += len(array)

  def __enter__(self) -> "_Growing":
    return self

  def __exit__(self, *unused) -> None:
    """Writes the number of elements into the header, and closes the file."""
    with self._file:
      self._file.seek(0)
      start = self._write_header()
    assert start == self._start  # the elements are where the header says

  def _write_header(self) -> int:
    shape = {
        "descr": np.lib.format.dtype_to_descr(self._dtype),
        "fortran_order": False,
        "shape": (self.size,),
    }
    np.lib.format.write_array_header_1_0(self._file, shape)
    return self._file.tell()
