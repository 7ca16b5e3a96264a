"""What the encoder-decoders T5 and BART share: their blocks, and the functions of both stacks.

They differ in their norms, in where these stand, in biases, and in how a stack learns the order of
tokens: by a bias of the scores (`t5.py`) or by an embedding of each position (`bart.py`). Not here:
the student's heads (`heads.py`) and the pure functions that other modules call (`functional.py`).

Constant tokens belong to the model. A source is read between `prompt_prefix` and what follows EOS
in `prompt_suffix`; the decoder reads `decoder_prefix` before its first input:

    encoder   prompt_prefix  source with its EOS  prompt_suffix[1:-1]
    decoder   decoder_prefix | prompt_suffix[-1]  y_1  y_2 ...
    position                 | 0                  1    2

The prefix lies in the cache from the start, so its tokens are neither outputs nor calls, and nobody
else counts them. NLLB's `</s>`, before the language of the output, is one.
Letters: B batch, S source length, T target length, C new tokens, L cache length, D width, N heads,
P tables of position bias (1 or one per layer), R distances.
"""

from collections.abc import Callable, Sequence
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
    FeedForward,
    LayerNorm,
    RMSNorm,
    block_norm,
    dropout,
    dropout_seeds,
)
from kdtw_jax.models.position_bias import skew, windows

Layer = TypeVar("Layer", bound=nnx.Module)
Norm = RMSNorm | LayerNorm


class Block(nnx.Module):
  """What adds to the residual stream: x + f(norm(x)) with `pre_norm`, else norm(x + f(x))."""

  def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
    self.dropout_rate, self.pre_norm = config.dropout_rate, config.pre_norm
    self.self_attention_norm = block_norm(config)
    self.self_attention = SelfAttention(config, rngs)

  def before(self, norm: Norm, x: Float[Array, "B C D"]) -> Float[Array, "B C D"]:
    """Returns what f reads."""
    return norm(x) if self.pre_norm else x

  def added(
      self,
      norm: Norm,
      x: Float[Array, "B C D"],
      change: Float[Array, "B C D"],
      seed: DropoutSeed | None,
  ) -> Float[Array, "B C D"]:
    """Adds f's result to the stream, with dropout."""
    x = x + dropout(change, self.dropout_rate, seed)
    return x if self.pre_norm else norm(x)


class EncoderLayer(Block):
  """An encoder block: self-attention and feed-forward."""

  def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
    super().__init__(config, rngs)
    self.feed_forward_norm = block_norm(config)
    self.feed_forward = FeedForward(config, rngs)

  def __call__(
      self,
      x: Float[Array, "B S D"],
      bias: Float[Array, "#B #N S S"],
      seeds: tuple[DropoutSeed | None, ...],
  ) -> Float[Array, "B S D"]:
    """Applies the block."""
    q, k, v = self.self_attention.project(self.before(self.self_attention_norm, x))
    mixed = self.self_attention.attend(q, as_memory(k, v), bias, seeds[0])
    x = self.added(self.self_attention_norm, x, mixed, seeds[1])
    mapped = self.feed_forward(self.before(self.feed_forward_norm, x), seeds[2])
    return self.added(self.feed_forward_norm, x, mapped, seeds[3])


class DecoderLayer(Block):
  """A decoder block: causal self-attention, cross-attention and feed-forward."""

  def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
    super().__init__(config, rngs)
    self.cross_attention_norm = block_norm(config)
    self.cross_attention = CrossAttention(config, rngs)
    self.feed_forward_norm = block_norm(config)
    self.feed_forward = FeedForward(config, rngs)

  def __call__(
      self,
      x: Float[Array, "B C D"],
      bias: Float[Array, "#B #N C L"],
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
    q, k, v = self.self_attention.project(self.before(self.self_attention_norm, x))
    memory = as_memory(k, v) if past is None else append(past[0], k, v, past[1])
    mixed = self.self_attention.attend(q, memory, bias, seeds[0])
    x = self.added(self.self_attention_norm, x, mixed, seeds[1])
    asked = self.before(self.cross_attention_norm, x)
    read = self.cross_attention(asked, source, source_bias, seeds[2])
    x = self.added(self.cross_attention_norm, x, read, seeds[3])
    mapped = self.feed_forward(self.before(self.feed_forward_norm, x), seeds[4])
    return self.added(self.feed_forward_norm, x, mapped, seeds[5]), memory

  def on_sequences(
      self,
      x: Float[Array, "B T D"],
      bias: Float[Array, "#B #N T T"],
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
      config: ModelConfig,
      rngs: nnx.Rngs,
  ):
    self.num_layers = num_layers
    for i in range(num_layers):
      setattr(self, f"layer_{i}", layer_type(config, rngs))
    self.final_norm = block_norm(config) if config.pre_norm else None

  @property
  def layers(self) -> list[Layer]:
    """The layers in order."""
    return [getattr(self, f"layer_{i}") for i in range(self.num_layers)]

  def with_bias(self, biases: Sequence[Array]) -> list[tuple[Layer, Array]]:
    """Pairs each layer with its position bias, or with the only one if all share it."""
    return list(zip(self.layers, [*biases] * (self.num_layers // len(biases)), strict=True))

  def tables(self, length: int) -> Float[Array, "P N R"]:
    """Computes float32 biases at distances -(length-1) .. length-1; a decoder masks the future."""
    raise NotImplementedError

  def placed(
      self, x: Float[Array, "B C D"], index: Int[Array, "#B C"], length: int
  ) -> Float[Array, "B C D"]:
    """Tells the embedded tokens their places, 0 .. length - 1, before the first layer."""
    del index, length
    return x

  def finished(self, x: Float[Array, "B C D"]) -> Float[Array, "B C D"]:
    """Normalises what the last layer gives, unless that layer did."""
    return x if self.final_norm is None else self.final_norm(x)


class EncoderDecoder(LanguageModel):
  """Token arrays in, hidden states and logits out; dropout only with a dropout key.

  A family makes `encoder` and `decoder`.
  """

  encoder: Stack[EncoderLayer]
  decoder: Stack[DecoderLayer]

  def encode(self, source: Int[Array, "B S"], dropout_key: PRNGKey | None = None) -> Encoded:
    """Runs the encoder; PAD_ID is padding at any position."""
    rate = self.config.dropout_rate
    seeds = dropout_seeds(dropout_key, 4 * self.config.num_encoder_layers + 2)
    suffix = self.config.prompt_suffix[1:-1]
    tokens = _with_rows(_with_rows(source, self.config.prompt_prefix), suffix, behind=True)
    mask, length = tokens != PAD_ID, tokens.shape[1]
    index = jnp.maximum(jnp.cumsum(mask, axis=1, dtype=jnp.int32) - 1, 0)
    biases = [skew(table) + _mask_bias(mask) for table in self.encoder.tables(length)]
    x = dropout(self.encoder.placed(self.embed(tokens), index, length), rate, seeds[-2])
    for i, (layer, bias) in enumerate(self.encoder.with_bias(biases)):
      x = self.by_rows(self.rematerialised(layer)(x, bias, seeds[4 * i : 4 * i + 4]))
    return Encoded(dropout(self.encoder.finished(x), rate, seeds[-1]), mask)

  def hidden(
      self, encoded: Encoded, inputs: Int[Array, "B T"], dropout_key: PRNGKey | None = None
  ) -> Float[Array, "B T D"]:
    """Runs one causal pass over the decoder inputs (the targets shifted right)."""
    rate, prefix = self.config.dropout_rate, self.config.decoder_prefix
    seeds = dropout_seeds(dropout_key, 6 * self.config.num_decoder_layers + 2)
    tokens = _with_rows(self.started(inputs), prefix)
    length = tokens.shape[1]
    biases = [skew(table) for table in self.decoder.tables(length)]
    source_bias = _mask_bias(encoded.mask)
    index = jnp.arange(length)[None]
    x = dropout(self.decoder.placed(self.embed(tokens), index, length), rate, seeds[-2])
    for i, (layer, bias) in enumerate(self.decoder.with_bias(biases)):
      run = self.rematerialised(layer.on_sequences)
      x = self.by_rows(run(x, bias, encoded.states, source_bias, seeds[6 * i : 6 * i + 6]))
    return dropout(self.decoder.finished(x[:, len(prefix) :]), rate, seeds[-1])

  def start(self, encoded: Encoded, price: Float[Array, " B"], max_length: int) -> Cache:
    """Makes a cache for `max_length` decoder inputs, with the source's keys and values.

    It holds those of the prefix too, in front.
    """
    config = self.config
    batch, length = len(encoded.mask), len(config.decoder_prefix) + max_length
    sizes = (batch, length, config.num_heads, config.d_kv)
    empty = [empty_memory(*sizes, config.compute_dtype) for _ in self.decoder.layers]
    source = [layer.cross_attention.memory(encoded.states) for layer in self.decoder.layers]
    cache = Cache(
        tuple(map(self.by_heads, empty)),
        tuple(map(self.by_heads, source)),
        encoded.mask,
        self.decoder.tables(length),
        price,
    )
    if not config.decoder_prefix:
      return cache
    prefix = _with_rows(jnp.zeros((batch, 0), jnp.int32), config.decoder_prefix)
    return self._append(cache, prefix, jnp.zeros(batch, jnp.int32))[1]

  def extend(
      self, cache: Cache, tokens: Int[Array, "B C"], positions: Int[Array, " B"]
  ) -> tuple[Float[Array, "B C D"], Cache]:
    """Runs the decoder inputs at positions[b] .. positions[b] + C - 1 through the cache."""
    return self._append(cache, self.started(tokens), positions + len(self.config.decoder_prefix))

  def _append(
      self, cache: Cache, tokens: Int[Array, "B C"], positions: Int[Array, " B"]
  ) -> tuple[Float[Array, "B C D"], Cache]:
    """Runs tokens through the cache at positions that count the prefix."""
    num_new, length = tokens.shape[1], cache.self_attention[0].k.shape[-1]
    biases = [windows(table, positions, num_new) for table in cache.position_bias]
    seeds = dropout_seeds(None, 6)
    source_bias = _mask_bias(cache.source_mask)
    index = positions[:, None] + jnp.arange(num_new, dtype=positions.dtype)[None]
    x = self.decoder.placed(self.embed(tokens), jnp.minimum(index, length - 1), length)
    filled = []
    for i, (layer, bias) in enumerate(self.decoder.with_bias(biases)):
      past, source = (cache.self_attention[i], positions), cache.cross_attention[i]
      x, memory = layer(x, bias, source, source_bias, seeds, past)
      x = self.by_rows(x)
      filled.append(self.by_heads(memory))
    return self.decoder.finished(x), cache._replace(self_attention=tuple(filled))


def _with_rows(
    tokens: Int[Array, "B C"], rows: tuple[int, ...], *, behind: bool = False
) -> Int[Array, "B CR"]:
  """Puts the same rows before, or behind, the tokens of each sequence."""
  if not rows:
    return tokens
  same = jnp.broadcast_to(jnp.asarray(rows, tokens.dtype), (len(tokens), len(rows)))
  return jnp.concatenate([tokens, same] if behind else [same, tokens], axis=1)


def _mask_bias(mask: Bool[Array, "B S"]) -> Float[Array, "B 1 1 S"]:
  """Returns 0 where the mask is True, MASKED_LOGIT elsewhere, for all heads and queries."""
  return jnp.where(mask, 0.0, MASKED_LOGIT).astype(jnp.float32)[:, None, None, :]
