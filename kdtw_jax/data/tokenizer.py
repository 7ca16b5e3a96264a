"""SentencePiece tokenizer with the student's `<τ>` as a control symbol.

Ids: pad 0, EOS 1, unknown 2, `<τ>` 3, then pieces. Text never encodes to a control symbol: the
characters "<τ>" in a sentence become ordinary pieces. The pipeline adds EOS, not the tokenizer.
"""

from collections.abc import Iterable, Iterator, Sequence
import hashlib
import io
import math
import operator
import os
import random
import re
from typing import Any, SupportsIndex

import sentencepiece

from kdtw_jax.base import EOS_ID, PAD_ID, TAU, UNK_ID
from kdtw_jax.data.normalising import DIGITS, normalise
from kdtw_jax.data.tokenizer_json import save_tokenizer_json
from kdtw_jax.files import write_atomically

MODEL_FILE = "tokenizer.model"  # its name in a folder
TAU_ID = 3
_LONGEST_LINE, _LONGEST_PART = 2**16, 2000  # characters, in training
_MOST_CHOSEN = 32_000  # ids that are added to those needed, where the number is chosen
_SPECIAL_IDS = frozenset((PAD_ID, EOS_ID, TAU_ID))


class Tokenizer:
  """Text to piece ids and back.

  Attributes:
    vocab_size: V, number of ids, special ones included.
    num_tokens: the same, because no id is padding.
    pad_id: 0.
    eos_id: 1.
    unk_id: 2.
    tau_id: 3, the id of `<τ>`.
  """

  pad_id = PAD_ID
  eos_id = EOS_ID
  unk_id = UNK_ID
  tau_id = TAU_ID

  def __init__(self, model_proto: bytes):
    """Makes a tokenizer from a serialized SentencePiece model.

    Args:
      model_proto: the content of a `tokenizer.model` file.

    Raises:
      ValueError: if the model's special ids differ from ours.
    """
    self._processor = sentencepiece.SentencePieceProcessor(model_proto=model_proto)
    self.vocab_size = self.num_tokens = int(self._processor.get_piece_size())
    found = (
        self._processor.pad_id(),
        self._processor.eos_id(),
        self._processor.unk_id(),
        self._processor.piece_to_id(TAU),
    )
    expected = (PAD_ID, EOS_ID, UNK_ID, TAU_ID)
    if found != expected or not self._processor.is_control(TAU_ID):
      raise ValueError(
          f"tokenizer model: ids of (pad, EOS, unknown, {TAU}) are {found}, expected {expected} "
          f"with {TAU} a control symbol: train the model with train_tokenizer"
      )

  @classmethod
  def load(cls, path: str) -> "Tokenizer":
    """Reads a tokenizer file.

    Args:
      path: the file of a model that `train_tokenizer` made.

    Returns:
      The tokenizer.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if the file holds no SentencePiece model, or one with other special ids.
    """
    if not os.path.isfile(path):
      raise FileNotFoundError(
          f"{path}: no such tokenizer file: name a tokenizer.model that a run has left, or the "
          "folder of a published model"
      )
    with open(path, "rb") as file:
      model_proto = file.read()
    try:
      if not model_proto:
        raise RuntimeError("an empty file")
      return cls(model_proto)
    except RuntimeError as error:
      raise ValueError(
          f"{path}: not a SentencePiece model: name a tokenizer.model that a run has left, or the "
          "folder of a published model"
      ) from error

  @property
  def model_fields(self) -> dict[str, Any]:
    """The `ModelConfig` fields that this vocabulary decides."""
    return {"vocab_size": self.vocab_size, "num_tokens": self.num_tokens, "tau_id": self.tau_id}

  def save(self, folder: str | os.PathLike) -> None:
    """Writes the tokenizer into a folder, which is created if missing.

    `load` reads `tokenizer.model`; transformers reads `tokenizer.json` and `tokenizer_config.json`,
    see `save_tokenizer_json`.
    """
    model_proto = self._processor.serialized_model_proto()
    save_tokenizer_json(model_proto, folder)
    write_atomically(os.path.join(folder, MODEL_FILE), model_proto)

  def digest(self) -> str:
    """Returns a hash of the model."""
    return hashlib.blake2b(self._processor.serialized_model_proto(), digest_size=16).hexdigest()

  def encode(self, text: str) -> list[int]:
    """Encodes a text without EOS; never gives pad, EOS or `<τ>`."""
    return self._processor.encode(normalise(text))

  def encode_instruction(self, text: str) -> list[int]:
    """Encodes a text that ends with a space and that another text follows."""
    return self.encode(text)

  def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
    """Encodes many texts, without EOS."""
    return self._processor.encode([normalise(text) for text in texts])

  def decode(self, ids: Iterable[SupportsIndex]) -> str:
    """Decodes ids; skips pad, EOS and `<τ>` at any position.

    Args:
      ids: piece ids below `vocab_size`.

    Returns:
      The text on one line, with " ⁇ " for unknown pieces.
    """
    return self._processor.decode(self._ordinary(ids))

  def pieces(self, ids: Iterable[SupportsIndex]) -> list[str]:
    """Returns one readable piece per id, special ids included, with "▁" for a space."""
    return [self._processor.id_to_piece(operator.index(i)) for i in ids]

  def _ordinary(self, ids: Iterable[SupportsIndex]) -> list[int]:
    return [i for i in map(operator.index, ids) if i not in _SPECIAL_IDS]


def train_tokenizer(
    sentences: Iterable[str],
    *,
    vocab_size: int,
    kind: str = "bpe",
    seed: int = 0,
    max_sentences: int = 1_000_000,
    character_coverage: float = 1.0,
    byte_fallback: bool = False,
) -> Tokenizer:
  """Trains a SentencePiece model in this process.

  Kudo and Richardson 2018, https://arxiv.org/abs/1808.06226. Each digit and "%" is always a
  separate piece, so that a new budget consists of digits seen in training.

  Args:
    sentences: training text of both sides, and budget prompts.
    vocab_size: number of ids, the four special ones included; 0 chooses it for the text, see
      `chosen_vocab_size`, and takes fewer if the text supports no more.
    kind: "bpe" or "unigram". "unigram" suits open-ended text: it never makes a piece of letters
      that occur in only one word of the text, so most words of a small lexicon stay in parts.
    seed: seed of the sample taken from more than `max_sentences` sentences.
    max_sentences: largest number of sentences to train on.
    character_coverage: share of the text's characters that get a piece.
    byte_fallback: True encodes unknown characters as bytes (256 more ids), False as unknown.

  Returns:
    The tokenizer.

  Raises:
    ValueError: if there is no text, the kind is unknown, or the text cannot fill the vocabulary.
  """
  if kind not in ("unigram", "bpe"):
    raise ValueError(f"tokenizer kind={kind!r}: must be 'unigram' or 'bpe'")
  lines = [line for line in map(normalise, sentences) if line]
  if not lines:
    raise ValueError("tokenizer: no training text: give at least one sentence that is not empty")
  if len(lines) > max_sentences:
    lines = random.Random(seed).sample(lines, max_sentences)
  chosen = vocab_size or chosen_vocab_size(lines, byte_fallback=byte_fallback)
  model = io.BytesIO()
  try:
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(part for line in lines for part in _in_parts(line)),
        model_writer=model,
        model_type=kind,
        vocab_size=chosen,
        hard_vocab_limit=vocab_size > 0,
        pad_id=PAD_ID,
        eos_id=EOS_ID,
        unk_id=UNK_ID,
        bos_id=-1,
        control_symbols=[TAU],
        user_defined_symbols=list(DIGITS),
        normalization_rule_name="identity",
        character_coverage=character_coverage,
        byte_fallback=byte_fallback,
        max_sentence_length=1 << 20,  # bytes; longer lines would be skipped silently
        num_threads=4,  # fixed, because the sums of unigram training depend on it
        minloglevel=2,
    )
  except RuntimeError as error:
    raise ValueError(_failure(chosen, len(lines), str(error))) from error
  return Tokenizer(model.getvalue())


def chosen_vocab_size(lines: Sequence[str], *, byte_fallback: bool = False) -> int:
  """Returns the number of ids that suits a text: 2 √c more than it needs, for c characters.

  Vocabularies grow about as the square root of a text. At most 32,000 ids are added to those that
  every text needs: the special ids, the digits, and one for each character that occurs.

  Args:
    lines: the training text.
    byte_fallback: True adds 256 ids for bytes.
  """
  needed = len(_SPECIAL_IDS) + 1 + len(set().union(*lines, DIGITS)) + 256 * byte_fallback
  return needed + min(round(2 * math.sqrt(sum(map(len, lines)))), _MOST_CHOSEN)


def _in_parts(line: str) -> Iterator[str]:
  """Breaks a very long line at spaces: training time grows with the square of a line's length."""
  if len(line) > _LONGEST_LINE:
    while len(line) > _LONGEST_PART:
      end = line.rfind(" ", 1, _LONGEST_PART)
      end = _LONGEST_PART if end < 0 else end
      yield line[:end]
      line = line[end:].lstrip(" ")
  yield line


def _failure(vocab_size: int, num_lines: int, message: str) -> str:
  most = re.search(r"value <= (\d+)", message)
  remedy = (
      f"the text supports at most {most.group(1)}: lower it, set it to 0 to have it chosen, or "
      "give more text"
      if most
      else f"SentencePiece said: {message.strip()}"
  )
  return f"tokenizer vocab_size={vocab_size} on {num_lines} sentences: {remedy}"
