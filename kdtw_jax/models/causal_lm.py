"""A decoder-only language model as flax NNX modules: Qwen2, Qwen3, Llama 3, Gemma 2, Gemma 3.

Pre-norm blocks with rotary positions, grouped queries and a gated feed-forward block. It has the
functions of an encoder-decoder: its source is the prompt, and what `encode` makes of it are the
keys and values that every later token attends to, so a prompt is read once, whatever is written
after it and rolled back. The decoder's first input stands for the prompt's last token.

    prompt_prefix  source without its EOS  prompt_suffix[:-1] | prompt_suffix[-1]  y_1  y_2 ...
    0 ...                                           ... n - 1 | n                  n+1  n+2

Qwen2: https://arxiv.org/abs/2407.10671; Qwen3: https://arxiv.org/abs/2505.09388; Llama 3:
https://arxiv.org/abs/2407.21783; Gemma 2: https://arxiv.org/abs/2408.00118; Gemma 3:
https://arxiv.org/abs/2503.19786. A window is a mask over a cache of full length, because what a
ring buffer forgets cannot be rolled back. Not here: the student's heads (`heads.py`).
Letters: B batch, S source length, P prompt length, T target length, C new tokens, L cache length,
D width, H head size, V vocabulary.
"""

from flax import nnx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from kdtw_jax.base import MASKED_LOGIT, PAD_ID, PRNGKey
from kdtw_jax.models.cache import Cache, Encoded, KeyValue, append, as_memory, empty_memory
from kdtw_jax.models.config import ModelConfig
from kdtw_jax.models.grouped_attention import GroupedAttention, Memory
from kdtw_jax.models.language_model import LanguageModel
from kdtw_jax.models.layers import DropoutSeed, FeedForward, RMSNorm, dropout, dropout_seeds
from kdtw_jax.models.rotary import Rotation, frequencies, rotation

Bias = dict[int, Array]  # by the window of a layer, 0 for none

_DROPOUTS = 4  # of a layer


class CausalLayer(nnx.Module):
  """A block: causal self-attention and feed-forward, each on the normalised residual stream."""

  def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
    self.dropout_rate = config.dropout_rate
    self.self_attention_norm = _norm(config)
    self.self_attention = GroupedAttention(config, rngs)
    self.feed_forward_norm = _norm(config)
    self.feed_forward = FeedForward(config, rngs)
    self.post_norms = config.post_norms
    if config.post_norms:
      self.self_attention_post_norm = _norm(config)
      self.feed_forward_post_norm = _norm(config)

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
    q, k, v = self.self_attention.project(self.self_attention_norm(x), rotate)
    memory = as_memory(k, v) if past is None else append(past[0], k, v, past[1])
    memories = [(memory, bias)] if prompt is None else [prompt, (memory, bias)]
    mixed = self.self_attention.attend(q, memories, seeds[0])
    if self.post_norms:
      mixed = self.self_attention_post_norm(mixed)
    x = x + dropout(mixed, self.dropout_rate, seeds[1])
    mapped = self.feed_forward(self.feed_forward_norm(x), seeds[2])
    if self.post_norms:
      mapped = self.feed_forward_post_norm(mapped)
    return x + dropout(mapped, self.dropout_rate, seeds[3]), memory


class CausalStack(nnx.Module):
  """The layers `layer_0`, `layer_1`, ... and the last norm."""

  def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
    for i in range(config.num_decoder_layers):
      setattr(self, f"layer_{i}", CausalLayer(config, rngs))
    self.final_norm = _norm(config)


class CausalLM(LanguageModel):
  """Token arrays in, hidden states and logits out; dropout only with a dropout key."""

  def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
    unit = config.d_model**0.5 if config.scale_embedding else 1.0
    super().__init__(config, unit, config.d_model**-0.5, rngs)
    self.decoder = CausalStack(config, rngs)
    self.make_readout(rngs)

  def encode(self, source: Int[Array, "B S"], dropout_key: PRNGKey | None = None) -> Encoded:
    """Reads the prompts of sources that end with EOS, padded with PAD_ID at their end."""
    tokens, mask = self._prompt(source)
    index = jnp.arange(tokens.shape[1])
    x, memory = self._layers(
        tokens, index[None], self._biases(index[None, :, None], index[None, None]), dropout_key
    )
    return Encoded(x, mask, memory)

  def hidden(
      self, encoded: Encoded, inputs: Int[Array, "B T"], dropout_key: PRNGKey | None = None
  ) -> Float[Array, "B T D"]:
    """Runs one causal pass over the decoder inputs (the targets shifted right)."""
    first = jnp.zeros(len(inputs), jnp.int32)
    return self._after(encoded.memory, encoded.mask, inputs, first, dropout_key)[0]

  def start(self, encoded: Encoded, price: Float[Array, " B"], max_length: int) -> Cache:
    """Makes an empty cache for `max_length` decoder inputs, with the prompt's keys and values."""
    config = self.config
    sizes = (encoded.mask.shape[0], max_length, config.key_heads, config.d_kv)
    empty = [
        self.by_heads(empty_memory(*sizes, config.compute_dtype))
        for _ in range(config.num_decoder_layers)
    ]
    no_bias = jnp.zeros((0, 0, 0), jnp.float32)
    return Cache(tuple(empty), encoded.memory, encoded.mask, no_bias, price)

  def extend(
      self, cache: Cache, tokens: Int[Array, "B C"], positions: Int[Array, " B"]
  ) -> tuple[Float[Array, "B C D"], Cache]:
    """Runs the decoder inputs at positions[b] .. positions[b] + C - 1 through the cache."""
    past, prompts = cache.self_attention, cache.cross_attention
    hidden, filled = self._after(prompts, cache.source_mask, tokens, positions, None, past)
    return hidden, cache._replace(self_attention=filled)

  def _prompt(self, source: Int[Array, "B S"]) -> tuple[Int[Array, "B P"], Bool[Array, "B P"]]:
    """Puts the prompt's prefix before each source and its suffix, but for its last, after it."""
    prefix = jnp.asarray(self.config.prompt_prefix, jnp.int32)
    suffix = jnp.asarray((*self.config.prompt_suffix[:-1], PAD_ID), jnp.int32)
    closing, width = len(suffix) - 1, source.shape[1]
    lengths = jnp.maximum(jnp.sum(source != PAD_ID, axis=1) - 1, 0)  # without EOS
    inside = jnp.arange(len(prefix) + width - 1 + closing)[None] - len(prefix)
    after = inside - lengths[:, None]
    text = jnp.take_along_axis(source, jnp.clip(inside, 0, width - 1), axis=1)
    tokens = jnp.where(after < 0, text, suffix[jnp.clip(after, 0, closing)])
    if len(prefix):
      tokens = jnp.where(inside < 0, prefix[jnp.clip(inside, -len(prefix), -1)], tokens)
    return tokens, after < closing

  def _after(
      self,
      prompts: tuple[KeyValue, ...],
      prompt_mask: Bool[Array, "B P"],
      inputs: Int[Array, "B C"],
      positions: Int[Array, " B"],
      dropout_key: PRNGKey | None,
      past: tuple[KeyValue, ...] | None = None,
  ) -> tuple[Float[Array, "B C D"], tuple[KeyValue, ...]]:
    """Runs decoder inputs after their prompts, through a cache or as a whole from position 0."""
    lengths = jnp.sum(prompt_mask, axis=1, dtype=positions.dtype)
    index = positions[:, None] + jnp.arange(inputs.shape[1], dtype=positions.dtype)[None]
    absolute = lengths[:, None] + index
    keys = jnp.arange(prompt_mask.shape[1])[None, None]
    seen = self._biases(absolute[:, :, None], jnp.where(prompt_mask[:, None], keys, 2**30))
    length = inputs.shape[1] if past is None else past[0].k.shape[-1]
    own = self._biases(index[:, :, None], jnp.arange(length)[None, None])
    tokens = self.started(inputs)
    return self._layers(tokens, absolute, own, dropout_key, prompts, seen, past, positions)

  def _layers(
      self,
      tokens: Int[Array, "B C"],
      absolute: Int[Array, "#B C"],
      own: Bias,
      dropout_key: PRNGKey | None,
      prompts: tuple[KeyValue, ...] | None = None,
      seen: Bias | None = None,
      past: tuple[KeyValue, ...] | None = None,
      positions: Int[Array, " B"] | None = None,
  ) -> tuple[Float[Array, "B C D"], tuple[KeyValue, ...]]:
    """Runs all layers; see `CausalLayer` for what each is given."""
    config = self.config
    seeds = dropout_seeds(dropout_key, _DROPOUTS * config.num_decoder_layers + 1)
    rotate = {window: self._rotation(absolute, window) for window in own}
    x = dropout(self.embed(tokens), config.dropout_rate, seeds[-1])
    memories = []
    for i, window in enumerate(self._windows()):
      layer: CausalLayer = getattr(self.decoder, f"layer_{i}")
      run = self.rematerialised(layer) if past is None else layer
      x, memory = run(
          x,
          rotate[window],
          own[window],
          seeds[_DROPOUTS * i : _DROPOUTS * (i + 1)],
          None if prompts is None or seen is None else (prompts[i], seen[window]),
          None if past is None or positions is None else (past[i], positions),
      )
      x = self.by_rows(x)
      memories.append(self.by_heads(memory))
    return self.decoder.final_norm(x), tuple(memories)

  def _windows(self) -> tuple[int, ...]:
    """Returns the window of each layer, 0 for none."""
    return self.config.windows or (0,) * self.config.num_decoder_layers

  def _rotation(self, absolute: Int[Array, "#B C"], window: int) -> Rotation:
    """Computes the rotation in layers with a window, or without one (0)."""
    config = self.config
    if window:
      return rotation(absolute, frequencies(config.d_kv, config.local_rope_theta))
    return rotation(absolute, frequencies(config.d_kv, config.rope_theta, config.rope_scaling))

  def _biases(self, queries: Int[Array, "#B C 1"], keys: Int[Array, "#B 1 L"]) -> Bias:
    """Returns 0 where a query sees a key and MASKED_LOGIT elsewhere, by window."""
    biases = {}
    for window in set(self._windows()):
      is_seen = keys <= queries
      if window:
        is_seen &= queries - keys < window
      biases[window] = jnp.where(is_seen, 0.0, MASKED_LOGIT).astype(jnp.float32)[:, None]
    return biases


def _norm(config: ModelConfig) -> RMSNorm:
  """Makes a norm of the residual stream."""
  return RMSNorm(config.d_model, config.param_dtype, config.norm_epsilon, config.norm_offset)
