"""The parameters of transformers' causal language models and ours: names and layouts.

Our kernels are transposed, and those of keys and values and of the gated feed-forward block are
stacked, as are their biases. All families have the same names; a norm before the feed-forward block
is called after what precedes it, unless there are norms after both blocks.
"""

from kdtw_jax.models import ModelConfig
from kdtw_jax.published.entries import Entry, copied, kernel, tables

# Where a multimodal model has its text model: as on the hub, and as in memory since transformers
# 4.52; the last is T5Gemma 2's encoder. What lies elsewhere (`vision_tower`,
# `multi_modal_projector`) is of no text model.
_TEXT_PREFIXES = {
    "language_model.model.": "model.",
    "language_model.lm_head.": "lm_head.",
    "model.language_model.": "model.",
    "model.encoder.text_model.": "model.encoder.",
}


def text_name(name: str) -> str:
  """Returns a tensor's name in the text model alone; names of other tensors stay."""
  for prefix, short in _TEXT_PREFIXES.items():
    if name.startswith(prefix):
      return short + name.removeprefix(prefix)
  return name


def entries(config: ModelConfig) -> list[Entry]:
  """Lists all parameters of the model."""
  found = [copied("shared/embedding", "model.embed_tokens.weight")]
  for i in range(config.num_decoder_layers):
    found.extend(_layer_entries(i, config))
  found.append(copied("decoder/final_norm/weight", "model.norm.weight"))
  if not config.tie_embeddings:
    found.append(copied("readout_kernel", "lm_head.weight"))
  return found


def _layer_entries(i: int, config: ModelConfig) -> list[Entry]:
  """Lists the parameters of layer i."""
  ours, theirs = f"decoder/layer_{i}", f"model.layers.{i}"
  attention, dense = f"{theirs}.self_attn", f"{theirs}.mlp"
  norms = {
      "self_attention_norm": "input_layernorm",
      "feed_forward_norm": "post_attention_layernorm",
  }
  if config.post_norms:
    norms |= {
        "feed_forward_norm": "pre_feedforward_layernorm",
        "self_attention_post_norm": "post_attention_layernorm",
        "feed_forward_post_norm": "post_feedforward_layernorm",
    }
  found = [copied(f"{ours}/{a}/weight", f"{theirs}.{b}.weight") for a, b in norms.items()]
  if config.qk_norm:
    found += [
        copied(f"{ours}/self_attention/{x}_norm/weight", f"{attention}.{x}_norm.weight")
        for x in "qk"
    ]
  if config.qkv_bias:
    found += [
        copied(f"{ours}/self_attention/q_bias", f"{attention}.q_proj.bias"),
        tables(f"{ours}/self_attention/kv_bias", [f"{attention}.{x}_proj.bias" for x in "kv"], 1.0),
    ]
  if config.out_bias:
    found.append(copied(f"{ours}/self_attention/out_bias", f"{attention}.o_proj.bias"))
  return found + [
      kernel(f"{ours}/self_attention/q", f"{attention}.q_proj.weight"),
      kernel(f"{ours}/self_attention/kv", *(f"{attention}.{x}_proj.weight" for x in "kv")),
      kernel(f"{ours}/self_attention/out", f"{attention}.o_proj.weight"),
      kernel(f"{ours}/feed_forward/wi", *(f"{dense}.{x}_proj.weight" for x in ("gate", "up"))),
      kernel(f"{ours}/feed_forward/wo", f"{dense}.down_proj.weight"),
  ]
