"""The special ids of encoder-decoders, as the published table has them."""

from collections.abc import Mapping
from typing import Any

from kdtw_jax.base import EOS_ID, PAD_ID
from kdtw_jax.models import ModelConfig

_FORCED = "forced_bos_token_id"


def generation_ids(config: ModelConfig) -> dict[str, Any]:
  """Returns the ids of padding, of the end, and of what the decoder is given before it writes.

  transformers gives it a token to start with and may force another, which is its output by name.
  """
  theirs = dict(config.renamed_ids)
  first, *forced = (*config.decoder_prefix, config.prompt_suffix[-1])
  rows = {"pad_token_id": PAD_ID, "eos_token_id": EOS_ID, "decoder_start_token_id": first}
  if forced:
    rows[_FORCED] = forced[-1]
  return {name: theirs.get(row, row) for name, row in rows.items()}


def check_ids(published: Mapping[str, Any], config: ModelConfig) -> None:
  """Raises ValueError if a file names other special ids than those of our vocabulary.

  What is forced is no part of a file, if it is a language. In mBART's, a language is the start.
  """
  for name, expected in generation_ids(config).items():
    starts_with_language = published.get("model_type") == "mbart" and "start" in name
    is_language = name == _FORCED or starts_with_language
    if not is_language and published.get(name) not in (None, expected):
      raise ValueError(
          f"config.json: {name}={published[name]!r}, but {expected} with model.renamed_ids="
          f"{config.renamed_ids}, model.prompt_suffix={config.prompt_suffix} and "
          f"model.decoder_prefix={config.decoder_prefix}: take all fields from the tokenizer "
          "published with it (`model_fields`)"
      )
