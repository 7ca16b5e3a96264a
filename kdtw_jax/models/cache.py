"""The source as the decoder sees it, and the decoding cache.

A cache does not know how far it is filled. Its reader passes positions, and entries after a query's
position are masked, so a rollback is just a smaller position. Not here: the decoder's bookkeeping
(tokens, lengths).
Letters: B batch, L length of the cache, S source length, N heads, H head size, C new tokens.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class KeyValue(NamedTuple):
  """Keys and values of one attention layer.

  Attributes:
    k: keys in the compute dtype; L is S for cross-attention.
    v: values in the compute dtype.

  The two matrix products of attention read these layouts directly. With any other layout the CPU
  would transpose the whole cache at each step.
  """

  k: Float[Array, "B N H L"]
  v: Float[Array, "B N L H"]


class Encoded(NamedTuple):
  """A source as the decoder sees it.

  Attributes:
    states: last hidden states in the compute dtype; meaningless where the mask is False.
    mask: True where the source holds a token.
    memory: for each layer, keys and values of the source, if reading it has made them; () of an
      encoder, whose states the decoder's cross-attention projects.
  """

  states: Float[Array, "B S D"]
  mask: Bool[Array, "B S"]
  memory: tuple[KeyValue, ...] = ()


class Cache(NamedTuple):
  """State of incremental decoding; only `self_attention` changes after `start`.

  Attributes:
    self_attention: for each decoder layer, keys and values of up to L inputs.
    cross_attention: for each decoder layer, keys and values of the source.
    source_mask: True where the source holds a token.
    position_bias: bias of each of the R = 2L - 1 distances, MASKED_LOGIT for the future, float32;
      one table (P = 1) for all layers, one per layer, or none (P = 0) for a model that rotates.
    price: p(x_B), the gate's price of asking in nats, float32; zeros for a gate without a price.
  """

  self_attention: tuple[KeyValue, ...]
  cross_attention: tuple[KeyValue, ...]
  source_mask: Bool[Array, "B S"]
  position_bias: Float[Array, "P N R"]
  price: Float[Array, " B"]


def empty_memory(
    batch: int, length: int, num_heads: int, head_size: int, dtype: jnp.dtype
) -> KeyValue:
  """Allocates zeros for the keys and values of `length` positions."""
  return KeyValue(
      jnp.zeros((batch, num_heads, head_size, length), dtype),
      jnp.zeros((batch, num_heads, length, head_size), dtype),
  )


def as_memory(k: Float[Array, "B L N H"], v: Float[Array, "B L N H"]) -> KeyValue:
  """Transposes projected keys and values to the layout that attention reads."""
  return KeyValue(jnp.transpose(k, (0, 2, 3, 1)), jnp.transpose(v, (0, 2, 1, 3)))


def take_rows(cache: Cache, places: Int[Array, " R"]) -> Cache:
  """Copies some rows of a batch; the bias by distance is that of all rows."""
  rows = jax.tree.map(lambda leaf: leaf[places], cache._replace(position_bias=()))
  return rows._replace(position_bias=cache.position_bias)


def append(
    past: KeyValue,
    k: Float[Array, "B C N H"],
    v: Float[Array, "B C N H"],
    positions: Int[Array, " B"],
) -> KeyValue:
  """Writes C entries per row at positions[b] .. positions[b] + C - 1; drops those past the end.

  This scatters only the new entries, so a loop that carries the cache updates it in place; a
  `where` over the whole cache would copy it at each step. Rows are mapped, not indexed, so that
  devices that share a batch write their own rows and send nothing.
  """
  batch, num_new = k.shape[:2]
  columns = positions[:, None] + jnp.arange(num_new, dtype=positions.dtype)[None]
  if batch * num_new == 1:
    # XLA turns a scatter of one entry into an update slice, fuses it with its readers and copies
    # the cache. A second entry past the end, which is dropped, keeps it an in-place scatter.
    columns = jnp.pad(columns, ((0, 0), (0, 1)), constant_values=past.k.shape[3])
    k, v = (jnp.pad(new, ((0, 0), (0, 1), (0, 0), (0, 0))) for new in (k, v))

  def write(
      row: KeyValue, k: Float[Array, "C N H"], v: Float[Array, "C N H"], columns: Int[Array, " C"]
  ) -> KeyValue:
    k, v = jnp.moveaxis(k, 0, -1), jnp.moveaxis(v, 0, 1)
    return KeyValue(
        row.k.at[:, :, columns].set(k.astype(row.k.dtype), mode="drop", unique_indices=True),
        row.v.at[:, columns].set(v.astype(row.v.dtype), mode="drop", unique_indices=True),
    )

  return jax.vmap(write)(past, k, v, columns)
