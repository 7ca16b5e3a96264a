"""Attention of causal models and T5Gemma: rotated queries and keys, several queries per key head.

Ainslie et al. 2023, https://arxiv.org/abs/2305.13245. The keys of a query lie in up to two places,
the memory of a prompt or source and that of the output, which are read without being joined. Not
here: masks, which are arguments, and the cache (`cache.py`).
Letters: B batch, C queries, L keys, D and I widths, N heads, K key heads, G = N / K, H head size.
"""

from collections.abc import Sequence

from flax import nnx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdtw_jax.models.cache import KeyValue
from kdtw_jax.models.config import ModelConfig
from kdtw_jax.models.layers import (
    DropoutSeed,
    RMSNorm,
    dropout,
    normal_param,
    project,
    soft_cap,
    with_bias,
)
from kdtw_jax.models.rotary import Rotation

Memory = tuple[KeyValue, Array]  # keys and values, and the bias [#B 1 #C L] of their positions


def attend(
    q: Float[Array, "B C N H"],
    memories: Sequence[Memory],
    scale: float,
    cap: float,
    dropout_rate: float,
    seed: DropoutSeed | None,
) -> Float[Array, "B C N H"]:
  """Computes `softmax(capped(scale · q · kᵀ) + bias) · v` over the keys of all memories.

  Args:
    q: queries.
    memories: keys and values of K heads each, with a float32 bias that is MASKED_LOGIT at keys that
      must not be seen. A query sees at least one.
    scale: of the scores.
    cap: their soft cap; 0 for none.
    dropout_rate: share of attention weights to drop.
    seed: dropout seed; None switches dropout off.

  Returns:
    The weighted sum of the values, in their dtype.
  """
  batch, num_queries, num_heads, size = q.shape
  heads = memories[0][0].k.shape[1]
  grouped = (q * jnp.asarray(scale, q.dtype)).reshape(batch, num_queries, heads, -1, size)
  scores = [
      jnp.einsum("bckgh,bkhl->bkgcl", grouped, memory.k, preferred_element_type=jnp.float32)
      for memory, _ in memories
  ]
  scores = [
      soft_cap(score, cap) + bias[:, :, None]
      for score, (_, bias) in zip(scores, memories, strict=True)
  ]
  weights = jax.nn.softmax(jnp.concatenate(scores, axis=-1), axis=-1)
  weights = dropout(weights.astype(q.dtype), dropout_rate, seed)
  mixed, start = jnp.zeros_like(grouped), 0
  for memory, _ in memories:
    part = jax.lax.slice_in_dim(weights, start, start + memory.v.shape[2], axis=-1)
    mixed = mixed + jnp.einsum("bkgcl,bklh->bckgh", part, memory.v)
    start += memory.v.shape[2]
  return mixed.reshape(batch, num_queries, num_heads, size)


class GroupedAttention(nnx.Module):
  """An attention. Kernels are `q [D, N*H]`, `kv [I, 2, K*H]` and `out [N*H, D]`.

  I is D, or the width of another sequence whose keys and values are read. Biases, where the config
  asks for them, have the shapes of what the kernels give.
  """

  def __init__(self, config: ModelConfig, rngs: nnx.Rngs, read_width: int | None = None):
    self.config = config
    width, dtype = config.d_model, config.param_dtype
    inner, keys = config.num_heads * config.d_kv, config.key_heads * config.d_kv
    self.q = normal_param(rngs, (width, inner), width**-0.5, dtype, ("embed", "heads"))
    read = width if read_width is None else read_width
    self.kv = normal_param(rngs, (read, 2, keys), read**-0.5, dtype, ("embed", None, "heads"))
    self.out = normal_param(rngs, (inner, width), inner**-0.5, dtype, ("heads", "embed"))
    if config.qkv_bias:
      self.q_bias = nnx.Param(jnp.zeros((inner,), jnp.dtype(dtype)), axes=("heads",))
      self.kv_bias = nnx.Param(jnp.zeros((2, keys), jnp.dtype(dtype)), axes=(None, "heads"))
    if config.out_bias:
      self.out_bias = nnx.Param(jnp.zeros((width,), jnp.dtype(dtype)))
    if config.qk_norm:
      self.q_norm = RMSNorm(config.d_kv, dtype, config.norm_epsilon, config.norm_offset)
      self.k_norm = RMSNorm(config.d_kv, dtype, config.norm_epsilon, config.norm_offset)

  def project(
      self, x: Float[Array, "B C D"], rotation: Rotation
  ) -> tuple[Float[Array, "B C N H"], Float[Array, "B C K H"], Float[Array, "B C K H"]]:
    """Computes the queries, keys and values of each position; queries and keys are rotated."""
    return self.queries(x, rotation), *self.keys_and_values(x, rotation)

  def queries(
      self, x: Float[Array, "B C D"], rotation: Rotation | None = None
  ) -> Float[Array, "B C N H"]:
    """Computes the queries of each position, rotated if there is a rotation."""
    q = project(x, self.q[...])
    if self.config.qkv_bias:
      q = with_bias(q, self.q_bias[...])
    q = q.reshape(*x.shape[:2], self.config.num_heads, -1)
    if self.config.qk_norm:
      q = self.q_norm(q)
    return q if rotation is None else rotation(q)

  def keys_and_values(
      self, x: Float[Array, "B C I"], rotation: Rotation | None = None
  ) -> tuple[Float[Array, "B C K H"], Float[Array, "B C K H"]]:
    """Computes the keys and values of each position; keys are rotated if there is a rotation."""
    kv = project(x, self.kv[...])
    if self.config.qkv_bias:
      kv = with_bias(kv, self.kv_bias[...])
    kv = kv.reshape(*x.shape[:2], 2, self.config.key_heads, -1)
    k, v = kv[:, :, 0], kv[:, :, 1]
    if self.config.qk_norm:
      k = self.k_norm(k)
    return k if rotation is None else rotation(k), v

  def attend(
      self, q: Float[Array, "B C N H"], memories: Sequence[Memory], seed: DropoutSeed | None
  ) -> Float[Array, "B C D"]:
    """Attends to the memories and projects the result back to the residual stream."""
    config = self.config
    scale = config.d_kv**-0.5 if config.query_scale is None else config.query_scale
    mixed = attend(q, memories, scale, config.score_cap, config.dropout_rate, seed)
    mapped = project(mixed.reshape(*mixed.shape[:2], -1), self.out[...])
    return with_bias(mapped, self.out_bias[...]) if config.out_bias else mapped
