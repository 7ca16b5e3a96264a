"""Conversion between the config.json of T5Gemma and T5Gemma 2 and our `ModelConfig`.

Both say in `encoder` and `decoder` what a causal Gemma says of itself, T5Gemma 2 that of its
encoder in `encoder.text_config`, beside the tower of vision, which is not read. A folder that is
written has none either: its `vision_config` is the smallest one, and transformers, which has no
class for the text model alone, draws weights for it that no text reaches.
"""

from collections.abc import Collection, Mapping
import dataclasses
from typing import Any

from kdtw_jax.models import ModelConfig
from kdtw_jax.models.config_checks import ENCODER_FIELDS
from kdtw_jax.published import causal_architecture
from kdtw_jax.published.fields import sizes
from kdtw_jax.published.special_ids import generation_ids

FAMILIES = {
    "t5gemma": "T5GemmaForConditionalGeneration",
    "t5gemma2": "T5Gemma2ForConditionalGeneration",
}
READOUT = "lm_head.out_proj.weight"
_STACKS = {
    "t5gemma": {"encoder": "t5_gemma_module", "decoder": "t5_gemma_module"},
    "t5gemma2": {"encoder": "t5gemma2_text", "decoder": "t5gemma2_decoder"},
}
_VOCABULARIES = {"t5gemma": 256_000, "t5gemma2": 262_208}  # where a file leaves them out
_OF_A_STACK = ("vocab_size", "pad_token_id", "bos_token_id", "eos_token_id")
_POSITIONS = "max_position_embeddings"
_NO_VISION = {
    "model_type": "siglip_vision_model",
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "image_size": 14,
    "patch_size": 14,
}


def _stack(published: Mapping[str, Any], name: str) -> dict[str, Any]:
  """Returns what is said of the encoder's or the decoder's text; {} if nothing is."""
  found = published.get(name)
  if isinstance(found, Mapping) and published["model_type"] == "t5gemma2" and name == "encoder":
    found = found.get("text_config")
  return dict(found) if isinstance(found, Mapping) else {}


def with_common_fields(published: Mapping[str, Any]) -> dict[str, Any]:
  """Returns config.json with the fields that other families have outside; else as it is."""
  if published.get("model_type") not in FAMILIES:
    return dict(published)
  encoder, decoder = _stack(published, "encoder"), _stack(published, "decoder")
  fields: dict[str, Any] = {"vocab_size": _VOCABULARIES[published["model_type"]]}
  fields |= {name: decoder[name] for name in _OF_A_STACK if name in decoder}
  if most := [stack[_POSITIONS] for stack in (encoder, decoder) if stack.get(_POSITIONS)]:
    fields[_POSITIONS] = min(most)
  return fields | {name: value for name, value in published.items() if value is not None}


def architecture(
    published: Mapping[str, Any], tensors: Collection[str], *, where: str
) -> dict[str, Any]:
  """Returns the `ModelConfig` fields of a T5Gemma; see `architecture.architecture`."""
  family = published["model_type"]
  is_second = family == "t5gemma2"
  sizes(published, {}, where)  # of the vocabulary
  if is_second and published.get("tie_word_embeddings") is False:
    raise ValueError(
        f"{where}/config.json: tie_word_embeddings=False: only True is built for "
        f"model_type={family!r}: choose another model"
    )
  encoder, decoder = (_fields_of(published, name, where) for name in ("encoder", "decoder"))
  return {
      **decoder,
      "kind": "t5gemma",
      "num_encoder_layers": encoder["num_decoder_layers"],
      "tie_embeddings": is_second or READOUT not in tensors,
      "merged_attention": is_second,
      "encoder": tuple(
          (name, encoder[name]) for name in ENCODER_FIELDS if encoder[name] != decoder[name]
      ),
  }


def _fields_of(published: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
  """Returns the fields of a stack, as those of a causal model with its blocks.

  Raises:
    ValueError: names the stack and the field.
  """
  family = published["model_type"]
  stack = {**_stack(published, name), "model_type": _STACKS[family][name]}
  unbuilt = ["attention_bias"]
  if family == "t5gemma2":  # which transformers leaves out there
    unbuilt.append("attn_logit_softcapping")
  for field in unbuilt:
    if stack.get(field):
      raise ValueError(
          f"{where}/config.json: {name}.{field}={stack[field]!r}: is not built for "
          f"model_type={family!r}: choose a model without it"
      )
  if stack.get("vocab_size", published["vocab_size"]) != published["vocab_size"]:
    raise ValueError(
        f"{where}/config.json: {name}.vocab_size={stack['vocab_size']!r}: only one vocabulary, "
        f"here of {published['vocab_size']!r}, is built: choose another model"
    )
  try:
    return causal_architecture.architecture(stack, (), where=where)
  except ValueError as error:
    said = str(error).replace("/config.json: ", f"/config.json: {name}.", 1)
    raise ValueError(said) from error


def config_json(config: ModelConfig) -> dict[str, Any]:
  """Makes the fields of config.json that a T5Gemma made here has.

  See `architecture.config_json`.
  """
  family = "t5gemma2" if config.merged_attention else "t5gemma"
  inside = dataclasses.replace(config.encoder_config, num_decoder_layers=config.num_encoder_layers)
  stacks = {}
  for name, stack in (("encoder", inside), ("decoder", config)):
    stacks[name] = causal_architecture.config_json(stack)
    stacks[name]["model_type"] = _STACKS[family][name]
    del stacks[name]["architectures"]
  if config.merged_attention:
    stacks["encoder"] = {"model_type": "t5gemma2_encoder", "text_config": stacks["encoder"]}
  return {
      "architectures": [FAMILIES[family]],
      "model_type": family,
      "is_encoder_decoder": True,
      **stacks,
      **dict.fromkeys(("dropout_rate", "attention_dropout"), config.dropout_rate),
  }


def completed(content: Mapping[str, Any], config: ModelConfig) -> dict[str, Any]:
  """Returns config.json with our vocabulary and dtype in both stacks, and without vision.

  Args:
    content: of a model made here, or the published one that training started from.
    config: the architecture.
  """
  ids = generation_ids(config)
  ids["bos_token_id"] = ids["decoder_start_token_id"]
  fields = {"vocab_size": config.vocab_size, "dtype": config.param_dtype, **ids}
  encoder, decoder = dict(content["encoder"]), {**content["decoder"], **fields}
  if config.merged_attention:
    encoder["text_config"] = {**encoder["text_config"], **fields}
    encoder |= {"vision_config": _NO_VISION, "mm_tokens_per_image": 1}
  else:
    encoder |= fields
  return {**content, **ids, "encoder": encoder, "decoder": decoder}
