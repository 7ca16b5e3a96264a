"""Data sets of the Hugging Face hub, or local ones in its layout, through the library `datasets`.

A data set is mapped into memory as Arrow files: those that `save_to_disk` wrote, or those that the
library makes once in its cache, from files of the hub or of a folder. No code of a data set is run.
Letters: E examples.
"""

from collections.abc import Callable, Iterator, Sequence
import functools
import os
from typing import Any, NamedTuple, SupportsIndex

from jaxtyping import Int
import numpy as np

from kdtw_jax.data.columns import find_columns
from kdtw_jax.data.example import Example, check_index, log_dropped
from kdtw_jax.files import first_line

_TEXT_TYPES = ("string", "large_string")
_BLOCK = 10_000  # rows that are read together


class DatasetsSource:
  """Rows of a data set with both sides filled; they are read when they are asked for."""

  def __init__(self, rows: Any, numbers: Int[np.ndarray, " E"]):
    """Makes a source.

    Args:
      rows: a `datasets.Dataset` of text columns: source, target, further references.
      numbers: the rows that are examples, ascending.
    """
    self._rows, self._numbers = rows.with_format("arrow"), numbers

  def __len__(self) -> int:
    return len(self._numbers)

  def __getitem__(self, index: SupportsIndex) -> Example:
    number = check_index(index, len(self))
    row = self._rows[int(self._numbers[number])]
    return _example(number, [column[0].as_py() for column in row.columns])

  def __iter__(self) -> Iterator[Example]:
    """Reads block by block, many times as fast as by number."""
    wanted = np.zeros(len(self._rows), bool)
    wanted[self._numbers] = True
    texts = (
        row
        for block in self._rows.iter(batch_size=_BLOCK)
        for row in zip(*(column.to_pylist() for column in block.columns), strict=True)
    )
    kept = (row for row, is_wanted in zip(texts, wanted, strict=True) if is_wanted)
    return (_example(number, row) for number, row in enumerate(kept))


def _example(number: int, texts: Sequence[str | None]) -> Example:
  source, target, *further = (text or "" for text in texts)
  return Example(number, source, target, (target, *(text for text in further if text.strip())))


def open_datasets(
    path: str,
    split: str,
    *,
    subset: str = "",
    source_field: str,
    target_field: str,
    reference_fields: Sequence[str] = (),
    limit: int = 0,
) -> DatasetsSource:
  """Opens one split of a data set.

  Args:
    path: the id of a data set of the hub, e.g. "wmt/wmt14", followed by "@" and a revision unless
      it is the newest; or a folder of files in the hub's layout; or one that `save_to_disk` wrote;
      or a single file.
    split: name of the split in the data set; slices such as "train[:1%]" work, except of what
      `save_to_disk` wrote.
    subset: name of a configuration, e.g. "de-en"; "" if there is one alone.
    source_field: the column with the task input; that of a record is named with ".", as in
      "translation.de".
    target_field: the column with the target.
    reference_fields: columns with further references; a data set may lack them.
    limit: largest number of examples to keep; 0 keeps all.

  Returns:
    The examples; rows with an empty or absent source or target are dropped with a log message.

  Raises:
    FileNotFoundError: if the data set has no such split; names those there.
    ValueError: if the library is not installed, there is no such data set or subset, the hub cannot
      be reached, a file is damaged, or a column is missing or is not text.
  """
  opened, where = _open(path, subset), f"config.data.path={path!r}"
  if _unknown(split, opened.names):
    known = ", ".join(map(repr, opened.names))
    raise FileNotFoundError(
        f"{where}: no split {split!r}, only {known}: name one by config.data.train_split, "
        "validation_split and test_split"
    )
  try:
    table = opened.read_fn(split).flatten()
  except (KeyError, ValueError) as error:
    raise ValueError(
        f"{where}: split {split!r} cannot be read ({first_line(error)}): name a split as it is, or "
        "a slice as 'train[:10%]', which what save_to_disk wrote does not have"
    ) from error
  columns = find_columns(
      table.column_names,
      source_field=source_field,
      target_field=target_field,
      reference_fields=reference_fields,
      where=where,
  )
  for column in columns:
    if getattr(table.features[column], "dtype", "") not in _TEXT_TYPES:
      raise ValueError(
          f"{where}, column {column!r}: holds {table.features[column]!r:.80}, not text: choose a "
          "column of strings"
      )
  rows = table.select_columns(columns)
  return DatasetsSource(rows, _filled(rows, columns, limit, where=f"split '{split}' ({path})"))


def lacks_split(path: str, split: str, *, subset: str = "") -> bool:
  """Returns True if a data set has no split of this name; errors as in `open_datasets`."""
  return _unknown(split, _open(path, subset).names)


def arrow_files(path: str, split: str, *, subset: str = "") -> list[str]:
  """Returns the files that hold a split; errors as in `open_datasets`."""
  return [file["filename"] for file in _open(path, subset).read_fn(split).cache_files]


def _filled(rows: Any, columns: Sequence[str], limit: int, *, where: str) -> Int[np.ndarray, " E"]:
  """Returns the numbers of the first `limit` rows with both sides filled; reads in blocks."""
  import pyarrow
  import pyarrow.compute as pc

  found, num_read, num_found = [], 0, 0
  for block in rows.with_format("arrow").iter(batch_size=_BLOCK):
    try:
      block.validate(full=True)
    except pyarrow.ArrowInvalid as error:
      raise ValueError(
          f"{where}: damaged between the rows {num_read} and {num_read + len(block)} "
          f"({first_line(error)}): make or download it again, as UTF-8 text"
      ) from error
    sides = (pc.utf8_length(pc.utf8_trim_whitespace(block.column(c))) for c in columns[:2])
    lengths = [side.fill_null(0).to_numpy() for side in sides]
    kept = np.flatnonzero((lengths[0] > 0) & (lengths[1] > 0))
    found.append(num_read + kept)
    num_read, num_found = num_read + len(block), num_found + len(kept)
    if limit and num_found >= limit:
      break
  log_dropped(num_read, num_found, where=where)
  return np.concatenate(found).astype(np.int64)[: limit or None]


class _Opened(NamedTuple):
  """A data set: the names of its splits, and what gives one as a `datasets.Dataset`."""

  names: tuple[str, ...]
  read_fn: Callable[[str], Any]


def _unknown(split: str, names: Sequence[str]) -> bool:
  """Returns True if a split, or a sum of slices as "train[:9]+test", is not of these."""
  return not {part.partition("[")[0].strip() for part in split.split("+")} <= {*names}


@functools.cache  # one run reads one version of a data set, asked for once
def _open(path: str, subset: str) -> _Opened:
  """Opens a data set; downloads it, or makes its Arrow files, if that was not done before."""
  try:
    import datasets  # here: it is an extra, and takes a second
  except ImportError as error:
    raise ValueError(
        "config.data.source='datasets': needs the library datasets, which cannot be imported "
        f"({first_line(error)}): pip install 'kdtw_jax[datasets]'"
    ) from error
  place = os.path.expanduser(path)
  where = f"config.data.path={path!r}" + (f", config.data.subset={subset!r}" if subset else "")
  try:
    if any(os.path.isfile(os.path.join(place, name)) for name in _SAVED):
      return _saved(datasets, place, subset)
    return _built(datasets, place, subset)
  except (OSError, RuntimeError, TypeError, ValueError, datasets.exceptions.DatasetsError) as error:
    raise ValueError(f"{where}: {_explained(error, path, place)}") from error


_SAVED = ("state.json", "dataset_dict.json")  # of a folder that `save_to_disk` wrote


def _saved(datasets: Any, place: str, subset: str) -> _Opened:
  if subset:
    raise ValueError("what save_to_disk wrote has no subsets: set config.data.subset to ''")
  splits = datasets.load_from_disk(place)
  if isinstance(splits, datasets.Dataset):
    splits = {str(splits.split or "train").partition("[")[0]: splits}
  return _Opened(tuple(splits), splits.__getitem__)


def _built(datasets: Any, place: str, subset: str) -> _Opened:
  name, revision, files = place, None, None
  if os.path.isfile(place):
    name, files = os.path.split(os.path.abspath(place))
  elif not os.path.isdir(place):
    name, _, revision = place.partition("@")
  builder = datasets.load_dataset_builder(
      name, subset or None, revision=revision or None, data_files=files
  )
  builder.download_and_prepare()
  return _Opened(tuple(builder.info.splits), lambda split: builder.as_dataset(split=split))


def _explained(error: Exception, path: str, place: str) -> str:
  """Says what the library's error means, and what to do."""
  reason = " ".join(str(error.__cause__ or error).split())[:200] or type(error).__name__
  kinds = {kind.__name__ for kind in type(error).__mro__}
  if "scripts are no longer supported" in reason:
    return (
        f"{reason}, and code of a data set is never run: give files of data, which the hub often "
        "has as OWNER/NAME@refs/convert/parquet"
    )
  if "Config name is missing" in reason or "BuilderConfig" in reason:
    return f"{reason}: set config.data.subset to one of them"
  if os.path.exists(place):
    return (
        f"cannot be read as a data set ({reason}): give a folder of files that the library "
        "datasets reads, e.g. train.parquet and test.parquet, or one that save_to_disk wrote"
    )
  if "ConnectionError" in kinds:
    name = path.partition("@")[0]
    return (
        f"no such folder, and the hub cannot be reached ({reason}): where there is a network, run "
        f"`hf download {name} --repo-type=dataset --local-dir=DIR`, bring DIR here, and give it"
    )
  return (
      f"neither a folder nor a data set of the hub that may be read ({reason}): check the name, "
      "OWNER/NAME; of a private or gated one, run `hf auth login` first"
  )
