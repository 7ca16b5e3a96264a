"""The parameters of transformers' BART, mBART, Pegasus and M2M-100, and ours: names and layouts.

Our kernels are transposed and stacked, as are the biases of those that are stacked. All families
have the same names. Files of BART, mBART and Pegasus hold two things more, which are constant:
`final_logits_bias`, zeros that transformers adds to logits, and in Pegasus' the sinusoids.
"""

from collections.abc import Iterator, Mapping

import jax.numpy as jnp
import numpy as np

from kdtw_jax.base import ArrayLike
from kdtw_jax.models import ModelConfig
from kdtw_jax.models.bart import sinusoids
from kdtw_jax.published.entries import Entry, copied, kernel, tables

LOGITS_BIAS = "final_logits_bias"
_POSITIONS = "embed_positions.weight"


def entries(config: ModelConfig) -> list[Entry]:
  """Lists all parameters of the encoder-decoder."""
  found = [copied("shared/embedding", "model.shared.weight")]
  for stack, depth in (
      ("encoder", config.num_encoder_layers),
      ("decoder", config.num_decoder_layers),
  ):
    theirs = f"model.{stack}"
    if config.positions == "learned":
      found.append(copied(f"{stack}/positions/embedding", f"{theirs}.{_POSITIONS}"))
    if config.embedding_norm:
      found += _norm(f"{stack}/embedding_norm", f"{theirs}.layernorm_embedding")
    for i in range(depth):
      found += _layer_entries(f"{stack}/layer_{i}", f"{theirs}.layers.{i}", stack == "decoder")
    if config.pre_norm:
      found += _norm(f"{stack}/final_norm", f"{theirs}.layer_norm")
  return found


def _norm(ours: str, theirs: str) -> list[Entry]:
  """Lists the parameters of a LayerNorm."""
  return [copied(f"{ours}/{x}", f"{theirs}.{x}") for x in ("weight", "bias")]


def _product(ours: str, theirs: str, *parts: str) -> list[Entry]:
  """Lists the kernel and the bias of a product, or of several that share an input."""
  names = [f"{theirs}.{part}" for part in parts]
  biases = [f"{name}.bias" for name in names]
  bias = f"{ours}_bias"
  return [
      kernel(ours, *(f"{name}.weight" for name in names)),
      copied(bias, *biases) if len(parts) == 1 else tables(bias, biases, 1.0),
  ]


def _layer_entries(ours: str, theirs: str, is_decoder: bool) -> list[Entry]:
  """Lists the parameters of a layer."""
  attention = f"{theirs}.self_attn"
  found = [
      *_norm(f"{ours}/self_attention_norm", f"{theirs}.self_attn_layer_norm"),
      *_product(f"{ours}/self_attention/qkv", attention, "q_proj", "k_proj", "v_proj"),
      *_product(f"{ours}/self_attention/out", attention, "out_proj"),
  ]
  if is_decoder:
    attention = f"{theirs}.encoder_attn"
    found += [
        *_norm(f"{ours}/cross_attention_norm", f"{theirs}.encoder_attn_layer_norm"),
        *_product(f"{ours}/cross_attention/q", attention, "q_proj"),
        *_product(f"{ours}/cross_attention/kv", attention, "k_proj", "v_proj"),
        *_product(f"{ours}/cross_attention/out", attention, "out_proj"),
    ]
  return found + [
      *_norm(f"{ours}/feed_forward_norm", f"{theirs}.final_layer_norm"),
      *_product(f"{ours}/feed_forward/wi", theirs, "fc1"),
      *_product(f"{ours}/feed_forward/wo", theirs, "fc2"),
  ]


def constants(config: ModelConfig) -> Iterator[tuple[str, np.ndarray]]:
  """Yields what a file holds besides parameters, in `param_dtype`."""
  dtype = jnp.dtype(config.param_dtype)
  if config.positions == "pegasus":
    table = sinusoids("pegasus", config.max_positions, config.d_model).astype(dtype)
    yield from ((f"model.{stack}.{_POSITIONS}", table) for stack in ("encoder", "decoder"))
  if config.positions != "m2m":
    yield LOGITS_BIAS, np.zeros((1, config.vocab_size), dtype)


def check_constants(weights: Mapping[str, ArrayLike]) -> None:
  """Raises ValueError if logits have a bias that is not zero."""
  if LOGITS_BIAS in weights and np.any(np.asarray(weights[LOGITS_BIAS])):
    raise ValueError(
        f"weights: {LOGITS_BIAS!r} is not zero: only models without a bias of logits are built: "
        "choose another model"
    )
