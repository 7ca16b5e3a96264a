"""The languages of a translation model, whose tokens stand beside its texts.

M2M-100, NLLB and mBART read the language of a source in front of it, or behind it, and begin an
output with its language. Which two is a matter of the run, and says config.tokenizer.
"""

from collections.abc import Mapping
import difflib
import os
from typing import Any

Languages = tuple[str, str]  # of sources and of outputs; "" for a model without any
NONE: Languages = ("", "")
FIELDS = ("config.tokenizer.source_language", "config.tokenizer.target_language")
_SHOWN = 5


def chosen(tokenizer: Any, languages: Languages, folder: str | os.PathLike) -> list[int]:
  """Chooses the languages of a tokenizer, which from then on puts the first around texts.

  Args:
    tokenizer: of transformers.
    languages: what the config names.
    folder: where it comes from, for errors.

  Returns:
    The published ids of both languages; [] for a tokenizer without.

  Raises:
    ValueError: if a language is missing, unknown, or named though there are none.
  """
  known = known_languages(tokenizer)
  if not known:
    check_none(languages, folder)
  for field, name, what in zip(FIELDS, languages, ("sources", "outputs"), strict=True):
    if known and name not in known:
      near = difflib.get_close_matches(name, known, _SHOWN, 0.5) or sorted(known)[:_SHOWN]
      raise ValueError(
          f"{field}={name!r}: the model in {folder} has {len(known)} languages, such as "
          f"{', '.join(near)}: name the one of the {what}"
      )
  if known:
    tokenizer.src_lang, tokenizer.tgt_lang = languages
  return [known[name] for name in languages if name]


def check_none(languages: Languages, folder: str | os.PathLike) -> None:
  """Raises ValueError if languages are named, for a tokenizer that has none."""
  for field, name in zip(FIELDS, languages, strict=True):
    if name:
      raise ValueError(f"{field}={name!r}: the model in {folder} has no languages: set it to ''")


def known_languages(tokenizer: Any) -> Mapping[str, int]:
  """Returns the published ids of a tokenizer's languages, by their names."""
  if not hasattr(tokenizer, "src_lang"):
    return {}
  found = getattr(tokenizer, "lang_code_to_id", None)
  if found is None:  # NLLB's are its further special tokens
    names = [str(token) for token in tokenizer.extra_special_tokens]
    found = dict(zip(names, tokenizer.convert_tokens_to_ids(names), strict=True))
  return {name: i for name, i in found.items() if i != tokenizer.unk_token_id}


def check_saved(saved: Languages, languages: Languages, folder: str | os.PathLike) -> None:
  """Raises ValueError if a config names other languages than a run that saved a tokenizer."""
  for field, name, before in zip(FIELDS, languages, saved, strict=True):
    if name and name != before:
      raise ValueError(
          f"{field}={name!r}: the tokenizer in {folder} was saved with {before!r}: name that, or ''"
      )
