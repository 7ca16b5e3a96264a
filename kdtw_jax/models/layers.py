"""The small layers of all models: norms, dropout, embedding, feed-forward, and the heads' MLP.

Only BART's and the heads' MLP have biases. Not here: attention (`attention.py`,
`grouped_attention.py`) and whole blocks (`encoder_decoder.py`, `causal_lm.py`).
Letters: B batch, C positions, D width, F hidden width, V vocabulary.
"""

import functools
import math

from flax import nnx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt32

from kdtw_jax.base import PRNGKey
from kdtw_jax.devices import Names
from kdtw_jax.models.config import ModelConfig
from kdtw_jax.models.int8 import Int8
from kdtw_jax.models.low_rank import LowRank

RMS_EPSILON, LAYER_EPSILON = 1e-6, 1e-5

DropoutSeed = UInt32[Array, "2"]


def power_of_two(x: float) -> float:
  """Returns the power of two nearest to x > 0 in ratio; scaling by it is exact for all floats."""
  return 2.0 ** round(math.log2(x))


def normal_param(
    rngs: nnx.Rngs, shape: tuple[int, ...], std: float, dtype: str, axes: Names = ()
) -> nnx.Param:
  """Draws a parameter from N(0, std²).

  Args:
    rngs: gives the key.
    shape: its shape.
    std: standard deviation.
    dtype: its dtype.
    axes: the logical axes, see `kdtw_jax.devices`; () for a parameter that is never split.
  """
  return nnx.Param(std * jax.random.normal(rngs.params(), shape, jnp.dtype(dtype)), axes=axes)


def project(
    x: Float[Array, "B C I"],
    kernel: Float[Array, "I *O"] | Int8 | LowRank,  # noqa: F821  reads I * O
) -> Float[Array, "B C *O"]:
  """Computes `x @ kernel` in x's dtype; a rank-3 kernel is several matrices in one product."""
  if isinstance(kernel, LowRank):
    change = project(project(x, kernel.down) * kernel.scale, kernel.up)
    return project(x, kernel.kernel) + change
  if isinstance(kernel, Int8):
    # Otherwise XLA makes a float copy of the kernel before a loop, and the loop reads that.
    x, values = jax.lax.optimization_barrier((x, kernel.values))
    product = jnp.tensordot(x, values.astype(x.dtype), axes=1)
    return product * jnp.broadcast_to(kernel.unit.astype(x.dtype), product.shape)
  return jnp.tensordot(x, kernel.astype(x.dtype), axes=1)


def with_bias(x: Float[Array, "*lead O"], bias: Float[Array, "*O"]) -> Float[Array, "*lead O"]:
  """Adds the bias of the last axes, in x's dtype."""
  return x + jnp.broadcast_to(bias.astype(x.dtype), x.shape)


def soft_cap(x: Float[Array, "*shape"], cap: float) -> Float[Array, "*shape"]:
  """Computes `c · tanh(x / c)`, which is near x where x is small, and below c; x if c = 0.

  Gemma 2, https://arxiv.org/abs/2408.00118.
  """
  return cap * jnp.tanh(x / cap) if cap else x


def dropout_seeds(key: PRNGKey | None, num: int) -> tuple[DropoutSeed | None, ...]:
  """Draws a seed for each of `num` dropouts, or returns None for each if there is no key."""
  if key is None:
    return (None,) * num
  return tuple(jax.random.bits(key, (num, 2), jnp.uint32))


def dropout(
    x: Float[Array, "*shape"], rate: float, seed: DropoutSeed | None
) -> Float[Array, "*shape"]:
  """Zeroes a share `rate` of the entries and scales up the rest; the identity without a seed.

  The random bits are an integer hash of the entry's index and the seed. Used at each of a model's
  dozens of dropouts, JAX's generator would take most of a training step's compile time on a CPU and
  part of its run time; here it only draws the seeds.

  Args:
    x: any array.
    rate: share to drop, in [0, 1).
    seed: from `dropout_seeds`, used for this dropout only; None switches dropout off.

  Returns:
    An array of x's shape and dtype.
  """
  if seed is None or rate == 0.0:
    return x
  bits = _hash(_hash(jnp.arange(x.size, dtype=jnp.uint32) + seed[0]) + seed[1])
  keep = bits.reshape(x.shape) >= jnp.uint32(round(rate * 2**32))
  return jnp.where(keep, x * jnp.asarray(1.0 / (1.0 - rate), x.dtype), jnp.zeros_like(x))


def _hash(x: UInt32[Array, " size"]) -> UInt32[Array, " size"]:
  """Applies a 32-bit bijection in which flipping a bit of x flips each result bit half the time.

  Constants from https://github.com/skeeto/hash-prospector.
  """
  x = (x ^ (x >> 16)) * jnp.uint32(0x21F0AAAD)
  x = (x ^ (x >> 15)) * jnp.uint32(0x735A2D97)
  return x ^ (x >> 15)


class RMSNorm(nnx.Module):
  """`w · x / sqrt(mean(x²) + ε)`, statistics in float32, no mean, no bias.

  With an offset the parameter is w - 1, as Gemma stores it.
  """

  def __init__(
      self, width: int, param_dtype: str, epsilon: float = RMS_EPSILON, offset: bool = False
  ):
    self.epsilon, self.offset = epsilon, float(offset)
    self.weight = nnx.Param(jnp.full((width,), 1.0 - self.offset, jnp.dtype(param_dtype)))

  def __call__(self, x: Float[Array, "*lead D"]) -> Float[Array, "*lead D"]:
    """Normalises the last axis and keeps x's dtype."""
    x32 = x.astype(jnp.float32)
    inverse = jax.lax.rsqrt(jnp.mean(jnp.square(x32), axis=-1, keepdims=True) + self.epsilon)
    weight = jnp.broadcast_to(self.weight[...].astype(jnp.float32), x.shape)
    if self.offset:
      weight = weight + self.offset
    return (x32 * inverse * weight).astype(x.dtype)


class LayerNorm(nnx.Module):
  """`w · (x - mean(x)) / sqrt(var(x) + ε) + b`, statistics in float32.

  Ba et al. 2016, https://arxiv.org/abs/1607.06450.
  """

  def __init__(self, width: int, param_dtype: str):
    self.weight = nnx.Param(jnp.ones((width,), jnp.dtype(param_dtype)))
    self.bias = nnx.Param(jnp.zeros((width,), jnp.dtype(param_dtype)))

  def __call__(self, x: Float[Array, "*lead D"]) -> Float[Array, "*lead D"]:
    """Normalises the last axis and keeps x's dtype."""
    x32 = x.astype(jnp.float32)
    centred = x32 - jnp.mean(x32, axis=-1, keepdims=True)
    inverse = jax.lax.rsqrt(jnp.mean(jnp.square(centred), axis=-1, keepdims=True) + LAYER_EPSILON)
    weight = jnp.broadcast_to(self.weight[...].astype(jnp.float32), x.shape)
    return with_bias(centred * inverse * weight, self.bias[...]).astype(x.dtype)


def block_norm(config: ModelConfig) -> RMSNorm | LayerNorm:
  """Makes a norm of an encoder-decoder's residual stream: BART's, or T5's."""
  if config.kind == "bart":
    return LayerNorm(config.d_model, config.param_dtype)
  return RMSNorm(config.d_model, config.param_dtype)


def embedding_unit(width: int) -> float:
  """Returns the T5 value of a stored embedding entry of 1: sqrt(D), rounded to a power of two.

  T5's entries have a std of 1. Under Adam, whose step has a fixed size, the embedding and a tied
  readout learn sqrt(D) times faster when stored in this unit than in T5's scale, which suits
  Adafactor's steps relative to a parameter's size.
  """
  return power_of_two(width**0.5)


class Embedding(nnx.Module):
  """Token embedding E, stored as `E / unit` with entries of std near D^-0.5."""

  def __init__(
      self, vocab_size: int, width: int, unit: float, std: float, param_dtype: str, rngs: nnx.Rngs
  ):
    self.unit = unit
    self.embedding = normal_param(rngs, (vocab_size, width), std, param_dtype, ("vocab", "embed"))

  def __call__(self, tokens: Int[Array, "B C"], dtype: jnp.dtype) -> Float[Array, "B C D"]:
    """Looks up rows of E; an id outside the vocabulary gives NaN, so that it is noticed."""
    rows = jnp.take(self.embedding[...], tokens, axis=0)
    return (rows * jnp.asarray(self.unit, rows.dtype)).astype(dtype)


class FeedForward(nnx.Module):
  """The feed-forward block: `wo(f(wi x))`, or `wo(f(wi_0 x) · wi_1 x)` when gated by f.

  The two input matrices of the gated kind share one kernel `[D, 2, F]`: one product per call. With
  biases, each of the products adds its own; a block with biases is not gated.
  """

  def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
    width, hidden, dtype = config.d_model, config.d_ff, config.param_dtype
    self.kind, self.gated = config.feed_forward, config.feed_forward.startswith("gated-")
    self.dropout_rate, self.has_biases = config.dropout_rate, config.has_biases
    shape = (width, 2, hidden) if self.gated else (width, hidden)
    axes = ("embed", None, "mlp") if self.gated else ("embed", "mlp")
    self.wi = normal_param(rngs, shape, width**-0.5, dtype, axes)
    self.wo = normal_param(rngs, (hidden, width), hidden**-0.5, dtype, ("mlp", "embed"))
    if self.has_biases:
      self.wi_bias = nnx.Param(jnp.zeros((hidden,), jnp.dtype(dtype)), axes=("mlp",))
      self.wo_bias = nnx.Param(jnp.zeros((width,), jnp.dtype(dtype)))

  def __call__(self, x: Float[Array, "B C D"], seed: DropoutSeed | None) -> Float[Array, "B C D"]:
    """Maps each position separately, with dropout on the hidden activations."""
    hidden = project(x, self.wi[...])
    if self.has_biases:
      hidden = with_bias(hidden, self.wi_bias[...])
    activation = _ACTIVATIONS[self.kind]
    if self.gated:
      hidden = activation(hidden[:, :, 0]) * hidden[:, :, 1]
    else:
      hidden = activation(hidden)
    mapped = project(dropout(hidden, self.dropout_rate, seed), self.wo[...])
    return with_bias(mapped, self.wo_bias[...]) if self.has_biases else mapped


_ACTIVATIONS = {
    "relu": jax.nn.relu,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "gated-gelu": functools.partial(jax.nn.gelu, approximate=True),
    "gated-silu": jax.nn.silu,
}


class ScalarMLP(nnx.Module):
  """An MLP with one hidden layer and one output, in float32: `w2 · gelu(W1 x + b1) + b2`.

  Before training its output is near `bias_init`: the last layer's weights have std
  `last_std / sqrt(F)`, and `last_std=0` gives exactly `bias_init`.
  """

  def __init__(
      self,
      in_width: int,
      hidden: int,
      bias_init: float,
      last_std: float,
      param_dtype: str,
      rngs: nnx.Rngs,
  ):
    dtype = jnp.dtype(param_dtype)
    self.hidden_kernel = normal_param(rngs, (in_width, hidden), in_width**-0.5, param_dtype)
    self.hidden_bias = nnx.Param(jnp.zeros((hidden,), dtype))
    self.out_kernel = normal_param(rngs, (hidden, 1), last_std * hidden**-0.5, param_dtype)
    self.out_bias = nnx.Param(jnp.full((1,), bias_init, dtype))

  def __call__(self, x: Float[Array, "*lead I"]) -> Float[Array, "*lead"]:
    """Computes one float32 number per position."""
    x = x.astype(jnp.float32)
    hidden = jnp.tensordot(x, self.hidden_kernel[...].astype(jnp.float32), axes=1)
    hidden = jax.nn.gelu(with_bias(hidden, self.hidden_bias[...]), approximate=True)
    out = jnp.tensordot(hidden, self.out_kernel[..., 0].astype(jnp.float32), axes=1)
    return out + self.out_bias[0].astype(jnp.float32)
