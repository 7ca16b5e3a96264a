"""Conversion between a published config.json and our `ModelConfig`.

Families: T5 (relu, tied), T5 v1.1, Flan-T5 and ByT5 (gated gelu, untied), mT5 (the same as T5 v1.1
under another name) and UMT5 (a position bias per layer).

Two facts are not where one expects them. The weights tell whether the embeddings are tied: they are
untied if `lm_head.weight` is among the weights. `scale_decoder_outputs` tells whether the readout's
input is divided by sqrt(D). Older files have only `tie_word_embeddings`, which meant both;
transformers 5 writes it as true for every T5, tied or not. mT5 is published untied and does not
divide.
"""

from collections.abc import Collection, Mapping
from typing import Any

from kdtw_jax.base import EOS_ID, PAD_ID
from kdtw_jax.models import ModelConfig
from kdtw_jax.models.layers import RMS_EPSILON

FAMILIES = {
    "t5": "T5ForConditionalGeneration",
    "mt5": "MT5ForConditionalGeneration",
    "umt5": "UMT5ForConditionalGeneration",
}
READOUT = "lm_head.weight"

_SIZES = {
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
# Values that are fixed in our code; a file may state or omit them.
_FIXED = {
    "pad_token_id": PAD_ID,
    "eos_token_id": EOS_ID,
    "decoder_start_token_id": PAD_ID,
    "layer_norm_epsilon": RMS_EPSILON,
}


def architecture(
    published: Mapping[str, Any], tensors: Collection[str], *, where: str
) -> dict[str, Any]:
  """Returns the `ModelConfig` fields that the published model decides, all but the vocabulary.

  Args:
    published: the content of config.json.
    tensors: names of the published weights.
    where: the folder, for errors.

  Returns:
    Keyword arguments of `ModelConfig`.

  Raises:
    ValueError: if the model is not a T5, or of an unsupported kind; names the field.
  """
  family = published.get("model_type")
  if family not in FAMILIES:
    raise ValueError(
        f"{where}/config.json: model_type={family!r}: must be one of "
        f"{', '.join(FAMILIES)}; only encoder-decoders of the T5 family are read"
    )
  for name, value in _FIXED.items():
    if published.get(name) not in (None, value):
      raise ValueError(f"{where}/config.json: {name}={published[name]!r}: only {value!r} is built")
  published = {
      **_DEFAULTS,
      "feed_forward_proj": _FEED_FORWARDS[family],
      **{k: v for k, v in published.items() if v is not None},
  }
  published.setdefault("num_decoder_layers", published.get("num_layers"))
  missing = [
      name for name in ("vocab_size", *_SIZES.values()) if not isinstance(published.get(name), int)
  ]
  if missing:
    raise ValueError(
        f"{where}/config.json: {missing[0]}={published.get(missing[0])!r}: must be a " "number"
    )
  scaled = published.get("scale_decoder_outputs", published.get("tie_word_embeddings", True))
  return {
      **{ours: published[theirs] for ours, theirs in _SIZES.items()},
      "feed_forward": _feed_forward(published["feed_forward_proj"], where),
      "tie_embeddings": READOUT not in tensors,
      "scale_readout": bool(scaled) and family != "mt5",
      "bias_per_layer": family == "umt5",
  }


def _feed_forward(kind: str, where: str) -> str:
  if kind not in ("relu", "gated-gelu"):
    raise ValueError(
        f"{where}/config.json: feed_forward_proj={kind!r}: must be 'relu' or " "'gated-gelu'"
    )
  return kind


def config_json(config: ModelConfig, original: Mapping[str, Any] | None = None) -> dict[str, Any]:
  """Makes the content of config.json for one of our models.

  Args:
    config: the architecture.
    original: config.json of the published model that training started from, whose other fields
      are kept. None for a model trained from scratch.

  Returns:
    JSON values that transformers reads.
  """
  ours = {  # transformers 4 reads the first two, transformers 5 the third and the weights
      "tie_word_embeddings": config.tie_embeddings,
      "torch_dtype": config.param_dtype,
      "scale_decoder_outputs": config.scales_readout,
      "dtype": config.param_dtype,
      "vocab_size": config.vocab_size,
  }
  if original is not None:
    return {**original, **ours}
  family = "umt5" if config.bias_per_layer else "t5"
  return {
      "architectures": [FAMILIES[family]],
      "model_type": family,
      "is_encoder_decoder": True,
      "feed_forward_proj": config.feed_forward,
      **{theirs: getattr(config, name) for name, theirs in _SIZES.items()},
      "dropout_rate": config.dropout_rate,
      "initializer_factor": 1.0,
      "use_cache": True,
      **_FIXED,
      **ours,
  }


def generation_json(config: ModelConfig) -> dict[str, Any]:
  """Makes generation_config.json, which suppresses all rows that are not text."""
  padding = range(config.num_tokens or config.vocab_size, config.vocab_size)
  rows = {PAD_ID, config.tau_id, *padding} - {-1}
  special = {name: value for name, value in _FIXED.items() if name.endswith("_id")}
  return {**special, "suppress_tokens": sorted(rows)}
