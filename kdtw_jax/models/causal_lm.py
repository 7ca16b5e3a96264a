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
ring buffer forgets cannot be rolled back. Not here: the blocks (`rotated_layer.py`) and the
student's heads (`heads.py`).
Letters: B batch, S source length, P prompt length, T target length, C new tokens, L cache length,
D width, H head size, V vocabulary.
"""

from flax import nnx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from kdtw_jax.base import PRNGKey
from kdtw_jax.models.cache import Cache, Encoded, KeyValue, empty_memory
from kdtw_jax.models.config import ModelConfig
from kdtw_jax.models.language_model import LanguageModel
from kdtw_jax.models.layers import dropout, dropout_seeds
from kdtw_jax.models.rotated_layer import (
    DROPOUTS,
    Bias,
    RotatedLayer,
    RotatedStack,
    rotation_of,
    seen_bias,
)


class CausalLM(LanguageModel):
  """Token arrays in, hidden states and logits out; dropout only with a dropout key."""

  def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
    unit = config.d_model**0.5 if config.scale_embedding else 1.0
    super().__init__(config, unit, config.d_model**-0.5, rngs)
    self.decoder = RotatedStack(RotatedLayer, config.num_decoder_layers, config, rngs)
    self.make_readout(rngs)

  def encode(self, source: Int[Array, "B S"], dropout_key: PRNGKey | None = None) -> Encoded:
    """Reads the prompts of sources that end with EOS, padded with PAD_ID at their end."""
    tokens, mask = self.prompt(source)
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
    """Runs all layers; see `RotatedLayer` for what each is given."""
    config = self.config
    seeds = dropout_seeds(dropout_key, DROPOUTS * config.num_decoder_layers + 1)
    rotate = self.decoder.by_window(lambda window: rotation_of(config, absolute, window))
    x = dropout(self.embed(tokens), config.dropout_rate, seeds[-1])
    memories = []
    for i, (layer, window) in enumerate(self.decoder.with_windows()):
      run = self.rematerialised(layer) if past is None else layer
      x, memory = run(
          x,
          rotate[window],
          own[window],
          seeds[DROPOUTS * i : DROPOUTS * (i + 1)],
          None if prompts is None or seen is None else (prompts[i], seen[window]),
          None if past is None or positions is None else (past[i], positions),
      )
      x = self.by_rows(x)
      memories.append(self.by_heads(memory))
    return self.decoder.final_norm(x), tuple(memories)

  def _biases(self, queries: Int[Array, "#B C 1"], keys: Int[Array, "#B 1 L"]) -> Bias:
    """Returns 0 where a query sees a key and MASKED_LOGIT elsewhere, by window."""
    return self.decoder.by_window(lambda window: seen_bias(queries - keys, window))
