"""T5Gemma and T5Gemma 2 as flax NNX modules: encoder-decoders with the blocks of Gemma.

An encoder of Gemma's blocks sees both sides, in layers with a window those near to each token. In
the decoder of T5Gemma, https://arxiv.org/abs/2504.06225, a block of cross-attention stands between
the other two, and both stacks have tables and sizes of their own. T5Gemma 2,
https://arxiv.org/abs/2512.14856, has one attention that sees the source and the output, and one
table. Nothing rotates what is read of the source. Not here: the blocks (`rotated_layer.py`) and the
student's heads (`heads.py`).

A source is read as a causal model reads it, in the place of a user's text; what comes last is given
to the decoder. Dropout, where a key switches it on, is where T5 has it.

    encoder   prompt_prefix  source without its EOS  prompt_suffix[:-1]
    decoder   prompt_suffix[-1]  y_1  y_2 ...

Letters: B batch, S source length, P prompt length, T target length, C new tokens, L cache length,
D width, E width of the encoder.
"""

from flax import nnx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from kdtw_jax.base import PRNGKey
from kdtw_jax.models.cache import Cache, Encoded, KeyValue, as_memory, empty_memory
from kdtw_jax.models.config import ModelConfig
from kdtw_jax.models.grouped_attention import GroupedAttention, Memory
from kdtw_jax.models.language_model import LanguageModel
from kdtw_jax.models.layers import DropoutSeed, Embedding, dropout, dropout_seeds
from kdtw_jax.models.rotary import Rotation
from kdtw_jax.models.rotated_layer import (
    DROPOUTS,
    RotatedLayer,
    RotatedStack,
    bias_of,
    gemma_norm,
    rotation_of,
    seen_bias,
)

_DECODER_DROPOUTS = DROPOUTS + 2  # of a layer, with those of cross-attention


class DecoderLayer(RotatedLayer):
  """A decoder block: causal self-attention, cross-attention, and feed-forward.

  With `merged_attention` one attention is both.
  """

  def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
    super().__init__(config, rngs)
    self.is_merged = config.merged_attention
    if not config.merged_attention:
      self.cross_attention_norm = gemma_norm(config)
      self.cross_attention = GroupedAttention(config, rngs, config.encoder_config.d_model)
      self.cross_attention_post_norm = gemma_norm(config)

  def memory(self, states: Float[Array, "B P E"]) -> KeyValue:
    """Computes the keys and values of the encoded source, once per sequence."""
    reader = self.self_attention if self.is_merged else self.cross_attention
    return as_memory(*reader.keys_and_values(states))

  def __call__(
      self,
      x: Float[Array, "B C D"],
      rotate: Rotation,
      bias: Float[Array, "#B 1 C L"],
      seeds: tuple[DropoutSeed | None, ...],
      prompt: Memory | None = None,
      past: tuple[KeyValue, Int[Array, " B"]] | None = None,
  ) -> tuple[Float[Array, "B C D"], KeyValue]:
    """Applies the block, as `RotatedLayer` does; `prompt` is the source's memory and its bias."""
    if self.is_merged or prompt is None:
      return super().__call__(x, rotate, bias, seeds, prompt, past)
    x, memory = self.attended(x, rotate, bias, seeds[:2], None, past)
    asked = self.cross_attention.queries(self.cross_attention_norm(x))
    read = self.cross_attention.attend(asked, [prompt], seeds[2])
    x = self.added(x, read, self.cross_attention_post_norm, seeds[3])
    return self.mapped(x, seeds[4:]), memory

  def on_sequences(
      self,
      x: Float[Array, "B T D"],
      rotate: Rotation,
      bias: Float[Array, "#B 1 T T"],
      seeds: tuple[DropoutSeed | None, ...],
      states: Float[Array, "B P E"],
      source_bias: Float[Array, "B 1 1 P"],
  ) -> Float[Array, "B T D"]:
    """Applies the block to whole sequences, given the encoder's states."""
    return self(x, rotate, bias, seeds, (self.memory(states), source_bias))[0]


class T5Gemma(LanguageModel):
  """Token arrays in, hidden states and logits out; dropout only with a dropout key."""

  def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
    super().__init__(config, config.d_model**0.5, config.d_model**-0.5, rngs)
    inside = config.encoder_config
    self.encoder = RotatedStack(RotatedLayer, config.num_encoder_layers, inside, rngs)
    self.decoder = RotatedStack(DecoderLayer, config.num_decoder_layers, config, rngs)
    if not config.merged_attention:
      width, sizes = inside.d_model, (config.vocab_size, inside.d_model)
      self.source_tokens = Embedding(*sizes, width**0.5, width**-0.5, config.param_dtype, rngs)
    self.make_readout(rngs)

  def encode(self, source: Int[Array, "B S"], dropout_key: PRNGKey | None = None) -> Encoded:
    """Reads the prompts of sources that end with EOS, padded with PAD_ID at their end."""
    config, rate = self.config.encoder_config, self.config.dropout_rate
    seeds = dropout_seeds(dropout_key, DROPOUTS * config.num_encoder_layers + 2)
    tokens, mask = self.prompt(source)
    index = jnp.arange(tokens.shape[1])
    distance = (index[:, None] - index[None])[None]
    biases = self.encoder.by_window(
        lambda window: bias_of(
            mask[:, None] & _is_near(distance, window, is_shared=config.merged_attention)
        )
    )
    rotate = self.encoder.by_window(lambda window: rotation_of(config, index[None], window))
    table = None if config.merged_attention else self.source_tokens
    x = dropout(self.embed(tokens, table), rate, seeds[-2])
    for i, (layer, window) in enumerate(self.encoder.with_windows()):
      run, some = self.rematerialised(layer), seeds[DROPOUTS * i : DROPOUTS * (i + 1)]
      x = self.by_rows(run(x, rotate[window], biases[window], some)[0])
    return Encoded(dropout(self.encoder.final_norm(x), rate, seeds[-1]), mask)

  def hidden(
      self, encoded: Encoded, inputs: Int[Array, "B T"], dropout_key: PRNGKey | None = None
  ) -> Float[Array, "B T D"]:
    """Runs one causal pass over the decoder inputs (the targets shifted right)."""
    config, rate = self.config, self.config.dropout_rate
    seeds = dropout_seeds(dropout_key, _DECODER_DROPOUTS * config.num_decoder_layers + 2)
    index = jnp.arange(inputs.shape[1])
    distance = (index[:, None] - index[None])[None]
    biases = self.decoder.by_window(lambda window: seen_bias(distance, window))
    rotate = self.decoder.by_window(lambda window: rotation_of(config, index[None], window))
    source = encoded.states, bias_of(encoded.mask[:, None])
    x = dropout(self.embed(self.started(inputs)), rate, seeds[-2])
    for i, (layer, window) in enumerate(self.decoder.with_windows()):
      run = self.rematerialised(layer.on_sequences)
      some = seeds[_DECODER_DROPOUTS * i : _DECODER_DROPOUTS * (i + 1)]
      x = self.by_rows(run(x, rotate[window], biases[window], some, *source))
    return dropout(self.decoder.final_norm(x), rate, seeds[-1])

  def start(self, encoded: Encoded, price: Float[Array, " B"], max_length: int) -> Cache:
    """Makes an empty cache for `max_length` decoder inputs, with the source's keys and values."""
    config = self.config
    layers = [layer for layer, _ in self.decoder.with_windows()]
    sizes = (len(encoded.mask), max_length, config.key_heads, config.d_kv)
    empty = [empty_memory(*sizes, config.compute_dtype) for _ in layers]
    source = [layer.memory(encoded.states) for layer in layers]
    return Cache(
        tuple(map(self.by_heads, empty)),
        tuple(map(self.by_heads, source)),
        encoded.mask,
        jnp.zeros((0, 0, 0), jnp.float32),
        price,
    )

  def extend(
      self, cache: Cache, tokens: Int[Array, "B C"], positions: Int[Array, " B"]
  ) -> tuple[Float[Array, "B C D"], Cache]:
    """Runs the decoder inputs at positions[b] .. positions[b] + C - 1 through the cache."""
    length = cache.self_attention[0].k.shape[-1]
    index = positions[:, None] + jnp.arange(tokens.shape[1], dtype=positions.dtype)[None]
    distance = index[:, :, None] - jnp.arange(length)[None, None]
    biases = self.decoder.by_window(lambda window: seen_bias(distance, window))
    rotate = self.decoder.by_window(lambda window: rotation_of(self.config, index, window))
    source_bias = bias_of(cache.source_mask[:, None])
    seeds = dropout_seeds(None, _DECODER_DROPOUTS)
    x, filled = self.embed(self.started(tokens)), []
    for i, (layer, window) in enumerate(self.decoder.with_windows()):
      past, source = (cache.self_attention[i], positions), (cache.cross_attention[i], source_bias)
      x, memory = layer(x, rotate[window], biases[window], seeds, source, past)
      x = self.by_rows(x)
      filled.append(self.by_heads(memory))
    return self.decoder.final_norm(x), cache._replace(self_attention=tuple(filled))


def _is_near(distance: Int[Array, "1 P P"], window: int, *, is_shared: bool) -> Array:
  """Returns where a token of the encoder sees another, at this distance before it.

  A window reaches as far to either side, or is shared by both, itself included.
  """
  if not window:
    return jnp.ones_like(distance, bool)
  before, after = ((window - 1) // 2, window // 2) if is_shared else (window, window)
  return (distance <= before) & (distance >= -after)
