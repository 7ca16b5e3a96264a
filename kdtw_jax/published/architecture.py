"""Conversion between a published config.json and our `ModelConfig`, for all families."""

from collections.abc import Collection, Mapping
from typing import Any

from kdtw_jax.base import PAD_ID
from kdtw_jax.models import ModelConfig
from kdtw_jax.published import (
    bart_architecture,
    causal_architecture,
    special_ids,
    t5_architecture,
    t5gemma_architecture,
)

_KINDS = {
    "t5": t5_architecture,
    "bart": bart_architecture,
    "t5gemma": t5gemma_architecture,
    "causal": causal_architecture,
}
FAMILIES = {name: title for kind in _KINDS.values() for name, title in kind.FAMILIES.items()}


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
    ValueError: if the model is of no family that is read, or of an unsupported kind; names the
      field.
  """
  family = published.get("model_type")
  if family not in FAMILIES:
    raise ValueError(
        f"{where}/config.json: model_type={family!r}: must be one of {', '.join(FAMILIES)}; only "
        "encoder-decoders of T5's, BART's and T5Gemma's families without mixtures of experts, and "
        "causal models of these, are read"
    )
  kind = next(kind for kind in _KINDS.values() if family in kind.FAMILIES)
  return kind.architecture(published, tensors, where=where)


def config_json(config: ModelConfig, original: Mapping[str, Any] | None = None) -> dict[str, Any]:
  """Makes the content of config.json for one of our models.

  Args:
    config: the architecture.
    original: config.json of the published model that training started from, whose other fields
      are kept. None for a model trained from scratch.

  Returns:
    JSON values that transformers reads.
  """
  ours = {  # transformers 4 reads the first two, transformers 5 the others and the weights
      "tie_word_embeddings": config.tie_embeddings,
      "torch_dtype": config.param_dtype,
      "dtype": config.param_dtype,
      "vocab_size": config.vocab_size,
  }
  if config.kind == "t5":
    ours["scale_decoder_outputs"] = config.scales_readout
  if config.kind == "bart":  # a language that the decoder starts with may not be the published one
    ours |= special_ids.generation_ids(config)
  found = _KINDS[config.kind].config_json(config) if original is None else original
  if config.kind == "t5gemma":
    return t5gemma_architecture.completed({**found, **ours}, config)
  return {**found, **ours}


def generation_json(config: ModelConfig) -> dict[str, Any]:
  """Makes generation_config.json, which suppresses all rows that are not text."""
  padding = range(config.num_tokens or config.vocab_size, config.vocab_size)
  rows = {PAD_ID, config.tau_id, *padding} - {-1}
  theirs = dict(config.renamed_ids)
  suppressed = sorted(theirs.get(row, row) for row in rows)
  return {**special_ids.generation_ids(config), "suppress_tokens": suppressed}
