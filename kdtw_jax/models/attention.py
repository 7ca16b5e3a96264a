"""Attention of encoder-decoders, whose scores have an additive bias.

T5's has no biases in its projections, and a scale of its own; BART's has both as usual.

The cache (`cache.py`) and the position bias (`position_bias.py`) are not here: they are arguments.
Letters: B batch, C queries, L keys, D width, N heads, H head size.

Heads are folded into the last axis of the kernels, and projections of the same input share one
kernel (`qkv [D, 3, N*H]`, `kv [D, 2, N*H]`), because a decoding step at batch 1 is bound by the
number of operations, not by arithmetic.

T5 initialises q with std (D H)^-0.5 and does not scale the scores. Here q is stored sqrt(H) times
larger (rounded to a power of two, so that published weights convert exactly), which gives it about
the std of the other kernels, and the scores are scaled. The function is the same, but Adam, whose
step has one size for all parameters, no longer moves the scores sqrt(H) times faster than the rest.
"""

from flax import nnx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdtw_jax.devices import Names
from kdtw_jax.models.cache import KeyValue, as_memory
from kdtw_jax.models.config import ModelConfig
from kdtw_jax.models.layers import (
    DropoutSeed,
    dropout,
    normal_param,
    power_of_two,
    project,
    with_bias,
)


def attend(
    q: Float[Array, "B C N H"],
    memory: KeyValue,
    bias: Float[Array, "#B #N #C L"],
    scale: float,
    dropout_rate: float,
    seed: DropoutSeed | None,
) -> Float[Array, "B C N H"]:
  """Computes `softmax(scale · q · kᵀ + bias) · v`, the softmax in float32.

  Args:
    q: queries.
    memory: keys and values.
    bias: float32 position bias, plus MASKED_LOGIT at keys that must not be seen. A row that sees no
      key attends uniformly; its result is finite but meaningless.
    scale: factor of the scores.
    dropout_rate: share of attention weights to drop.
    seed: dropout seed; None switches dropout off.

  Returns:
    The weighted sum of the values, in their dtype.
  """
  q = q * jnp.asarray(scale, q.dtype)
  scores = jnp.einsum("bcnh,bnhl->bncl", q, memory.k, preferred_element_type=jnp.float32)
  weights = jax.nn.softmax(scores + bias, axis=-1)
  weights = dropout(weights.astype(memory.v.dtype), dropout_rate, seed)
  return jnp.einsum("bncl,bnlh->bcnh", weights, memory.v)


def query_unit(head_size: int) -> float:
  """Returns the T5 value of a stored query of 1: 1/sqrt(H), rounded to a power of two."""
  return power_of_two(head_size**-0.5)


def _score_scale(config: ModelConfig) -> float:
  """Returns the factor of the scores of queries as stored."""
  return config.d_kv**-0.5 if config.has_biases else query_unit(config.d_kv)


class Attention(nnx.Module):
  """What self-attention and cross-attention share: how they read a memory."""

  def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
    self.num_heads = config.num_heads
    self.dropout_rate = config.dropout_rate
    self.scale = _score_scale(config)
    self.out = _output_kernel(config, rngs)
    self.out_bias = _bias(config, (config.d_model,), (None,))

  def attend(
      self,
      q: Float[Array, "B C N H"],
      memory: KeyValue,
      bias: Float[Array, "#B #N #C L"],
      seed: DropoutSeed | None,
  ) -> Float[Array, "B C D"]:
    """Attends to the memory and projects the result back to the residual stream."""
    mixed = attend(q, memory, bias, self.scale, self.dropout_rate, seed)
    return _mapped(_merge_heads(mixed), self.out, self.out_bias)


class SelfAttention(Attention):
  """Attention with queries, keys and values from the same sequence."""

  def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
    self.qkv = _input_kernel(config, ("q", "k", "v"), rngs)
    self.qkv_bias = _bias(config, (3, config.inner), (None, "heads"))
    super().__init__(config, rngs)

  def project(
      self, x: Float[Array, "B C D"]
  ) -> tuple[Float[Array, "B C N H"], Float[Array, "B C N H"], Float[Array, "B C N H"]]:
    """Computes the queries, keys and values of each position."""
    qkv = _split_heads(_mapped(x, self.qkv, self.qkv_bias), self.num_heads)
    return qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]


class CrossAttention(Attention):
  """Attention with queries from the target, keys and values from the source; no position bias."""

  def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
    self.q = _input_kernel(config, ("q",), rngs)
    self.kv = _input_kernel(config, ("k", "v"), rngs)
    self.q_bias = _bias(config, (config.inner,), ("heads",))
    self.kv_bias = _bias(config, (2, config.inner), (None, "heads"))
    super().__init__(config, rngs)

  def memory(self, states: Float[Array, "B S D"]) -> KeyValue:
    """Computes the keys and values of the encoded source, once per sequence."""
    kv = _split_heads(_mapped(states, self.kv, self.kv_bias), self.num_heads)
    return as_memory(kv[:, :, 0], kv[:, :, 1])

  def __call__(
      self,
      x: Float[Array, "B C D"],
      memory: KeyValue,
      bias: Float[Array, "#B #N #C S"],
      seed: DropoutSeed | None,
  ) -> Float[Array, "B C D"]:
    """Attends to the source from each target position."""
    q = _split_heads(_mapped(x, self.q, self.q_bias), self.num_heads)
    return self.attend(q, memory, bias, seed)


def _mapped(
    x: Float[Array, "B C I"], kernel: nnx.Param, bias: nnx.Param | None
) -> Float[Array, "B C *O"]:
  """Projects x, and adds the bias if there is one."""
  mapped = project(x, kernel[...])
  return mapped if bias is None else with_bias(mapped, bias[...])


def _bias(config: ModelConfig, shape: tuple[int, ...], axes: Names) -> nnx.Param | None:
  """Makes the bias of a projection, zero at first; None for a model without."""
  if not config.has_biases:
    return None
  return nnx.Param(jnp.zeros(shape, jnp.dtype(config.param_dtype)), axes=axes)


def _input_kernel(config: ModelConfig, parts: tuple[str, ...], rngs: nnx.Rngs) -> nnx.Param:
  """Makes stacked projections `[D, len(parts), N*H]`, or `[D, N*H]` for one, of std D^-0.5."""
  d_model, inner = config.d_model, config.inner
  kernels = []
  for part in parts:
    std = d_model**-0.5
    if part == "q":
      std *= config.d_kv**-0.5 / _score_scale(config)
    kernels.append(normal_param(rngs, (d_model, inner), std, config.param_dtype)[...])
  if len(parts) == 1:
    return nnx.Param(kernels[0], axes=("embed", "heads"))
  return nnx.Param(jnp.stack(kernels, axis=1), axes=("embed", None, "heads"))


def _output_kernel(config: ModelConfig, rngs: nnx.Rngs) -> nnx.Param:
  """Makes the projection back to the residual stream, `[N*H, D]`, of std (N H)^-0.5."""
  shape = (config.inner, config.d_model)
  return normal_param(rngs, shape, config.inner**-0.5, config.param_dtype, ("heads", "embed"))


def _split_heads(x: Float[Array, "*lead NH"], num_heads: int) -> Float[Array, "*lead N H"]:
  """Unfolds the last axis into heads."""
  return x.reshape(*x.shape[:-1], num_heads, x.shape[-1] // num_heads)


def _merge_heads(x: Float[Array, "B C N H"]) -> Float[Array, "B C NH"]:
  """Folds the heads into the last axis."""
  return x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1])
