"""Conversion between the config.json of BART's families and our `ModelConfig`.

Families: BART (and DistilBART), mBART (and mBART-50), Pegasus, M2M-100 (and the dense NLLB, which
is published as one). Each has one arrangement of the blocks; a file that says otherwise is refused.
"""

from collections.abc import Collection, Mapping
from typing import Any

from kdtw_jax.models import ModelConfig
from kdtw_jax.published.fields import sizes
from kdtw_jax.published.special_ids import generation_ids

FAMILIES = {
    "m2m_100": "M2M100ForConditionalGeneration",
    "bart": "BartForConditionalGeneration",
    "mbart": "MBartForConditionalGeneration",
    "pegasus": "PegasusForConditionalGeneration",
}
_BLOCKS: dict[str, dict[str, Any]] = {
    "m2m_100": {"positions": "m2m", "pre_norm": True, "embedding_norm": False},
    "bart": {"positions": "learned", "pre_norm": False, "embedding_norm": True},
    "mbart": {"positions": "learned", "pre_norm": True, "embedding_norm": True},
    "pegasus": {"positions": "pegasus", "pre_norm": True, "embedding_norm": False},
}
_SIZES = {
    "d_model": "d_model",
    "d_ff": "encoder_ffn_dim",
    "num_heads": "encoder_attention_heads",
    "num_encoder_layers": "encoder_layers",
    "num_decoder_layers": "decoder_layers",
    "max_positions": "max_position_embeddings",
}
_ALIKE = {
    "encoder_ffn_dim": "decoder_ffn_dim",
    "encoder_attention_heads": "decoder_attention_heads",
}
_ACTIVATIONS = ("relu", "gelu")


def architecture(
    published: Mapping[str, Any], tensors: Collection[str], *, where: str
) -> dict[str, Any]:
  """Returns the `ModelConfig` fields of a BART; see `architecture.architecture`."""
  del tensors  # the readout of a tied model may be among them, a second time
  family = published["model_type"]
  published = {
      "activation_function": "relu" if family == "m2m_100" else "gelu",
      "scale_embedding": family == "m2m_100",
      **{name: value for name, value in published.items() if value is not None},
  }
  blocks = _BLOCKS[family]
  found = sizes(published, _SIZES, where)
  expected = {
      **{theirs: published[ours] for ours, theirs in _ALIKE.items()},
      "normalize_before": blocks["pre_norm"],
      "add_final_layer_norm": blocks["pre_norm"],
      "normalize_embedding": blocks["embedding_norm"],
      "static_position_embeddings": blocks["positions"] != "learned",
      "add_bias_logits": False,
      "tie_word_embeddings": True,  # transformers would untie both stacks' tables, too
  }
  for name, value in expected.items():
    if published.get(name, value) != value:
      raise ValueError(
          f"{where}/config.json: {name}={published[name]!r}: only {value!r} is built for "
          f"model_type={family!r} of these sizes: choose another model"
      )
  activation = published["activation_function"]
  if activation not in _ACTIVATIONS:
    raise ValueError(
        f"{where}/config.json: activation_function={activation!r}: must be one of "
        f"{', '.join(_ACTIVATIONS)}"
    )
  return {
      "kind": "bart",
      **found,
      **blocks,
      "d_kv": found["d_model"] // found["num_heads"],
      "feed_forward": activation,
      "scale_embedding": bool(published["scale_embedding"]),
      "tie_embeddings": True,
  }


def config_json(config: ModelConfig) -> dict[str, Any]:
  """Makes the fields of config.json that a BART made here has; see `architecture.config_json`."""
  family = next(name for name, blocks in _BLOCKS.items() if _has(config, blocks))
  written = {theirs: getattr(config, name) for name, theirs in _SIZES.items()}
  rates = ("dropout", "attention_dropout", "activation_dropout")
  return {
      "architectures": [FAMILIES[family]],
      "model_type": family,
      "is_encoder_decoder": True,
      **written,
      **{theirs: written[ours] for ours, theirs in _ALIKE.items()},
      "activation_function": config.feed_forward,
      "scale_embedding": config.scale_embedding,
      **dict.fromkeys(rates, config.dropout_rate),
      **dict.fromkeys(("encoder_layerdrop", "decoder_layerdrop"), 0.0),
      "use_cache": True,
      "bos_token_id": None,
      "forced_eos_token_id": None,
      **generation_ids(config),
  }


def _has(config: ModelConfig, blocks: Mapping[str, Any]) -> bool:
  """Returns True if these are a model's blocks."""
  return all(getattr(config, name) == value for name, value in blocks.items())
