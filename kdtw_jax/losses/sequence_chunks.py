"""Readout and loss in chunks of the sequence, so that all float32 logits never exist at once.

At T = 128 and V = 32k the float32 logits of 64 sentences take 1 GiB, and their gradient another
GiB, while a loss needs only a few floats per token. Not here: the losses.

Shape letters: B batch, T target length, D width, C chunk of positions, V vocabulary.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from kdtw_jax.base import ArrayLike


def over_sequence_chunks(
    fn: Callable[..., Any],
    hidden: Float[ArrayLike, "B T D"],
    *arrays: Shaped[ArrayLike, "B T ..."],
    chunk_size: int,
) -> Any:
  """Maps a readout-and-loss function over chunks of the sequence, with one chunk in memory at once.

      result[:, t] = fn(hidden, *arrays)[:, t]    for a function that treats positions alike

  The backward pass recomputes each chunk instead of keeping its logits. Values and gradients equal
  those of the plain call. Parameters come in through fn's closure.

  Example:
    >>> import jax.numpy as jnp
    >>> table, hidden = jnp.ones((2, 7)), jnp.ones((1, 5, 2))
    >>> over_sequence_chunks(lambda h: jnp.sum(h @ table, -1), hidden, chunk_size=2).shape
    (1, 5)

  Args:
    fn: `(hidden [B, C, D], *chunks [B, C, ...]) -> pytree of [B, C, ...]`, where each position of
      the result depends only on the same position of the inputs.
    hidden: last hidden states.
    *arrays: further inputs of fn: targets, teacher states, masks.
    chunk_size: C, positions per chunk; 0 makes the plain call, which keeps all logits. T is padded
      to a multiple of C by repeating the last position.

  Returns:
    The pytree that fn returns, with leaves `[B, T, ...]`.

  Raises:
    ValueError: if chunk_size is below 0, or fn returns leaves that are not `[B, C, ...]`.
  """
  if chunk_size < 0:
    raise ValueError(f"chunk_size={chunk_size}: must be >= 0")
  if chunk_size == 0:
    return fn(jnp.asarray(hidden), *map(jnp.asarray, arrays))
  batch, length = hidden.shape[:2]
  size = min(chunk_size, length)

  @jax.checkpoint
  def one_chunk(chunk):
    result = fn(*chunk)
    for leaf in jax.tree.leaves(result):
      if leaf.shape[:2] != (batch, size):
        raise ValueError(
            f"fn returned a leaf of shape {leaf.shape}: its first axes must be {(batch, size)}, "
            "one entry for each position of the chunk"
        )
    return result

  if size == length:
    return one_chunk((jnp.asarray(hidden), *map(jnp.asarray, arrays)))
  chunks = tuple(_split(jnp.asarray(array), size) for array in (hidden, *arrays))
  return jax.tree.map(lambda leaf: _join(leaf, length), lax.map(one_chunk, chunks))


def _split(array: Array, size: int) -> Array:
  """Reshapes `[B, T, ...]` to `[T/C, B, C, ...]`.

  Padding repeats the last position, on which fn is finite, so the zero cotangents of the padding
  stay zero.
  """
  batch, length = array.shape[:2]
  missing = -length % size
  padded = jnp.pad(array, [(0, 0), (0, missing)] + [(0, 0)] * (array.ndim - 2), mode="edge")
  return jnp.moveaxis(padded.reshape(batch, -1, size, *array.shape[2:]), 1, 0)


def _join(array: Array, length: int) -> Array:
  """Reshapes `[T/C, B, C, ...]` back to `[B, T, ...]`."""
  batch = array.shape[1]
  return jnp.moveaxis(array, 0, 1).reshape(batch, -1, *array.shape[3:])[:, :length]
