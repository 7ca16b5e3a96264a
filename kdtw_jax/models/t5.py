"""T5's encoder-decoder as flax NNX modules, for both teacher and student.

Pre-norm blocks, RMSNorm, a relative position bias shared by all layers of a stack (UMT5: one per
layer), no other positions, no biases. Raffel et al. 2020, https://arxiv.org/abs/1910.10683;
Chung et al. 2023, https://arxiv.org/abs/2304.09151. Not here: the blocks (`encoder_decoder.py`).
Letters: B batch, C positions, D width, N heads, P tables of position bias (1 or one per layer), R
distances.

Initialisation gives unit-variance activations as in T5: q, k, v and wi have std D^-0.5, outputs
fan_in^-0.5. Adam's step does not scale with the parameter, so for training from scratch three kinds
of parameters are stored in other units than T5's, with the same function: the embedding
(`layers.embedding_unit`), the queries (`attention.py`) and the position bias (`position_bias.py`).
An untied readout starts with std D^-0.5 (logits of unit variance) instead of 1.
"""

from collections.abc import Callable

from flax import nnx
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdtw_jax.models.config import ModelConfig
from kdtw_jax.models.encoder_decoder import DecoderLayer, EncoderDecoder, EncoderLayer, Layer, Stack
from kdtw_jax.models.layers import embedding_unit
from kdtw_jax.models.position_bias import RelativePositionBias


class BiasedStack(Stack[Layer]):
  """A stack whose layers learn the order of tokens from a bias of the scores."""

  def __init__(
      self,
      layer_type: Callable[[ModelConfig, nnx.Rngs], Layer],
      num_layers: int,
      bidirectional: bool,
      config: ModelConfig,
      rngs: nnx.Rngs,
  ):
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
    super().__init__(layer_type, num_layers, config, rngs)

  def tables(self, length: int) -> Float[Array, "P N R"]:
    """Computes float32 biases at distances -(length-1) .. length-1; a decoder masks the future."""
    return self.position_bias.tables(length)


class T5(EncoderDecoder):
  """T5: token arrays in, hidden states and logits out; dropout only with a dropout key."""

  def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
    unit = embedding_unit(config.d_model)
    super().__init__(config, unit, 1.0 / unit, rngs)
    self.encoder = BiasedStack(EncoderLayer, config.num_encoder_layers, True, config, rngs)
    self.decoder = BiasedStack(DecoderLayer, config.num_decoder_layers, False, config, rngs)
    self.make_readout(rngs)

  def readout_input(self, hidden: Float[Array, "B C D"]) -> Float[Array, "B C D"]:
    """Scales hidden states to the unit of the stored readout matrix.

    T5 divides them by sqrt(D), T5 v1.1 does not. A tied embedding has the unit `Embedding.unit`.
    """
    scale = self.shared.unit if self.config.tie_embeddings else 1.0
    if self.config.scales_readout:
      scale *= self.config.d_model**-0.5
    return hidden if scale == 1.0 else hidden * jnp.asarray(scale, hidden.dtype)
