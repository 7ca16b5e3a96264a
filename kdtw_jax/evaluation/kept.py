"""What an evaluation under way has measured, kept in a folder, so that one that was ended goes on.

Not here: what a finished evaluation leaves (record.py). Its results are measured anew each time.
"""

from collections.abc import Callable
import functools
import hashlib
import io
import json
from pathlib import Path
import shutil
from typing import Any
import zipfile

import numpy as np

from kdtw_jax import processes
from kdtw_jax.evaluation.outputs import COUNTS, Outputs
from kdtw_jax.files import read_json_object, write_atomically, write_json

_MADE_OF = "made_of.json"


class Kept:
  """Results by what they are results of, a file each."""

  def __init__(self, folder: Path | None, made_of: dict[str, Any] | None = None):
    """Goes on in a folder; deletes what is in it if it was made of something else.

    Args:
      folder: where results are kept; None keeps none.
      made_of: everything that results depend on, of JSON types.
    """
    self._folder = folder
    if folder is not None:
      processes.first_alone(functools.partial(_begin, folder, made_of or {}))

  def outputs(
      self, of: object, make: Callable[[], Outputs], decode: Callable[[list[int]], str]
  ) -> Outputs:
    """Returns outputs that are kept, or makes and keeps them.

    Args:
      of: what they are the outputs of; its `repr` names them.
      make: decodes them.
      decode: makes text of token ids.
    """
    path = self._path(of, "npz")
    if path is None:
      return make()
    found = _read_arrays(path)
    everywhere = all(processes.gathered(found is not None))
    if found is not None and everywhere:
      return _as_outputs(found, decode)
    made = make()
    processes.first_alone(functools.partial(_write_outputs, path, made), makes=path)
    return made

  def value(self, of: object, make: Callable[[], Any]) -> Any:
    """Returns a value of JSON types that is kept, or makes and keeps it; see `outputs`."""
    path = self._path(of, "json")
    if path is None:
      return make()
    found = processes.of_first(_read_json(path))
    if found is None:
      found = {"value": make()}
      processes.first_alone(functools.partial(_write_value, path, found))
    return found["value"]

  def clear(self) -> None:
    """Deletes what is kept: the evaluation is done."""
    if self._folder is not None and processes.is_first():
      shutil.rmtree(self._folder, ignore_errors=True)

  def _path(self, of: object, kind: str) -> Path | None:
    name = hashlib.sha256(repr(of).encode()).hexdigest()[:24]
    return None if self._folder is None else self._folder / f"{name}.{kind}"


def _begin(folder: Path, made_of: dict[str, Any]) -> None:
  """Makes the folder anew, unless it was made of the same."""
  made_of = json.loads(json.dumps(made_of))  # tuples are lists in a file
  if _read_json(folder / _MADE_OF) != made_of:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_json(folder / _MADE_OF, made_of)


def _read_json(path: Path) -> dict[str, Any] | None:
  """Reads an object; None if the file is missing or damaged."""
  try:
    return read_json_object(path, remedy="measure it again")
  except (OSError, ValueError):
    return None


def _write_value(path: Path, value: dict[str, Any]) -> None:
  """Writes an object; gives no path, which is of no JSON type for the other processes."""
  write_json(path, value)


def _read_arrays(path: Path) -> dict[str, np.ndarray] | None:
  """Reads a file; None if it is missing or damaged."""
  try:
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as found:
      return {name: found[name] for name in ("ids", "by_teacher", "counts")}
  except (OSError, ValueError, KeyError, zipfile.BadZipFile):
    return None


def _write_outputs(path: Path, outputs: Outputs) -> None:
  """Writes outputs, the rows of all sentences one after the other, without their texts."""
  file = io.BytesIO()
  ids = np.concatenate([np.zeros(0, np.int32), *(np.array(row, np.int32) for row in outputs.ids)])
  by_teacher = np.concatenate([np.zeros(0, bool), *outputs.by_teacher])
  counts = np.stack([outputs.counts[name] for name in COUNTS])
  np.savez_compressed(file, ids=ids, by_teacher=by_teacher, counts=counts)
  write_atomically(path, file.getvalue())


def _as_outputs(found: dict[str, np.ndarray], decode: Callable[[list[int]], str]) -> Outputs:
  """Divides rows of tokens by the lengths of sentences."""
  counts: dict[str, np.ndarray] = dict(zip(COUNTS, found["counts"], strict=True))
  ends = np.cumsum(counts["length"])
  rows = [*map(slice, ends - counts["length"], ends)]
  ids = [found["ids"][row].tolist() for row in rows]
  return Outputs(
      texts=[decode(row) for row in ids],
      ids=ids,
      by_teacher=[found["by_teacher"][row] for row in rows],
      counts=counts,
  )
