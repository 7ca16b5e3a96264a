"""T5's relative position bias: buckets of distances, one learned number per bucket and head.

It makes the additive term that the layers of a stack share, or of which each has its own (UMT5).
Not here: the attention layers.
Letters: N heads, L length of the cache or sequence, C queries, B batch, P tables.

A bias depends only on `key position - query position`, so a stack needs only the `[N, 2L - 1]`
numbers of the distances -(L-1) .. L-1. Skewing that table gives the `[L, L]` matrix of a full pass.
The row of one query at position p is the window of length L that starts at L-1-p:

    L = 3, table = [w(-2) w(-1) w(0) w(1) w(2)]
    p = 0: window starts at 2: [w(0)  w(1)  w(2)]
    p = 2: window starts at 0: [w(-2) w(-1) w(0)]

In a decoder w(1), w(2), ... are MASKED_LOGIT, so the table is the causal mask too.
"""

from flax import nnx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from kdtw_jax.base import MASKED_LOGIT
from kdtw_jax.models.layers import normal_param

BIAS_UNIT = 8.0  # bias of a stored entry of 1, see RelativePositionBias


def relative_position_bucket(
    relative: Int[np.ndarray, " R"], *, bidirectional: bool, num_buckets: int, max_distance: int
) -> Int[np.ndarray, " R"]:
  """Returns the bucket of each relative position: exact near zero, logarithmic up to max_distance.

  Raffel et al. 2020, https://arxiv.org/abs/1910.10683, section 2.1, as in the public T5 code.

  Args:
    relative: key position minus query position.
    bidirectional: True gives half of the buckets to keys after the query; False puts all such keys
      in bucket 0.
    num_buckets: number of buckets.
    max_distance: distance from which on the last bucket is shared.

  Returns:
    Bucket numbers, 0 .. num_buckets - 1.
  """
  offset = np.zeros_like(relative)
  if bidirectional:
    num_buckets //= 2
    offset = np.where(relative > 0, num_buckets, 0)
    distance = np.abs(relative)
  else:
    distance = np.maximum(-relative, 0)
  max_exact = num_buckets // 2
  # float32, as in the published models: float64 would round some boundary distances differently.
  ratio = np.maximum(distance, 1).astype(np.float32) / np.float32(max_exact)
  log_ratio = np.log(ratio) / np.float32(np.log(max_distance / max_exact))
  far = max_exact + (log_ratio * np.float32(num_buckets - max_exact)).astype(relative.dtype)
  far = np.minimum(far, num_buckets - 1)
  return (offset + np.where(distance < max_exact, distance, far)).astype(relative.dtype)


class RelativePositionBias(nnx.Module):
  """The learned tables of one stack, `embedding [P, buckets, N]`, stored divided by BIAS_UNIT.

  Only this table tells the model the order of tokens. A useful bias is a few units large, which is
  thousands of Adam's steps away from zero unless each unit is stored as an eighth.
  """

  def __init__(
      self,
      num_tables: int,
      num_buckets: int,
      max_distance: int,
      num_heads: int,
      bidirectional: bool,
      std: float,
      param_dtype: str,
      rngs: nnx.Rngs,
  ):
    self.num_buckets = num_buckets
    self.max_distance = max_distance
    self.bidirectional = bidirectional
    self.embedding = normal_param(
        rngs, (num_tables, num_buckets, num_heads), std, param_dtype, (None, None, "heads")
    )

  def tables(self, length: int) -> Float[Array, "P N R"]:
    """Computes float32 biases at distances -(length-1) .. length-1; a decoder masks the future."""
    relative = np.arange(-(length - 1), length)
    buckets = relative_position_bucket(
        relative,
        bidirectional=self.bidirectional,
        num_buckets=self.num_buckets,
        max_distance=self.max_distance,
    )
    stored = jnp.take(self.embedding[...], buckets, axis=1).astype(jnp.float32)
    bias = BIAS_UNIT * stored.swapaxes(1, 2)
    if self.bidirectional:
      return bias
    past = jnp.broadcast_to(jnp.asarray(relative <= 0), bias.shape)
    return jnp.where(past, bias, MASKED_LOGIT)


def skew(table: Float[Array, "N R"]) -> Float[Array, "1 N L L"]:
  """Makes the matrix M[i, j] = table[j - i + L-1] of each head, L = (R + 1) / 2.

  It repeats the table with one entry of padding (period 2L) and cuts it into rows of length 2L - 1,
  so that each row starts one entry earlier than the one above. This is cheap forwards and
  backwards, while an index lookup would scatter L² gradients.
  """
  num_heads, span = table.shape
  length = (span + 1) // 2
  padded = jnp.pad(table, ((0, 0), (0, 1)))
  flat = jnp.broadcast_to(padded[:, None], (num_heads, length, span + 1))
  flat = flat.reshape(num_heads, length * (span + 1))[:, : length * span]
  return flat.reshape(1, num_heads, length, span)[..., length - 1 :]


def windows(
    table: Float[Array, "N R"], positions: Int[Array, " B"], num_queries: int
) -> Float[Array, "B N C L"]:
  """Returns the bias of queries at positions[b] .. positions[b] + C - 1 on keys 0 .. L - 1."""
  num_heads, span = table.shape
  length = (span + 1) // 2

  def window(position: Int[Array, ""]) -> Float[Array, "N L"]:
    start = (jnp.zeros_like(position), length - 1 - position)
    return jax.lax.dynamic_slice(table, start, (num_heads, length))

  queries = positions[:, None] + jnp.arange(num_queries, dtype=positions.dtype)[None]
  return jax.vmap(jax.vmap(window, out_axes=1))(queries)
