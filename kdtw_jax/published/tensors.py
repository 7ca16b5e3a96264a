"""Tensors in safetensors files: read one at a time, written shard by shard.

Memory holds only the requested tensors. A read maps the file, copies one tensor and unmaps the file
again, so that its pages do not count as memory of the process. Not here: which tensors a model has
(`names.py`).
"""

from collections.abc import Iterable, Iterator, Mapping
import contextlib
import json
from pathlib import Path

import numpy as np
import safetensors
from safetensors.numpy import save_file

from kdtw_jax.files import system_reason
from kdtw_jax.published.causal_names import text_name
from kdtw_jax.published.folder import INDEX, WEIGHTS, weight_files

SHARD_BYTES = 5 * 10**9  # the size of transformers' own shards


class Tensors(Mapping):
  """The weights of a folder by name, as numpy arrays in the dtype of the file.

  Those of a text model inside a multimodal one have the names of a text model.
  """

  def __init__(self, folder: Path):
    """Lists the names; see `weight_files` for errors, and ValueError if a file is damaged."""
    found = weight_files(folder)
    if isinstance(found, Path):
      with _opened(found) as file:
        found = dict.fromkeys(file.keys(), found)
    self._files = {text_name(name): (path, name) for name, path in found.items()}

  def __getitem__(self, name: str) -> np.ndarray:
    path, stored = self._files[name]
    with _opened(path) as file:
      return file.get_tensor(stored)

  def __contains__(self, name: object) -> bool:
    return name in self._files  # Mapping's own method would read the tensor

  def __iter__(self) -> Iterator[str]:
    return iter(self._files)

  def __len__(self) -> int:
    return len(self._files)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[safetensors.safe_open]:
  """Opens a file; raises ValueError if it is damaged or lacks a tensor."""
  try:
    with safetensors.safe_open(path, framework="numpy") as file:
      yield file
  except safetensors.SafetensorError as error:
    raise ValueError(
        f"{path}: damaged, or not what the index says ({error}): download it again"
    ) from error


def read_tensors(path: Path) -> dict[str, np.ndarray]:
  """Reads all tensors of one file; raises ValueError if it is damaged."""
  with _opened(path) as file:
    return {name: file.get_tensor(name) for name in file.keys()}


def save_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
  """Writes one file; raises OSError if the disk is full."""
  try:
    save_file(dict(tensors), path, metadata={"format": "pt"})
  except safetensors.SafetensorError as error:
    raise OSError(f"{path}: {system_reason(error)}") from error


def write_tensors(
    folder: Path, tensors: Iterable[tuple[str, np.ndarray]], *, shard_bytes: int = SHARD_BYTES
) -> None:
  """Writes tensors as one `model.safetensors`, or as shards with an index.

  At most one shard is in memory if the iterable makes its arrays lazily.

  Args:
    folder: an existing folder.
    tensors: (name, array) pairs in order.
    shard_bytes: largest size of a file in bytes; a single larger tensor exceeds it.
  """
  shards: list[list[str]] = []
  pending: dict[str, np.ndarray] = {}
  total = 0

  def flush() -> None:
    save_tensors(folder / _part(len(shards)), pending)
    shards.append(list(pending))
    pending.clear()

  for name, array in tensors:
    if pending and sum(x.nbytes for x in pending.values()) + array.nbytes > shard_bytes:
      flush()
    pending[name] = np.ascontiguousarray(array)
    total += array.nbytes
  flush()
  if len(shards) == 1:
    (folder / _part(0)).rename(folder / WEIGHTS)
    return
  weight_map = {}
  for i, names in enumerate(shards):
    final = f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors"
    (folder / _part(i)).rename(folder / final)
    weight_map.update(dict.fromkeys(names, final))
  index = {"metadata": {"total_size": total}, "weight_map": weight_map}
  (folder / INDEX).write_text(json.dumps(index, indent=1), encoding="utf-8")


def _part(number: int) -> str:
  return f"part-{number}.safetensors"
