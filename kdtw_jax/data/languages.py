"""The languages of a translation model, which stand beside its texts.

M2M-100, NLLB and mBART read the language of a source in front of it, or behind it, and begin an
output with its language. MADLAD-400 reads that of the output in front of a source, as `<2de>`.
TranslateGemma's chat template states both in words. Which they are is a matter of the run, and says
config.tokenizer.
"""

from collections.abc import Mapping
import difflib
import os
import re
from typing import Any

Languages = tuple[str, str]  # of sources and of outputs; "" for a model without any
NONE: Languages = ("", "")
FIELDS = ("config.tokenizer.source_language", "config.tokenizer.target_language")
_TAG = re.compile(r"<2(\w+)>")  # MADLAD-400's pieces
_STATED = ("source_lang_code", "target_lang_code")  # what a template reads
_SHOWN = 5


def chosen(tokenizer: Any, languages: Languages, folder: str | os.PathLike) -> list[int]:
  """Chooses the languages of a tokenizer, which from then on puts the first around texts.

  Args:
    tokenizer: of transformers.
    languages: what the config names.
    folder: where it comes from, for errors.

  Returns:
    The published ids of both languages, where they have tokens of their own around texts.

  Raises:
    ValueError: if a language is missing, unknown, or named though there are none.
  """
  known, tags = known_languages(tokenizer), target_tags(tokenizer)
  stated = states_languages(tokenizer)
  if not (known or tags or stated):
    check_none(languages, folder)
  for field, name, what in zip(FIELDS, languages, ("sources", "outputs"), strict=True):
    choice = known if known or what == "sources" else tags
    if choice and name not in choice:
      near = difflib.get_close_matches(name, choice, _SHOWN, 0.5) or sorted(choice)[:_SHOWN]
      raise ValueError(
          f"{field}={name!r}: the model in {folder} has {len(choice)} languages, such as "
          f"{', '.join(near)}: name the one of the {what}"
      )
    if stated and not name:
      raise ValueError(
          f"{field}='': the chat template of the model in {folder} states the languages of a text: "
          f"name the one of the {what}, such as en or de"
      )
    if tags and what == "sources" and name:
      raise ValueError(f"{field}={name!r}: the model in {folder} is told no such: set it to ''")
  if known:
    tokenizer.src_lang, tokenizer.tgt_lang = languages
  return [known[name] for name in languages if name in known]


def target_tags(tokenizer: Any) -> Mapping[str, int]:
  """Returns the published ids of what MADLAD-400 puts before a source, by the output's language."""
  if not type(tokenizer).__name__.startswith("T5"):  # MADLAD's is T5's
    return {}
  found = ((_TAG.fullmatch(piece), i) for piece, i in tokenizer.get_vocab().items())
  return {tag[1]: i for tag, i in found if tag}


def states_languages(tokenizer: Any) -> bool:
  """Returns True if a chat template reads the languages beside a text, as TranslateGemma's does."""
  return all(name in str(tokenizer.chat_template or "") for name in _STATED)


def user_content(tokenizer: Any, text: str, languages: Languages) -> Any:
  """Returns a user's turn as the chat template wants it: the text, or a part with its languages."""
  if not states_languages(tokenizer):
    return text
  return [{"type": "text", "text": text, **dict(zip(_STATED, languages, strict=True))}]


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
