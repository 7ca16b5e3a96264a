"""Conversion between the config.json of T5's families and our `ModelConfig`.

Families: T5 (relu, tied), T5 v1.1, Flan-T5 and ByT5 (gated gelu, untied), mT5 (the same as T5 v1.1
under another name), UMT5 (a position bias per layer) and MADLAD-400 (T5 v1.1 with other special
ids, and a decoder that does not start with padding).

Two facts are not where one expects them. The weights tell whether the embeddings are tied: they are
untied if `lm_head.weight` is among the weights. `scale_decoder_outputs` tells whether the readout's
input is divided by sqrt(D). Older files have only `tie_word_embeddings`, which meant both;
transformers 5 writes it as true for every T5, tied or not. mT5 is published untied and does not
divide.
"""

from collections.abc import Collection, Mapping
from typing import Any

from kdtw_jax.models import ModelConfig
from kdtw_jax.models.layers import RMS_EPSILON
from kdtw_jax.published.fields import READOUT, sizes
from kdtw_jax.published.special_ids import generation_ids

FAMILIES = {
    "t5": "T5ForConditionalGeneration",
    "mt5": "MT5ForConditionalGeneration",
    "umt5": "UMT5ForConditionalGeneration",
}
SIZES = {
    "d_model": "d_model",
    "d_ff": "d_ff",
    "num_heads": "num_heads",
    "d_kv": "d_kv",
    "num_encoder_layers": "num_layers",
    "num_decoder_layers": "num_decoder_layers",
    "relative_attention_num_buckets": "relative_attention_num_buckets",
    "relative_attention_max_distance": "relative_attention_max_distance",
}
_DEFAULTS = {"relative_attention_num_buckets": 32, "relative_attention_max_distance": 128}
_FEED_FORWARDS = {"t5": "relu", "mt5": "gated-gelu", "umt5": "gated-gelu"}  # if a file names none


def architecture(
    published: Mapping[str, Any], tensors: Collection[str], *, where: str
) -> dict[str, Any]:
  """Returns the `ModelConfig` fields of a T5; see `architecture.architecture`."""
  family = published["model_type"]
  if published.get("layer_norm_epsilon") not in (None, RMS_EPSILON):
    raise ValueError(
        f"{where}/config.json: layer_norm_epsilon={published['layer_norm_epsilon']!r}: only "
        f"{RMS_EPSILON!r} is built for model_type={family!r}"
    )
  published = {
      **_DEFAULTS,
      "feed_forward_proj": _FEED_FORWARDS[family],
      **{k: v for k, v in published.items() if v is not None},
  }
  published.setdefault("num_decoder_layers", published.get("num_layers"))
  scaled = published.get("scale_decoder_outputs", published.get("tie_word_embeddings", True))
  return {
      "kind": "t5",
      **sizes(published, SIZES, where),
      "feed_forward": _feed_forward(published["feed_forward_proj"], where),
      "tie_embeddings": READOUT not in tensors,
      "scale_readout": bool(scaled) and family != "mt5",
      "bias_per_layer": family == "umt5",
  }


def _feed_forward(kind: str, where: str) -> str:
  if kind not in ("relu", "gated-gelu"):
    raise ValueError(
        f"{where}/config.json: feed_forward_proj={kind!r}: must be 'relu' or 'gated-gelu'"
    )
  return kind


def config_json(config: ModelConfig) -> dict[str, Any]:
  """Makes the fields of config.json that a T5 made here has; see `architecture.config_json`."""
  family = "umt5" if config.bias_per_layer else "t5"
  return {
      "architectures": [FAMILIES[family]],
      "model_type": family,
      "is_encoder_decoder": True,
      "feed_forward_proj": config.feed_forward,
      **{theirs: getattr(config, name) for name, theirs in SIZES.items()},
      "dropout_rate": config.dropout_rate,
      "initializer_factor": 1.0,
      "use_cache": True,
      "layer_norm_epsilon": RMS_EPSILON,
      **generation_ids(config),
  }
