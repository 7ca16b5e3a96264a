"""What decoding keeps of a sequence: self-attention keys and values, and the encoded source.

Not the decoder's bookkeeping (tokens, lengths): a cache does not know how far it is filled. Its
reader states positions, and entries after a query's position are masked; so a rollback is nothing
but a smaller position.
Letters: B batch, L length of the cache, S source length, N heads, H head size, C new tokens.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class KeyValue(NamedTuple):
  """Keys and values of one attention layer.

  Attributes:
    k: `[B, N, H, L]` in the compute dtype; L is S for cross-attention.
    v: `[B, N, L, H]` likewise.

  These are the layouts in which the two products of attention read them, row by column; from any
  other the CPU would transpose the whole cache at each step.
  """

  k: Float[Array, "B N H L"]
  v: Float[Array, "B N L H"]


class Cache(NamedTuple):
  """State of incremental decoding; all fields but `self_attention` never change after `start`.

  Attributes:
    self_attention: per decoder layer the keys and values of the inputs so far, room for L inputs.
    cross_attention: per decoder layer the keys and values of the source.
    source_mask: `[B, S]` bool: True where the source holds a token.
    position_bias: `[P, N, 2L - 1]` float32: bias of each distance, MASKED_LOGIT for the future; one
      table for all layers, or for each its own.
    price: `[B]` float32: p(x_B), what the gate charges for asking; zeros without such a gate.
  """

  self_attention: tuple[KeyValue, ...]
  cross_attention: tuple[KeyValue, ...]
  source_mask: Bool[Array, "B S"]
  position_bias: Float[Array, "P N R"]
  price: Float[Array, " B"]


def empty_memory(
    batch: int, length: int, num_heads: int, head_size: int, dtype: jnp.dtype
) -> KeyValue:
  """Room for the keys and values of `length` positions, all zero."""
  return KeyValue(
      jnp.zeros((batch, num_heads, head_size, length), dtype),
      jnp.zeros((batch, num_heads, length, head_size), dtype),
  )


def as_memory(k: Float[Array, "B L N H"], v: Float[Array, "B L N H"]) -> KeyValue:
  """Keys and values as projections give them, brought to the layout that attention reads."""
  return KeyValue(jnp.transpose(k, (0, 2, 3, 1)), jnp.transpose(v, (0, 2, 1, 3)))


def append(
    past: KeyValue,
    k: Float[Array, "B C N H"],
    v: Float[Array, "B C N H"],
    positions: Int[Array, " B"],
) -> KeyValue:
  """Writes C entries per row at positions[b] .. positions[b] + C - 1; drops those past the end.

  A scatter of the new entries alone: a loop that carries the cache updates it in place, where a
  `where` over the whole cache would copy it each step.
  """
  batch, num_new = k.shape[:2]
  rows = jnp.arange(batch, dtype=positions.dtype)[:, None]
  columns = positions[:, None] + jnp.arange(num_new, dtype=positions.dtype)[None]
  if batch * num_new == 1:
    # XLA makes an update slice of a scatter of one entry, fuses it with its readers and copies the
    # cache for that. A second entry, past the end and dropped, keeps it a scatter in place.
    columns = jnp.pad(columns, ((0, 0), (0, 1)), constant_values=past.k.shape[3])
    k, v = (jnp.pad(new, ((0, 0), (0, 1), (0, 0), (0, 0))) for new in (k, v))
  new_k, new_v = k.astype(past.k.dtype), v.astype(past.v.dtype)
  return KeyValue(
      past.k.at[rows, :, :, columns].set(new_k, mode="drop", unique_indices=True),
      past.v.at[rows, :, columns].set(new_v, mode="drop", unique_indices=True),
  )
