"""The blocks of models with rotary positions: causal language models and T5Gemma.

    x + norm'(attention(norm(x))),  then  x + norm'(feed_forward(norm(x)))

where norm' is the identity unless the model has norms after its blocks (Gemma). What a layer may
see is an argument, a bias of its scores, which depends on its window alone: a stack has layers with
windows and without. Not here: attention (`grouped_attention.py`) and models (`causal_lm.py`,
`t5gemma.py`).
Letters: B batch, C new tokens, L cache length, D width.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

from flax import nnx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from kdtw_jax.base import MASKED_LOGIT
from kdtw_jax.models.cache import KeyValue, append, as_memory
from kdtw_jax.models.config import ModelConfig
from kdtw_jax.models.grouped_attention import GroupedAttention, Memory
from kdtw_jax.models.layers import DropoutSeed, FeedForward, RMSNorm, dropout
from kdtw_jax.models.rotary import Rotation, frequencies, rotation

Bias = dict[int, Array]  # by the window of a layer, 0 for none
Layer = TypeVar("Layer", bound=nnx.Module)
Made = TypeVar("Made")

DROPOUTS = 4  # of a layer


class RotatedLayer(nnx.Module):
  """A block: self-attention and feed-forward, each on the normalised residual stream."""

  def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
    self.dropout_rate = config.dropout_rate
    self.self_attention_norm = gemma_norm(config)
    self.self_attention = GroupedAttention(config, rngs)
    self.feed_forward_norm = gemma_norm(config)
    self.feed_forward = FeedForward(config, rngs)
    self.self_attention_post_norm = gemma_norm(config) if config.post_norms else None
    self.feed_forward_post_norm = gemma_norm(config) if config.post_norms else None

  def __call__(
      self,
      x: Float[Array, "B C D"],
      rotate: Rotation,
      bias: Float[Array, "#B 1 C L"],
      seeds: tuple[DropoutSeed | None, ...],
      prompt: Memory | None = None,
      past: tuple[KeyValue, Int[Array, " B"]] | None = None,
  ) -> tuple[Float[Array, "B C D"], KeyValue]:
    """Applies the block; with a past, appends the C inputs to it and attends to it.

    Args:
      x: the residual stream.
      rotate: the rotation of the C positions.
      bias: MASKED_LOGIT at those of the L keys that a position does not see; L = C without a past.
      seeds: seeds of the layer's dropouts; None switches one off.
      prompt: keys and values of the prompt, which are seen too, and their bias.
      past: cache of this layer, and the index of each row's first new input in it.

    Returns:
      The residual stream, and the layer's own keys and values, with those of the past.
    """
    x, memory = self.attended(x, rotate, bias, seeds[:2], prompt, past)
    return self.mapped(x, seeds[2:]), memory

  def attended(
      self,
      x: Float[Array, "B C D"],
      rotate: Rotation,
      bias: Float[Array, "#B 1 C L"],
      seeds: tuple[DropoutSeed | None, ...],
      prompt: Memory | None,
      past: tuple[KeyValue, Int[Array, " B"]] | None,
  ) -> tuple[Float[Array, "B C D"], KeyValue]:
    """Adds what self-attention gives to the stream; arguments and results as of the block."""
    q, k, v = self.self_attention.project(self.self_attention_norm(x), rotate)
    memory = as_memory(k, v) if past is None else append(past[0], k, v, past[1])
    memories = [(memory, bias)] if prompt is None else [prompt, (memory, bias)]
    mixed = self.self_attention.attend(q, memories, seeds[0])
    return self.added(x, mixed, self.self_attention_post_norm, seeds[1]), memory

  def mapped(
      self, x: Float[Array, "B C D"], seeds: tuple[DropoutSeed | None, ...]
  ) -> Float[Array, "B C D"]:
    """Adds what the feed-forward block gives to the stream."""
    mapped = self.feed_forward(self.feed_forward_norm(x), seeds[0])
    return self.added(x, mapped, self.feed_forward_post_norm, seeds[1])

  def added(
      self,
      x: Float[Array, "B C D"],
      change: Float[Array, "B C D"],
      post_norm: RMSNorm | None,
      seed: DropoutSeed | None,
  ) -> Float[Array, "B C D"]:
    """Adds a block's result to the stream, normalised if the model does, with dropout."""
    change = change if post_norm is None else post_norm(change)
    return x + dropout(change, self.dropout_rate, seed)


class RotatedStack(nnx.Module, Generic[Layer]):
  """The layers `layer_0`, `layer_1`, ... and the last norm."""

  def __init__(
      self,
      layer_type: Callable[[ModelConfig, nnx.Rngs], Layer],
      num_layers: int,
      config: ModelConfig,
      rngs: nnx.Rngs,
  ):
    self.windows = config.windows or (0,) * num_layers
    for i in range(num_layers):
      setattr(self, f"layer_{i}", layer_type(config, rngs))
    self.final_norm = gemma_norm(config)

  def with_windows(self) -> list[tuple[Layer, int]]:
    """Returns each layer with its window, 0 for none, in order."""
    return [(getattr(self, f"layer_{i}"), window) for i, window in enumerate(self.windows)]

  def by_window(self, make: Callable[[int], Made]) -> dict[int, Made]:
    """Makes something once for all layers with the same window."""
    return {window: make(window) for window in set(self.windows)}


def gemma_norm(config: ModelConfig) -> RMSNorm:
  """Makes a norm of the residual stream."""
  return RMSNorm(config.d_model, config.param_dtype, config.norm_epsilon, config.norm_offset)


def rotation_of(config: ModelConfig, index: Int[Array, "#B C"], window: int) -> Rotation:
  """Computes the rotation of positions in layers with a window, or without one (0)."""
  if window:
    return rotation(index, frequencies(config.d_kv, config.local_rope_theta))
  return rotation(index, frequencies(config.d_kv, config.rope_theta, config.rope_scaling))


def seen_bias(distance: Int[Array, "#B C L"], window: int) -> Float[Array, "#B 1 C L"]:
  """Returns 0 where a query sees a key, at a distance of 0 .. window - 1 before it.

  MASKED_LOGIT stands elsewhere. Without a window (0) a query sees all keys up to its own.
  """
  is_seen = distance >= 0
  if window:
    is_seen &= distance < window
  return bias_of(is_seen)


def bias_of(is_seen: Array) -> Float[Array, "#B 1 C L"]:
  """Returns 0 where a key is seen, MASKED_LOGIT elsewhere, for all heads."""
  return jnp.where(is_seen, 0.0, MASKED_LOGIT).astype(jnp.float32)[:, None]
