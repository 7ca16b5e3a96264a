"""Readout and loss by chunks of the sequence, so that float32 logits never exist as a whole.

Not here: any loss. At T = 128, V = 32k the logits of 64 sentences are 1 GiB in float32, and as much
again for their gradient, while a loss wants a few floats per token of them.

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
  """Maps a readout-and-loss function over chunks of the sequence, one chunk in memory at a time.

      result[:, t] = fn(hidden, *arrays)[:, t]    for a function that treats positions alike

  The backward pass recomputes each chunk, so no chunk's logits are kept for it; values and
  gradients are those of the plain call. Parameters come in through fn's closure.

  Example:
    >>> import jax.numpy as jnp
    >>> table, hidden = jnp.ones((2, 7)), jnp.ones((1, 5, 2))
    >>> over_sequence_chunks(lambda h: jnp.sum(h @ table, -1), hidden, chunk_size=2).shape
    (1, 5)

  Args:
    fn: `(hidden [B, C, D], *chunks [B, C, ...]) -> pytree of [B, C, ...]`, where each position of
      the result depends on the same position of the inputs only.
    hidden: `[B, T, D]` last hidden states.
    *arrays: `[B, T, ...]` more inputs of fn: targets, teacher states, masks.
    chunk_size: C, positions per chunk; 0 is the plain call, all logits at once and kept. T is
      padded up to a multiple by repeating the last position.

  Returns:
    The pytree of fn, with leaves `[B, T, ...]`.

  Raises:
    ValueError: chunk_size below 0, or fn returns leaves that are not `[B, C, ...]`.
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
  """`[B, T, ...]` to `[T/C, B, C, ...]`.

  Padding repeats the last position: fn is finite on it, as it is on real ones, so that the zero
  cotangents of what is cut off again stay zero.
  """
  batch, length = array.shape[:2]
  missing = -length % size
  padded = jnp.pad(array, [(0, 0), (0, missing)] + [(0, 0)] * (array.ndim - 2), mode="edge")
  return jnp.moveaxis(padded.reshape(batch, -1, size, *array.shape[2:]), 1, 0)


def _join(array: Array, length: int) -> Array:
  """`[T/C, B, C, ...]` back to `[B, T, ...]`."""
  batch = array.shape[1]
  return jnp.moveaxis(array, 0, 1).reshape(batch, -1, *array.shape[3:])[:, :length]
