"""T5's encoder-decoder as flax NNX modules, for both teacher and student.

Pre-norm blocks, RMSNorm, a relative position bias shared by all layers of a stack (UMT5: one per
layer), no other positions, no biases. Raffel et al. 2020, https://arxiv.org/abs/1910.10683;
Chung et al. 2023, https://arxiv.org/abs/2304.09151. Not here: the student's heads (`heads.py`) and
the pure functions that other modules call (`functional.py`).
Letters: B batch, S source length, T target length, C new tokens, L cache length, D width,
V vocabulary, P tables of position bias (1 or one per layer).

Initialisation gives unit-variance activations as in T5: q, k, v and wi have std D^-0.5, outputs
fan_in^-0.5. Adam's step does not scale with the parameter, so for training from scratch three kinds
of parameters are stored in other units than T5's, with the same function: the embedding
(`layers.embedding_unit`), the queries (`attention.py`) and the position bias (`position_bias.py`).
An untied readout starts with std D^-0.5 (logits of unit variance) instead of 1.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

from flax import nnx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from kdtw_jax.base import MASKED_LOGIT, PAD_ID, PRNGKey
from kdtw_jax.models.attention import CrossAttention, SelfAttention
from kdtw_jax.models.cache import Cache, Encoded, KeyValue, append, as_memory, empty_memory
from kdtw_jax.models.config import ModelConfig
from kdtw_jax.models.language_model import LanguageModel
from kdtw_jax.models.layers import (
    DropoutSeed,
    RMSNorm,
    dropout,
    dropout_seeds,
    embedding_unit,
    feed_forward,
)
from kdtw_jax.models.position_bias import RelativePositionBias, skew, windows

Layer = TypeVar("Layer", bound=nnx.Module)


class EncoderLayer(nnx.Module):
  """An encoder block: self-attention and feed-forward, each on the normalised residual stream."""

  def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
    self.dropout_rate = config.dropout_rate
    self.self_attention_norm = RMSNorm(config.d_model, config.param_dtype)
    self.self_attention = SelfAttention(config, rngs)
    self.feed_forward_norm = RMSNorm(config.d_model, config.param_dtype)
    self.feed_forward = feed_forward(config, rngs)

  def __call__(
      self,
      x: Float[Array, "B S D"],
      bias: Float[Array, "B N S S"],
      seeds: tuple[DropoutSeed | None, ...],
  ) -> Float[Array, "B S D"]:
    """Applies the block."""
    q, k, v = self.self_attention.project(self.self_attention_norm(x))
    mixed = self.self_attention.attend(q, as_memory(k, v), bias, seeds[0])
    x = x + dropout(mixed, self.dropout_rate, seeds[1])
    mapped = self.feed_forward(self.feed_forward_norm(x), seeds[2])
    return x + dropout(mapped, self.dropout_rate, seeds[3])


class DecoderLayer(nnx.Module):
  """A decoder block: causal self-attention, cross-attention and feed-forward."""

  def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
    self.dropout_rate = config.dropout_rate
    self.self_attention_norm = RMSNorm(config.d_model, config.param_dtype)
    self.self_attention = SelfAttention(config, rngs)
    self.cross_attention_norm = RMSNorm(config.d_model, config.param_dtype)
    self.cross_attention = CrossAttention(config, rngs)
    self.feed_forward_norm = RMSNorm(config.d_model, config.param_dtype)
    self.feed_forward = feed_forward(config, rngs)

  def __call__(
      self,
      x: Float[Array, "B C D"],
      bias: Float[Array, "#B N C L"],
      source: KeyValue,
      source_bias: Float[Array, "B 1 1 S"],
      seeds: tuple[DropoutSeed | None, ...],
      past: tuple[KeyValue, Int[Array, " B"]] | None = None,
  ) -> tuple[Float[Array, "B C D"], KeyValue]:
    """Applies the block; with a past, appends the C inputs to it and attends to it.

    Args:
      x: the residual stream.
      bias: position bias and causal mask over the L keys; L = C without a past.
      source: keys and values of the source.
      source_bias: MASKED_LOGIT at padding of the source, else 0.
      seeds: seeds of the layer's 6 dropouts; None switches one off.
      past: self-attention cache of this layer, and the position of each row's first new input.

    Returns:
      The residual stream, and the keys and values that the self-attention read.
    """
    q, k, v = self.self_attention.project(self.self_attention_norm(x))
    memory = as_memory(k, v) if past is None else append(past[0], k, v, past[1])
    mixed = self.self_attention.attend(q, memory, bias, seeds[0])
    x = x + dropout(mixed, self.dropout_rate, seeds[1])
    read = self.cross_attention(self.cross_attention_norm(x), source, source_bias, seeds[2])
    x = x + dropout(read, self.dropout_rate, seeds[3])
    mapped = self.feed_forward(self.feed_forward_norm(x), seeds[4])
    return x + dropout(mapped, self.dropout_rate, seeds[5]), memory

  def on_sequences(
      self,
      x: Float[Array, "B T D"],
      bias: Float[Array, "#B N T T"],
      states: Float[Array, "B S D"],
      source_bias: Float[Array, "B 1 1 S"],
      seeds: tuple[DropoutSeed | None, ...],
  ) -> Float[Array, "B T D"]:
    """Applies the block to whole sequences, given the encoder's states."""
    return self(x, bias, self.cross_attention.memory(states), source_bias, seeds)[0]


class Stack(nnx.Module, Generic[Layer]):
  """The layers `layer_0`, `layer_1`, ... of an encoder or decoder, and their shared parts."""

  def __init__(
      self,
      layer_type: Callable[[ModelConfig, nnx.Rngs], Layer],
      num_layers: int,
      bidirectional: bool,
      config: ModelConfig,
      rngs: nnx.Rngs,
  ):
    self.num_layers = num_layers
    self.position_bias = RelativePositionBias(
        num_layers if config.bias_per_layer else 1,
        config.relative_attention_num_buckets,
        config.relative_attention_max_distance,
        config.num_heads,
        bidirectional,
        config.d_model**-0.5,
        config.param_dtype,
        rngs,
    )
    for i in range(num_layers):
      setattr(self, f"layer_{i}", layer_type(config, rngs))
    self.final_norm = RMSNorm(config.d_model, config.param_dtype)

  @property
  def layers(self) -> list[Layer]:
    """The layers in order."""
    return [getattr(self, f"layer_{i}") for i in range(self.num_layers)]

  def with_bias(self, biases: list[Array]) -> list[tuple[Layer, Array]]:
    """Pairs each layer with its position bias, or with the only one if all share it."""
    return list(zip(self.layers, biases * (self.num_layers // len(biases)), strict=True))


class EncoderDecoder(LanguageModel):
  """T5: token arrays in, hidden states and logits out; dropout only with a dropout key."""

  def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
    unit = embedding_unit(config.d_model)
    super().__init__(config, unit, 1.0 / unit, rngs)
    self.encoder = Stack(EncoderLayer, config.num_encoder_layers, True, config, rngs)
    self.decoder = Stack(DecoderLayer, config.num_decoder_layers, False, config, rngs)
    self.make_readout(rngs)

  def encode(self, source: Int[Array, "B S"], dropout_key: PRNGKey | None = None) -> Encoded:
    """Runs the encoder; PAD_ID is padding at any position."""
    rate = self.config.dropout_rate
    seeds = dropout_seeds(dropout_key, 4 * self.config.num_encoder_layers + 2)
    mask = source != PAD_ID
    tables = self.encoder.position_bias.tables(source.shape[1])
    biases = [skew(table) + _mask_bias(mask) for table in tables]
    x = dropout(self.embed(source), rate, seeds[-2])
    for i, (layer, bias) in enumerate(self.encoder.with_bias(biases)):
      x = self.by_rows(self.rematerialised(layer)(x, bias, seeds[4 * i : 4 * i + 4]))
    return Encoded(dropout(self.encoder.final_norm(x), rate, seeds[-1]), mask)

  def hidden(
      self, encoded: Encoded, inputs: Int[Array, "B T"], dropout_key: PRNGKey | None = None
  ) -> Float[Array, "B T D"]:
    """Runs one causal pass over the decoder inputs (the targets shifted right)."""
    rate = self.config.dropout_rate
    seeds = dropout_seeds(dropout_key, 6 * self.config.num_decoder_layers + 2)
    biases = [skew(table) for table in self.decoder.position_bias.tables(inputs.shape[1])]
    source_bias = _mask_bias(encoded.mask)
    x = dropout(self.embed(self.started(inputs)), rate, seeds[-2])
    for i, (layer, bias) in enumerate(self.decoder.with_bias(biases)):
      run = self.rematerialised(layer.on_sequences)
      x = self.by_rows(run(x, bias, encoded.states, source_bias, seeds[6 * i : 6 * i + 6]))
    return dropout(self.decoder.final_norm(x), rate, seeds[-1])

  def start(self, encoded: Encoded, price: Float[Array, " B"], max_length: int) -> Cache:
    """Makes an empty cache for `max_length` decoder inputs, with the source's keys and values."""
    config = self.config
    sizes = (encoded.mask.shape[0], max_length, config.num_heads, config.d_kv)
    empty = [empty_memory(*sizes, config.compute_dtype) for _ in self.decoder.layers]
    source = [layer.cross_attention.memory(encoded.states) for layer in self.decoder.layers]
    tables = self.decoder.position_bias.tables(max_length)
    return Cache(
        tuple(map(self.by_heads, empty)),
        tuple(map(self.by_heads, source)),
        encoded.mask,
        tables,
        price,
    )

  def extend(
      self, cache: Cache, tokens: Int[Array, "B C"], positions: Int[Array, " B"]
  ) -> tuple[Float[Array, "B C D"], Cache]:
    """Runs the decoder inputs at positions[b] .. positions[b] + C - 1 through the cache."""
    biases = [windows(table, positions, tokens.shape[1]) for table in cache.position_bias]
    seeds = dropout_seeds(None, 6)
    source_bias = _mask_bias(cache.source_mask)
    x = self.embed(self.started(tokens))
    filled = []
    for i, (layer, bias) in enumerate(self.decoder.with_bias(biases)):
      past, source = (cache.self_attention[i], positions), cache.cross_attention[i]
      x, memory = layer(x, bias, source, source_bias, seeds, past)
      x = self.by_rows(x)
      filled.append(self.by_heads(memory))
    return self.decoder.final_norm(x), cache._replace(self_attention=tuple(filled))

  def readout_input(self, hidden: Float[Array, "B C D"]) -> Float[Array, "B C D"]:
    """Scales hidden states to the unit of the stored readout matrix.

    T5 divides them by sqrt(D), T5 v1.1 does not. A tied embedding has the unit `Embedding.unit`.
    """
    scale = self.shared.unit if self.config.tie_embeddings else 1.0
    if self.config.scales_readout:
      scale *= self.config.d_model**-0.5
    return hidden if scale == 1.0 else hidden * jnp.asarray(scale, hidden.dtype)


def _mask_bias(mask: Bool[Array, "B S"]) -> Float[Array, "B 1 1 S"]:
  """Returns 0 where the mask is True, MASKED_LOGIT elsewhere, for all heads and queries."""
  return jnp.where(mask, 0.0, MASKED_LOGIT).astype(jnp.float32)[:, None, None, :]
