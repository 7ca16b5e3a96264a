"""Tokenizers of published models, with room for the student's `<τ>`.

T5, mT5, UMT5, ByT5 and Pegasus have our ids of pad and EOS. Those of MADLAD-400, of BART, mBART,
M2M-100 and NLLB, and of causal models (Qwen, Llama, Gemma) and T5Gemma become ours
(`token_ids.py`).

A published vocabulary has no `<τ>`. It gets the first id after the tokenizer's own ids. In the
published tables that row is padding (T5: row 32100 of 32128) or is appended. Every model's table is
brought to `vocab_size` rows, whatever the file holds, so a teacher's table of 32128 rows and a
student's of 32100 rows go together.
"""

from collections.abc import Iterable, Sequence
import functools
import hashlib
import operator
import os
from pathlib import Path
from typing import Any, SupportsIndex

from kdtw_jax.base import EOS_ID, PAD_ID, TAU, UNK_ID
from kdtw_jax.data import token_ids
from kdtw_jax.data.languages import NONE, Languages, check_none, known_languages
from kdtw_jax.data.token_ids import TokenIds
from kdtw_jax.data.tokenizer import MODEL_FILE, Tokenizer
from kdtw_jax.files import first_line

ROWS_MULTIPLE = 128  # as in T5: the table divides among devices and fills a TPU's lanes
# Text on which two vocabularies are compared: words, digits, accents, other scripts, white space.
PROBE = "Use the teacher for at most 20% of the tokens: Zwei Männer kochen; « 3.14 » 你好 привет!"
# All but ByT5 have one of them.
VOCABULARY_FILES = ("tokenizer.json", "spiece.model", "sentencepiece.bpe.model")
_TOKENIZER_FILES = (*VOCABULARY_FILES, "tokenizer_config.json")
_WORD_START = "▁"


class PublishedTokenizer:
  """A tokenizer of transformers with the interface of `Tokenizer`.

  Attributes:
    ids: the published ids that are ours, and those around a text.
    num_tokens: number of ids of text and special tokens; higher ids are `<τ>` and padding.
    vocab_size: V, rows of a model's table: `num_tokens` + 1 for `<τ>`, rounded up to a multiple of
      128.
    pad_id: 0.
    eos_id: 1.
    unk_id: 2; of a causal model's tokenizer, its own or -1 for none.
    tau_id: `num_tokens`, the id of `<τ>`, which no text encodes to.
  """

  pad_id = PAD_ID
  eos_id = EOS_ID

  def __init__(self, tokenizer: Any, ids: TokenIds | None = None):
    """Makes a tokenizer.

    Args:
      tokenizer: a tokenizer of transformers.
      ids: what its ids become; None if they are those of T5.
    """
    self._tokenizer = tokenizer
    self.ids = TokenIds(len(tokenizer)) if ids is None else ids
    self._published = dict(self.ids.renamed)
    self._ours: dict[int, int] = {theirs: ours for ours, theirs in self.ids.renamed}
    self._special = {self._published.get(i, i) for i in (PAD_ID, EOS_ID)}
    self._is_bytes = False
    unknown = tokenizer.unk_token_id
    if self.ids.adds_padding or self.ids.surrounds:
      added = tokenizer.added_tokens_decoder.items()
      self._special = {*known_languages(tokenizer).values()}
      self._special |= {i for i, token in added if token.special}
      if not self.ids.adds_padding:
        self._special -= {unknown}  # a text may be unknown
      if tokenizer.is_fast:
        self._is_bytes = "ByteLevel" in str(tokenizer.backend_tokenizer.decoder)
    self.unk_id = -1 if unknown is None else self._ours.get(unknown, unknown)
    self.num_tokens = self.tau_id = self.ids.num_published + self.ids.adds_padding
    self.vocab_size = -(-(self.num_tokens + 1) // ROWS_MULTIPLE) * ROWS_MULTIPLE

  @classmethod
  def load(cls, folder: str | os.PathLike, languages: Languages = NONE) -> "PublishedTokenizer":
    """Reads the tokenizer of a published model's folder.

    Args:
      folder: the folder.
      languages: those of sources and of outputs, for a model that has languages.

    Raises:
      FileNotFoundError: if there are no tokenizer files.
      ValueError: if its ids, its chat template or these languages cannot be used.
    """
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # torch may be missing
    import transformers  # here: it takes seconds, and runs with their own vocabulary skip it

    try:
      found = transformers.AutoTokenizer.from_pretrained(
          str(folder), local_files_only=True, trust_remote_code=False
      )
    except (OSError, ValueError, KeyError) as error:
      raise _no_tokenizer(folder, first_line(error)) from error
    # Without a vocabulary file, transformers makes a T5 tokenizer of special tokens only.
    if type(found).__name__ != "ByT5Tokenizer" and not any(
        (Path(folder) / name).is_file() for name in VOCABULARY_FILES
    ):
      raise _no_tokenizer(folder, "its vocabulary is missing")
    if TAU in found.get_vocab():
      raise ValueError(
          f"{folder}: is the tokenizer of a run without its {MODEL_FILE}: copy it there from "
          "WORKDIR/stages/tokenizer"
      )
    return cls(found, token_ids.read(found, folder, languages))

  @property
  def model_fields(self) -> dict[str, Any]:
    """The `ModelConfig` fields that this vocabulary decides."""
    return {
        "vocab_size": self.vocab_size,
        "num_tokens": self.num_tokens,
        "tau_id": self.tau_id,
        "renamed_ids": self.ids.renamed,
        "stop_ids": self.ids.stop_ids,
        "prompt_prefix": self.ids.prompt_prefix,
        "prompt_suffix": self.ids.prompt_suffix,
        "decoder_prefix": self.ids.decoder_prefix,
    }

  def save(self, folder: str | os.PathLike) -> None:
    """Writes the tokenizer's files into a folder."""
    self._tokenizer.save_pretrained(str(folder))
    is_t5 = self.ids == TokenIds(self.ids.num_published) and self.unk_id == UNK_ID
    if not is_t5:
      token_ids.write(self.ids, folder)

  def digest(self) -> str:
    """Returns a hash of the vocabulary, and of the rules of a fast tokenizer."""
    rules = self._tokenizer.backend_tokenizer.to_str() if self._tokenizer.is_fast else ""
    known = (type(self._tokenizer).__name__, self.pieces(range(self.num_tokens)), rules)
    if self.ids != TokenIds(self.ids.num_published):
      known = (*known, self.ids)
    return hashlib.blake2b(repr(known).encode(), digest_size=16).hexdigest()

  def encode(self, text: str) -> list[int]:
    """Encodes a text without EOS; never gives pad, EOS or `<τ>`, even if the text names them.

    Of a tokenizer that puts special tokens around a text, it gives none at all: a text of a causal
    model cannot end its turn, and no other can say its language.
    """
    return self.encode_batch([text])[0]

  def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
    """Encodes many texts, without EOS."""
    if not texts:
      return []
    rows: list[list[int]] = self._tokenizer(list(texts), add_special_tokens=False, verbose=False)[
        "input_ids"
    ]
    return [
        [self._ours.get(i, i) for i in row if i not in self._special and i < self.ids.num_published]
        for row in rows
    ]

  def encode_instruction(self, text: str) -> list[int]:
    """Encodes a text that ends with a space and that another text follows.

    A space belongs to the word after it, but is a separate id in ByT5. The ids are therefore found
    by appending a word and removing its ids again.
    """
    probe = "a"
    ids, end = self.encode(text + probe), self.encode(probe)
    return ids[: -len(end)] if ids[-len(end) :] == end else self.encode(text)

  def decode(self, ids: Iterable[SupportsIndex]) -> str:
    """Decodes ids; skips special and padding ids at any position."""
    known = [self._published.get(i, i) for i in map(operator.index, ids) if i < self.num_tokens]
    text = self._tokenizer.decode(
        # A new row of PAD_ID is not published, and M2M-100's languages are not skipped as special.
        [i for i in known if i < self.ids.num_published and i not in self._special],
        skip_special_tokens=True,
        clean_up_tokenization_spaces=False,
    )
    return text.strip()

  def pieces(self, ids: Iterable[SupportsIndex]) -> list[str]:
    """Returns one readable piece per id, special ids included, with "▁" for a space."""
    return [self._piece(operator.index(i)) for i in ids]

  def _piece(self, number: int) -> str:
    if number == self.tau_id:
      return TAU
    if number > self.tau_id:
      return f"<row {number}>"
    published = self._published.get(number, number)
    if published >= self.ids.num_published:
      return "<pad>"
    piece = self._tokenizer.convert_ids_to_tokens(published)
    if self._is_bytes and published not in self._special:
      piece = _text_of_bytes(piece)
    return piece.replace(" ", _WORD_START)


@functools.cache
def _byte_of_character() -> dict[str, int]:
  """Returns the bytes that byte-level BPE writes as printable characters."""
  plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
  others = [i for i in range(256) if i not in set(plain)]
  return {chr(b): b for b in plain} | {chr(256 + n): b for n, b in enumerate(others)}


def _text_of_bytes(piece: str) -> str:
  """Returns the text of a piece of byte-level BPE; half a character is shown as "\ufffd"."""
  table = _byte_of_character()
  if not all(character in table for character in piece):
    return piece
  return bytes(table[character] for character in piece).decode("utf-8", errors="replace")


def _no_tokenizer(folder: str | os.PathLike, reason: str) -> FileNotFoundError:
  return FileNotFoundError(
      f"{folder}: no tokenizer can be read there ({reason}): copy the model's "
      f"{' or '.join(VOCABULARY_FILES)}, and tokenizer_config.json, into it"
  )


AnyTokenizer = Tokenizer | PublishedTokenizer


def load_tokenizer(path: str | os.PathLike, languages: Languages = NONE) -> AnyTokenizer:
  """Reads a tokenizer.

  Args:
    path: a SentencePiece model made by `train_tokenizer`, a folder that holds one as
      tokenizer.model, or the folder of a published model.
    languages: those of sources and of outputs, for a published model that has languages; a folder
      that a run saved knows its own.

  Returns:
    The tokenizer.

  Raises:
    FileNotFoundError: if there is none.
    ValueError: if it cannot be read, has other special ids, or not these languages.
  """
  path = Path(path)
  if not path.is_dir():
    check_none(languages, path)
    return Tokenizer.load(str(path))
  for name in (MODEL_FILE, *_TOKENIZER_FILES):
    if (path / name).exists() and not (path / name).is_file():  # reading a pipe may block for ever
      raise ValueError(f"{path / name}: is not a regular file: put the tokenizer's file there")
  if (path / MODEL_FILE).is_file():
    check_none(languages, path)
    return Tokenizer.load(str(path / MODEL_FILE))
  if not any((path / name).is_file() for name in _TOKENIZER_FILES):
    raise FileNotFoundError(
        f"{path}: holds no tokenizer: name WORKDIR/stages/tokenizer of a run, where "
        f"{MODEL_FILE} lies, or the folder of a published model with "
        f"{' or '.join(VOCABULARY_FILES)}"
    )
  return PublishedTokenizer.load(path, languages)


def check_same_vocabulary(a: AnyTokenizer, b: AnyTokenizer, *, names: tuple[str, str]) -> None:
  """Checks that the next-token distributions of two models are over the same tokens.

  Args:
    a: the tokenizer of one model.
    b: the tokenizer of the other.
    names: where each comes from, for errors.

  Raises:
    ValueError: if they differ in size, special ids, pieces or the ids of PROBE; says in which.
  """
  for what, of in (
      ("tokens", lambda t: t.num_tokens),
      ("special ids", lambda t: (t.pad_id, t.eos_id, t.unk_id, t.tau_id)),
      ("ids of another table", lambda t: t.model_fields.get("renamed_ids", ())),
      ("pieces", lambda t: t.pieces(range(t.num_tokens))),
      (f"ids of {PROBE!r}", lambda t: t.encode(PROBE)),
  ):
    found = of(a), of(b)
    if found[0] != found[1]:
      if what == "pieces":
        what, *found = next(
            (f"pieces of id {i}", *pair)
            for i, pair in enumerate(zip(*found, strict=True))
            if pair[0] != pair[1]
        )
      raise ValueError(
          f"{names[0]} and {names[1]} have different vocabularies: {what} are {found[0]} and "
          f"{found[1]}. A teacher's distribution is over its own tokens: choose two models with "
          "one tokenizer, e.g. both T5, both mT5 or both Qwen3"
      )
