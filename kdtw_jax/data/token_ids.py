"""How the ids of a published model become ours, and what it expects around a text.

Everything here pads with PAD_ID = 0 and ends outputs with EOS_ID = 1. A table of another family has
other tokens there, so a few rows change places: the token that ends an output moves to row 1, that
of padding to row 0, and those that were there take the places left free. A causal model's padding
is a new row after its last token. What a chat template puts before and after a user's text is
constant, and a part of the model. MADLAD-400 is a T5 with other ids, whose decoder starts with its
unknown token, and which reads the output's language in front of a source. What the tokenizer of
another encoder-decoder puts around a text is constant too, and so is what its decoder is given
before it writes: a language, say (`languages.py`). T5Gemma's encoder reads what a causal Gemma
does, its template included, and its decoder starts with BOS.
"""

from collections.abc import Mapping, Sequence
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from kdtw_jax.base import EOS_ID, PAD_ID, UNK_ID
from kdtw_jax.data.languages import (
    NONE,
    Languages,
    check_saved,
    chosen,
    known_languages,
    target_tags,
    user_content,
)
from kdtw_jax.files import first_line, read_json_object, with_tuples

TOKEN_IDS_FILE = "kdtw_token_ids.json"
_TEXT, _ANSWER = "kdtwtext", "kdtwanswer"  # stand for texts in a template
_NO_TEMPLATE = "\n"  # between a text and its output, for a model that has no chat template
_ASKED_IN_TURNS = ("t5gemma", "t5gemma2")  # encoder-decoders with a chat template, or plain text
_FORCED = "forced_bos_token_id"  # what transformers writes before a model does
_DATE = "26 Jul 2024"  # the default of Llama 3's template, which states the day otherwise


class TokenIds(NamedTuple):
  """The ids of a published vocabulary.

  Attributes:
    num_published: rows of the published table that are text or special tokens.
    renamed: (ours, published) of each row that changes places; () if pad and EOS are 0 and 1.
    stop_ids: our ids of further tokens that end an output.
    prompt_prefix: our ids of what comes before a text.
    prompt_suffix: our ids of what comes after it, in the place of EOS; last the decoder's first
      input.
    decoder_prefix: our ids of what an encoder-decoder's decoder reads before that.
    languages: the names of those of sources and of outputs; "" for a model without any.
  """

  num_published: int
  renamed: tuple[tuple[int, int], ...] = ()
  stop_ids: tuple[int, ...] = ()
  prompt_prefix: tuple[int, ...] = ()
  prompt_suffix: tuple[int, ...] = (EOS_ID, PAD_ID)
  decoder_prefix: tuple[int, ...] = ()
  languages: Languages = NONE

  @property
  def surrounds(self) -> bool:
    """True if special tokens stand around a text or before an output, besides EOS and a start."""
    return bool(self.prompt_prefix or self.decoder_prefix or len(self.prompt_suffix) > 2)

  @property
  def adds_padding(self) -> bool:
    """True if the published table has no row for padding, as of a causal model."""
    return dict(self.renamed).get(PAD_ID, PAD_ID) >= self.num_published


def read(tokenizer: Any, folder: str | os.PathLike, languages: Languages = NONE) -> TokenIds:
  """Reads what a folder says of its ids.

  Args:
    tokenizer: transformers' tokenizer of the folder.
    folder: with `kdtw_token_ids.json` if `write` has been there; or else a published model's, of
      which config.json, generation_config.json and the chat template are read.
    languages: those of sources and of outputs, for a model that has languages.

  Raises:
    ValueError: if no token ends an output, the template cannot be used, a file is damaged, or a
      language is missing or unknown.
  """
  path = Path(folder) / TOKEN_IDS_FILE
  if path.is_file():
    saved = read_json_object(path, remedy="copy the tokenizer's folder again")
    try:
      ids = TokenIds(**{name: with_tuples(value) for name, value in saved.items()})
    except TypeError as error:
      raise ValueError(f"{path}: damaged ({error}): copy the tokenizer's folder again") from error
    check_saved(ids.languages, languages, folder)
    return ids
  of_languages = chosen(tokenizer, languages, folder)
  files = [_json_of(Path(folder) / name) for name in ("config.json", "generation_config.json")]
  special = tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id
  start = files[0].get("decoder_start_token_id")
  in_turns = files[0].get("model_type") in _ASKED_IN_TURNS
  if special == (PAD_ID, EOS_ID, UNK_ID) and start in (None, PAD_ID) and not in_turns:
    return TokenIds(len(tokenizer))
  size = _num_published(tokenizer, files[0])
  if files[0].get("is_encoder_decoder") and not in_turns:
    forced = next((i for file in files[::-1] for i in _as_list(file.get(_FORCED))), None)
    begin = _beginning(tokenizer, start, forced, of_languages[-1:])
    ids = _of_encoder_decoder(tokenizer, begin, size, folder)
    if tags := target_tags(tokenizer):
      ours = {theirs: new for new, theirs in ids.renamed}
      tag = tags[languages[-1]]
      ids = ids._replace(prompt_prefix=(ours.get(tag, tag), *ids.prompt_prefix))
    return ids._replace(languages=languages)
  named = (_as_list(file.get("eos_token_id")) for file in files)
  stops = {i for ids in (_as_list(tokenizer.eos_token_id), *named) for i in ids if i < size}
  prefix, suffix, end = _template(tokenizer, str(folder), languages)
  if end is None:
    end = tokenizer.eos_token_id
  if end is None or end >= size:
    raise ValueError(
        f"{folder}: its tokenizer names no token that ends an output, or one that the model has no "
        f"row for (eos_token={tokenizer.eos_token!r}): copy both from the same model"
    )
  pad = size
  if in_turns:
    pad, start = tokenizer.pad_token_id, tokenizer.bos_token_id if start is None else start
    if pad is None or start is None:
      raise ValueError(
          f"{folder}: its tokenizer names no token of padding or of the beginning (pad_token_id="
          f"{pad}, bos_token_id={start}): copy tokenizer_config.json from the model again"
      )
    suffix = [*(suffix if tokenizer.chat_template else ()), start]
  renamed = () if (pad, end) == (PAD_ID, EOS_ID) else _renamed(pad, end)
  ours = {theirs: new for new, theirs in renamed}
  return TokenIds(
      size,
      renamed,
      tuple(sorted(ours.get(i, i) for i in stops - {end})),
      tuple(ours.get(i, i) for i in prefix),
      tuple(ours.get(i, i) for i in suffix),
      languages=languages,
  )


def write(ids: TokenIds, folder: str | os.PathLike) -> None:
  """Writes them into a folder, for `read`."""
  (Path(folder) / TOKEN_IDS_FILE).write_text(json.dumps(ids._asdict()), encoding="utf-8")


def _of_encoder_decoder(
    tokenizer: Any, begin: Sequence[int | None], size: int, where: str | os.PathLike
) -> TokenIds:
  """Returns the ids of an encoder-decoder, whose table has rows for padding and for its start.

  Args:
    tokenizer: transformers' tokenizer.
    begin: published ids of the decoder's first inputs; None for padding.
    size: rows that are text or special tokens.
    where: the folder, for errors.
  """
  pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
  if pad is None or end is None:
    raise ValueError(
        f"{where}: its tokenizer names no token of padding or of the end (pad_token_id={pad}, "
        f"eos_token_id={end}): copy tokenizer_config.json from the model again"
    )
  text, whole = (tokenizer(_TEXT, add_special_tokens=adds)["input_ids"] for adds in (False, True))
  places = [i for i in range(len(whole)) if whole[i : i + len(text)] == text]
  after = whole[places[0] + len(text) :] if places else []
  if after[:1] != [end]:
    raise ValueError(
        f"{where}: its tokenizer puts {tokenizer.eos_token!r} not right after a text, but "
        f"{whole} around {text}: copy its files from the model again"
    )
  renamed = () if (pad, end) == (PAD_ID, EOS_ID) else _renamed(pad, end)
  ours = {theirs: new for new, theirs in renamed}
  before, after, first = (
      tuple(ours.get(i, i) for i in ids)
      for ids in (whole[: places[0]], after, [pad if i is None else i for i in begin])
  )
  return TokenIds(size, renamed, (), before, (*after, first[-1]), first[:-1])


def _beginning(
    tokenizer: Any, start: int | None, forced: int | None, language: Sequence[int]
) -> tuple[int | None, ...]:
  """Returns the published ids of what a decoder is given: its start, and what is forced after it.

  A language is forced, but for mBART's, whose decoder starts with it.
  """
  if language:
    starts_with_it = start is None or start in known_languages(tokenizer).values()
    return (*language,) if starts_with_it else (start, *language)
  return (start,) if forced is None else (start, forced)


def _renamed(pad: int, end: int) -> tuple[tuple[int, int], ...]:
  """Returns (ours, published): EOS is `end`, PAD is `pad`, and the others take what is free."""
  taken = {PAD_ID: pad, EOS_ID: end}
  moved = sorted({PAD_ID, EOS_ID} - {pad, end})
  free = sorted({pad, end} - {PAD_ID, EOS_ID}, reverse=True)
  return tuple(sorted({**taken, **dict(zip(free, moved, strict=True))}.items()))


def _num_published(tokenizer: Any, config: Mapping[str, Any]) -> int:
  """Returns the size of the vocabulary, without special tokens that the model has no row for."""
  size = max(len(tokenizer), *(i + 1 for i in known_languages(tokenizer).values()), 0)
  rows = config.get("vocab_size")
  if not isinstance(rows, int) or rows >= size:
    return size
  special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
  return rows if {*range(rows, size)} <= special else size


def _template(
    tokenizer: Any, where: str, languages: Languages
) -> tuple[list[int], list[int], int | None]:
  """Returns the ids before and after a text, and the id that ends an answer if it is a special one.

  A model without a template reads a text after its BOS, and a line's end after the text.
  """

  def ids(text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]

  if not tokenizer.chat_template:
    bos = _as_list(tokenizer.bos_token_id)
    return bos, ids(_NO_TEMPLATE), None
  user = ("user", user_content(tokenizer, _TEXT, languages))
  asked = _rendered(tokenizer, where, [user], add_generation_prompt=True)
  answered = _rendered(tokenizer, where, [user, ("assistant", _ANSWER)])
  before, _, after = asked.partition(_TEXT)
  if not after or _TEXT in after or _ANSWER not in answered:
    raise ValueError(
        f"{where}: its chat template does not put a user's text between a beginning and an end: "
        "give the template of a model that is asked in plain text"
    )
  special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
  last = ids(answered.rpartition(_ANSWER)[2])
  return ids(before), ids(after), last[0] if last and last[0] in special else None


def _rendered(
    tokenizer: Any, where: str, said: Sequence[tuple[str, Any]], *, add_generation_prompt=False
) -> str:
  """Renders a conversation with the chat template; without thinking, where a model can."""
  messages = [{"role": role, "content": content} for role, content in said]
  try:
    return tokenizer.apply_chat_template(
        messages,
        tokenize=False,
        add_generation_prompt=add_generation_prompt,
        enable_thinking=False,
        date_string=_DATE,
    )
  except Exception as error:  # a template is a program of its author's
    raise ValueError(
        f"{where}: its chat template cannot be used ({type(error).__name__}: {first_line(error)}): "
        "correct it, or delete it to put texts before a line's end"
    ) from error


def _json_of(path: Path) -> dict[str, Any]:
  """Reads a file that may be missing.

  Fields of a multimodal model's text, and those that only its decoder has, count as its own.
  """
  found = read_json_object(path, remedy="download the model again") if path.is_file() else {}
  decoder = found.get("decoder")
  said = {**decoder, **found} if isinstance(decoder, Mapping) else found
  return {**said, **(found.get("text_config") or {})}


def _as_list(ids: Any) -> list[int]:
  """Returns an id, several or none as a list."""
  if ids is None:
    return []
  return list(ids) if isinstance(ids, list | tuple) else [ids]
