"""How one of our parameters is made of published arrays, and they of it.

All units are powers of two, so nothing is rounded in either direction.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Entry(NamedTuple):
  """One of our parameters and the published arrays that it consists of.

  Attributes:
    path: keys in our nested dict.
    names: published names, in the order in which our kernel stacks them.
    join: `(*published arrays) -> ours`.
    split: `(ours) -> published arrays`.
  """

  path: tuple[str, ...]
  names: tuple[str, ...]
  join: Callable[..., np.ndarray]
  split: Callable[..., tuple[np.ndarray, ...]]


def _times(x: np.ndarray, scale: float) -> np.ndarray:
  """Multiplies by a power of two in the array's dtype; numpy would turn bfloat16 into float32."""
  return x if scale == 1.0 else x * x.dtype.type(scale)


def copied(path: str, name: str) -> Entry:
  """Makes the entry of a parameter that equals the published array."""
  return Entry(tuple(path.split("/")), (name,), lambda x: x, lambda x: (x,))


def scaled(path: str, name: str, scale: float) -> Entry:
  """Makes the entry of a parameter that is stored divided by a scale."""
  return Entry(
      tuple(path.split("/")), (name,), lambda x: _times(x, 1 / scale), lambda x: (_times(x, scale),)
  )


def tables(path: str, names: list[str], scale: float) -> Entry:
  """Makes the entry of tables that are stacked on a new first axis and divided by a scale."""
  return Entry(
      tuple(path.split("/")),
      tuple(names),
      lambda *x: _times(np.stack(x), 1 / scale),
      lambda x: tuple(_times(x, scale)),
  )


def kernel(path: str, *names: str, first_scale: float = 1.0) -> Entry:
  """Makes the entry of a kernel `[in, out]` or `[in, parts, out]` from `[out, in]` matrices.

  The first matrix is stored divided by `first_scale`.
  """
  keys = tuple(path.split("/"))
  scales = (first_scale, *[1.0] * (len(names) - 1))

  def join(*parts):
    scaled = [_times(x, 1 / scale) for x, scale in zip(parts, scales, strict=True)]
    return scaled[0].T if len(parts) == 1 else np.stack(scaled).transpose(2, 0, 1)

  def split(x):
    parts = [x] if len(names) == 1 else [x[:, i] for i in range(len(names))]
    return tuple(_times(part.T, scale) for part, scale in zip(parts, scales, strict=True))

  return Entry(keys, names, join, split)
