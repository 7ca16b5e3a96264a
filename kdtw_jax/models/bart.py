"""BART's encoder-decoder as flax NNX modules: BART, mBART, Pegasus, M2M-100 and NLLB.

Blocks with LayerNorm and a bias in every product, and an embedding of each position that is added
to that of its token. BART, https://arxiv.org/abs/1910.13461, normalises after each block, and
learns its positions; mBART, https://arxiv.org/abs/2001.08210, normalises before each block. Both
normalise the embeddings. Pegasus, https://arxiv.org/abs/1912.08777, M2M-100,
https://arxiv.org/abs/2010.11125, and NLLB, https://arxiv.org/abs/2207.04672, normalise before each
block, and their positions are sinusoids. Not here: the blocks (`encoder_decoder.py`).

Positions count the tokens of a source that are not PAD_ID. Dropout, where a key switches it on, is
where T5 has it. Kernels start as T5's; the embedding, which is the readout matrix too, starts with
std D^-0.5, for logits of unit variance.
Letters: B batch, C positions, D width, L length, R = 2L - 1 distances.
"""

from collections.abc import Callable

from flax import nnx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from kdtw_jax.base import MASKED_LOGIT, PAD_ID
from kdtw_jax.models.config import ModelConfig
from kdtw_jax.models.encoder_decoder import DecoderLayer, EncoderDecoder, EncoderLayer, Layer, Stack
from kdtw_jax.models.layers import LayerNorm, normal_param

LEARNED_OFFSET = 2  # rows of a learned table before that of the first token, which nothing reads


def sinusoids(kind: str, num: int, width: int) -> Float[np.ndarray, "num width"]:
  """Computes the position embeddings of Vaswani et al. 2017, https://arxiv.org/abs/1706.03762.

      [sin(p f_0) .. sin(p f_{D/2-1})  cos(p f_0) .. cos(p f_{D/2-1})]

  with f_i = 10000^(-2i/D) of Pegasus, and f_i = 10000^(-i/(D/2-1)) of M2M-100, which is computed in
  float32, as in the published model: 1,000 positions on, that is a difference of 1e-4.

  Args:
    kind: 'pegasus' or 'm2m'.
    num: positions 0 .. num - 1.
    width: D, even.

  Returns:
    A float32 table.
  """
  half = width // 2
  if kind == "m2m":
    step = np.float32(np.log(10_000) / (half - 1))
    frequencies = np.exp(np.arange(half, dtype=np.float32) * -step)
    angles = np.arange(num, dtype=np.float32)[:, None] * frequencies[None]
  else:
    angles = np.arange(num)[:, None] * 10_000.0 ** (-np.arange(half) / half)[None]
  return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


class Positions(nnx.Module):
  """Embeddings of positions: learned, up to `max_positions`, or sinusoids, of any number."""

  def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
    self.kind, self.width = config.positions, config.d_model
    self.offset = {
        "learned": LEARNED_OFFSET,
        "pegasus": 0,
        "m2m": 1 + dict(config.renamed_ids).get(PAD_ID, PAD_ID),  # as fairseq counts
    }[config.positions]
    if config.positions == "learned":
      shape = (self.offset + config.max_positions, config.d_model)
      std = config.d_model**-0.5
      self.embedding = normal_param(rngs, shape, std, config.param_dtype, (None, "embed"))

  def __call__(
      self, index: Int[Array, "#B C"], length: int, dtype: jnp.dtype
  ) -> Float[Array, "#B C D"]:
    """Looks up positions below `length`; NaN beyond the last one of a learned table."""
    if self.kind == "learned":
      table = self.embedding[...]
    else:
      table = jnp.asarray(sinusoids(self.kind, self.offset + length, self.width))
    return jnp.take(table, index + self.offset, axis=0).astype(dtype)


class PlacedStack(Stack[Layer]):
  """A stack whose layers learn the order of tokens from embeddings of their positions."""

  def __init__(
      self,
      layer_type: Callable[[ModelConfig, nnx.Rngs], Layer],
      num_layers: int,
      bidirectional: bool,
      config: ModelConfig,
      rngs: nnx.Rngs,
  ):
    self.bidirectional = bidirectional
    self.positions = Positions(config, rngs)
    self.embedding_norm = (
        LayerNorm(config.d_model, config.param_dtype) if config.embedding_norm else None
    )
    super().__init__(layer_type, num_layers, config, rngs)

  def tables(self, length: int) -> Float[Array, "1 1 R"]:
    """Returns 0 at all distances, but MASKED_LOGIT at those of a decoder's future."""
    is_future = np.arange(-(length - 1), length) > 0
    hidden = jnp.asarray(is_future & (not self.bidirectional))
    return jnp.where(hidden, MASKED_LOGIT, 0.0).astype(jnp.float32)[None, None]

  def placed(
      self, x: Float[Array, "B C D"], index: Int[Array, "#B C"], length: int
  ) -> Float[Array, "B C D"]:
    """Adds the embeddings of the positions, and normalises the sum if the family does."""
    positions = self.positions(index, length, x.dtype)
    x = x + jnp.broadcast_to(positions, x.shape)
    return x if self.embedding_norm is None else self.embedding_norm(x)


class Bart(EncoderDecoder):
  """BART: token arrays in, hidden states and logits out; dropout only with a dropout key."""

  def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
    unit = config.d_model**0.5 if config.scale_embedding else 1.0
    super().__init__(config, unit, config.d_model**-0.5, rngs)
    self.encoder = PlacedStack(EncoderLayer, config.num_encoder_layers, True, config, rngs)
    self.decoder = PlacedStack(DecoderLayer, config.num_decoder_layers, False, config, rngs)
