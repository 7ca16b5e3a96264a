"""The parameters of transformers' T5Gemma and T5Gemma 2 and ours: names and layouts.

Our kernels are transposed, and those of keys and values and of the gated feed-forward block are
stacked. Both families have the same names, as in files: in memory, transformers has T5Gemma 2's
encoder in a `text_model`, beside what sees, which is not read (`causal_names.text_name`). What
T5Gemma 2 embeds the end of an image as, which is no part of a text, is not read either, and written
as zeros.
"""

from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np

from kdtw_jax.models import ModelConfig
from kdtw_jax.published.entries import Entry, copied, kernel
from kdtw_jax.published.t5gemma_architecture import READOUT


def entries(config: ModelConfig) -> list[Entry]:
  """Lists all parameters of the encoder-decoder."""
  tables = {"shared": "encoder"}
  if not config.merged_attention:
    tables = {"shared": "decoder", "source_tokens": "encoder"}
  found = [copied(f"{a}/embedding", f"model.{b}.embed_tokens.weight") for a, b in tables.items()]
  for stack, depth in (
      ("encoder", config.num_encoder_layers),
      ("decoder", config.num_decoder_layers),
  ):
    for i in range(depth):
      found += _layer_entries(stack, i, config)
    found.append(copied(f"{stack}/final_norm/weight", f"model.{stack}.norm.weight"))
  if not config.tie_embeddings:
    found.append(copied("readout_kernel", READOUT))
  return found


def constants(config: ModelConfig) -> Iterator[tuple[str, np.ndarray]]:
  """Yields what a file holds besides parameters, in `param_dtype`."""
  if config.merged_attention:
    zeros = np.zeros((config.d_model,), jnp.dtype(config.param_dtype))
    yield "model.encoder.embed_tokens.eoi_embedding", zeros


def _layer_entries(stack: str, i: int, config: ModelConfig) -> list[Entry]:
  """Lists the parameters of layer i of a stack."""
  ours, theirs = f"{stack}/layer_{i}", f"model.{stack}.layers.{i}"
  blocks = {"self_attention": "self_attn", "feed_forward": "feedforward"}
  if stack == "decoder" and not config.merged_attention:
    blocks["cross_attention"] = "cross_attn"
  found = []
  for block, name in blocks.items():
    found += [
        copied(f"{ours}/{block}_norm/weight", f"{theirs}.pre_{name}_layernorm.weight"),
        copied(f"{ours}/{block}_post_norm/weight", f"{theirs}.post_{name}_layernorm.weight"),
    ]
    if block == "feed_forward":
      parts = (f"{theirs}.mlp.{x}_proj.weight" for x in ("gate", "up"))
      found += [
          kernel(f"{ours}/{block}/wi", *parts),
          kernel(f"{ours}/{block}/wo", f"{theirs}.mlp.down_proj.weight"),
      ]
      continue
    attention = f"{theirs}.{name}"
    found += [
        kernel(f"{ours}/{block}/q", f"{attention}.q_proj.weight"),
        kernel(f"{ours}/{block}/kv", *(f"{attention}.{x}_proj.weight" for x in "kv")),
        kernel(f"{ours}/{block}/out", f"{attention}.o_proj.weight"),
    ]
    if config.qk_norm:
      found += [
          copied(f"{ours}/{block}/{x}_norm/weight", f"{attention}.{x}_norm.weight") for x in "qk"
      ]
  return found
