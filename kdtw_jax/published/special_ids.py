"""The special ids of models, as the published table has them."""

from collections.abc import Mapping
from typing import Any

from kdtw_jax.base import EOS_ID, PAD_ID
from kdtw_jax.models import ModelConfig

_START, _FORCED = "decoder_start_token_id", "forced_bos_token_id"


def generation_ids(config: ModelConfig) -> dict[str, Any]:
  """Returns the ids of padding, of the end, and of what a decoder is given before it writes.

  transformers gives that of an encoder-decoder a token to start with and may force another, which
  is its output by name. Several ids of the end are a list.
  """
  theirs = dict(config.renamed_ids)
  rows = {"pad_token_id": PAD_ID, "eos_token_id": EOS_ID}
  if config.kind != "causal":
    first, *forced = (*config.decoder_prefix, config.prompt_suffix[-1])
    rows[_START] = first
    if forced:
      rows[_FORCED] = forced[-1]
  found: dict[str, Any] = {name: theirs.get(row, row) for name, row in rows.items()}
  if config.stop_ids:
    found["eos_token_id"] = [theirs.get(row, row) for row in (EOS_ID, *config.stop_ids)]
  return found


def check_ids(published: Mapping[str, Any], config: ModelConfig) -> None:
  """Raises ValueError if a file names other special ids than those of our vocabulary.

  What is forced is no part of a file, if it is a language. In mBART's, a language is the start. A
  T5Gemma that is asked in turns ends one with a token that its file need not name, and starts with
  BOS, unless a file names another.
  """
  expected_ids = generation_ids(config)
  if config.kind == "t5gemma":
    del expected_ids["eos_token_id"]
    start = {_START: published.get("bos_token_id")}
    published = start | {name: value for name, value in published.items() if value is not None}
  for name, expected in expected_ids.items():
    starts_with_language = published.get("model_type") == "mbart" and "start" in name
    is_language = name == _FORCED or starts_with_language
    if not is_language and published.get(name) not in (None, expected):
      raise ValueError(
          f"config.json: {name}={published[name]!r}, but {expected} with model.renamed_ids="
          f"{config.renamed_ids}, model.prompt_suffix={config.prompt_suffix} and "
          f"model.decoder_prefix={config.decoder_prefix}: take all fields from the tokenizer "
          "published with it (`model_fields`)"
      )
