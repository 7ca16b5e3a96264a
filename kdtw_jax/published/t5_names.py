"""The parameters of transformers' T5 and ours: names, layouts and units.

Our kernels are transposed and stacked, and some are stored in other units.
"""

from kdtw_jax.models import ModelConfig
from kdtw_jax.models.attention import query_unit
from kdtw_jax.models.layers import embedding_unit
from kdtw_jax.models.position_bias import BIAS_UNIT
from kdtw_jax.published.entries import Entry, copied, kernel, scaled, tables


def entries(config: ModelConfig) -> list[Entry]:
  """Lists all parameters of the encoder-decoder."""
  found = [scaled("shared/embedding", "shared.weight", embedding_unit(config.d_model))]
  for stack, depth in (
      ("encoder", config.num_encoder_layers),
      ("decoder", config.num_decoder_layers),
  ):
    biases = [
        f"{stack}.block.{i}.layer.0.SelfAttention.relative_attention_bias.weight"
        for i in range(depth if config.bias_per_layer else 1)
    ]
    found.append(tables(f"{stack}/position_bias/embedding", biases, BIAS_UNIT))
    for i in range(depth):
      found.extend(_layer_entries(stack, i, config))
    found.append(copied(f"{stack}/final_norm/weight", f"{stack}.final_layer_norm.weight"))
  if not config.tie_embeddings:
    found.append(copied("readout_kernel", "lm_head.weight"))
  return found


def _layer_entries(stack: str, i: int, config: ModelConfig) -> list[Entry]:
  """Lists the parameters of layer i of a stack."""
  ours, theirs = f"{stack}/layer_{i}", f"{stack}.block.{i}.layer"
  attention = f"{theirs}.0.SelfAttention"
  q_scale = query_unit(config.d_kv)
  found = [
      copied(f"{ours}/self_attention_norm/weight", f"{theirs}.0.layer_norm.weight"),
      kernel(
          f"{ours}/self_attention/qkv",
          *(f"{attention}.{x}.weight" for x in "qkv"),
          first_scale=q_scale,
      ),
      kernel(f"{ours}/self_attention/out", f"{attention}.o.weight"),
  ]
  last = 1
  if stack == "decoder":
    last = 2
    attention = f"{theirs}.1.EncDecAttention"
    found += [
        copied(f"{ours}/cross_attention_norm/weight", f"{theirs}.1.layer_norm.weight"),
        kernel(f"{ours}/cross_attention/q", f"{attention}.q.weight", first_scale=q_scale),
        kernel(f"{ours}/cross_attention/kv", f"{attention}.k.weight", f"{attention}.v.weight"),
        kernel(f"{ours}/cross_attention/out", f"{attention}.o.weight"),
    ]
  dense = f"{theirs}.{last}.DenseReluDense"
  inputs = ("wi_0", "wi_1") if config.feed_forward == "gated-gelu" else ("wi",)
  return found + [
      copied(f"{ours}/feed_forward_norm/weight", f"{theirs}.{last}.layer_norm.weight"),
      kernel(f"{ours}/feed_forward/wi", *(f"{dense}.{x}.weight" for x in inputs)),
      kernel(f"{ours}/feed_forward/wo", f"{dense}.wo.weight"),
  ]
