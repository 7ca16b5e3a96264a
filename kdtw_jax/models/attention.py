"""T5's attention: no biases in the projections, additive position bias, and T5's query scale.

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

from kdtw_jax.models.cache import KeyValue, as_memory
from kdtw_jax.models.config import ModelConfig
from kdtw_jax.models.layers import DropoutSeed, dropout, normal_param, power_of_two, project


def attend(
    q: Float[Array, "B C N H"],
    memory: KeyValue,
    bias: Float[Array, "#B #N #C L"],
    dropout_rate: float,
    seed: DropoutSeed | None,
) -> Float[Array, "B C N H"]:
  """Computes `softmax(u · q · kᵀ + bias) · v` with u = query_unit(H), the softmax in float32.

  Args:
    q: queries.
    memory: keys and values.
    bias: float32 position bias, plus MASKED_LOGIT at keys that must not be seen. A row that sees no
      key attends uniformly; its result is finite but meaningless.
    dropout_rate: share of attention weights to drop.
    seed: dropout seed; None switches dropout off.

  Returns:
    The weighted sum of the values, in their dtype.
  """
  q = q * jnp.asarray(query_unit(q.shape[-1]), q.dtype)
  scores = jnp.einsum("bcnh,bnhl->bncl", q, memory.k, preferred_element_type=jnp.float32)
  weights = jax.nn.softmax(scores + bias, axis=-1)
  weights = dropout(weights.astype(memory.v.dtype), dropout_rate, seed)
  return jnp.einsum("bncl,bnlh->bcnh", weights, memory.v)


def query_unit(head_size: int) -> float:
  """Returns the T5 value of a stored query of 1: 1/sqrt(H), rounded to a power of two."""
  return power_of_two(head_size**-0.5)


class SelfAttention(nnx.Module):
  """Attention with queries, keys and values from the same sequence."""

  def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
    self.num_heads = config.num_heads
    self.dropout_rate = config.dropout_rate
    self.qkv = _input_kernel(config, ("q", "k", "v"), rngs)
    self.out = _output_kernel(config, rngs)

  def project(
      self, x: Float[Array, "B C D"]
  ) -> tuple[Float[Array, "B C N H"], Float[Array, "B C N H"], Float[Array, "B C N H"]]:
    """Computes the queries, keys and values of each position."""
    qkv = _split_heads(project(x, self.qkv[...]), self.num_heads)
    return qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]

  def attend(
      self,
      q: Float[Array, "B C N H"],
      memory: KeyValue,
      bias: Float[Array, "#B #N #C L"],
      seed: DropoutSeed | None,
  ) -> Float[Array, "B C D"]:
    """Attends to the memory and projects the result back to the residual stream."""
    mixed = attend(q, memory, bias, self.dropout_rate, seed)
    return project(_merge_heads(mixed), self.out[...])


class CrossAttention(nnx.Module):
  """Attention with queries from the target, keys and values from the source; no position bias."""

  def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
    self.num_heads = config.num_heads
    self.dropout_rate = config.dropout_rate
    self.q = _input_kernel(config, ("q",), rngs)
    self.kv = _input_kernel(config, ("k", "v"), rngs)
    self.out = _output_kernel(config, rngs)

  def memory(self, states: Float[Array, "B S D"]) -> KeyValue:
    """Computes the keys and values of the encoded source, once per sequence."""
    kv = _split_heads(project(states, self.kv[...]), self.num_heads)
    return as_memory(kv[:, :, 0], kv[:, :, 1])

  def __call__(
      self,
      x: Float[Array, "B C D"],
      memory: KeyValue,
      bias: Float[Array, "#B #N #C S"],
      seed: DropoutSeed | None,
  ) -> Float[Array, "B C D"]:
    """Attends to the source from each target position."""
    q = _split_heads(project(x, self.q[...]), self.num_heads)
    mixed = attend(q, memory, bias, self.dropout_rate, seed)
    return project(_merge_heads(mixed), self.out[...])


def _input_kernel(config: ModelConfig, parts: tuple[str, ...], rngs: nnx.Rngs) -> nnx.Param:
  """Makes stacked projections `[D, len(parts), N*H]`, or `[D, N*H]` for one, of std D^-0.5."""
  d_model, inner = config.d_model, config.num_heads * config.d_kv
  kernels = []
  for part in parts:
    std = d_model**-0.5
    if part == "q":
      std *= config.d_kv**-0.5 / query_unit(config.d_kv)
    kernels.append(normal_param(rngs, (d_model, inner), std, config.param_dtype)[...])
  if len(parts) == 1:
    return nnx.Param(kernels[0], axes=("embed", "heads"))
  return nnx.Param(jnp.stack(kernels, axis=1), axes=("embed", None, "heads"))


def _output_kernel(config: ModelConfig, rngs: nnx.Rngs) -> nnx.Param:
  """Makes the projection back to the residual stream, `[N*H, D]`, of std (N H)^-0.5."""
  inner = config.num_heads * config.d_kv
  shape = (inner, config.d_model)
  return normal_param(rngs, shape, inner**-0.5, config.param_dtype, ("heads", "embed"))


def _split_heads(x: Float[Array, "*lead NH"], num_heads: int) -> Float[Array, "*lead N H"]:
  """Unfolds the last axis into heads."""
  return x.reshape(*x.shape[:-1], num_heads, x.shape[-1] // num_heads)


def _merge_heads(x: Float[Array, "B C N H"]) -> Float[Array, "B C NH"]:
  """Folds the heads into the last axis."""
  return x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1])
