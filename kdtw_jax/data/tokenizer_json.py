"""Conversion of our SentencePiece models to the `tokenizer.json` that transformers reads.

Every text gets the same ids, and no text encodes to `<τ>`. Not here: the tokenizers of published
models, which transformers writes itself.
"""

from collections.abc import Iterator, Sequence
import os

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from kdtw_jax.base import EOS_ID, TAU, UNK_ID
from kdtw_jax.data.normalising import DIGITS, WORD_START, normalizer_steps
from kdtw_jax.data.sentencepiece_model import (
    BPE,
    CONTROL,
    NORMAL,
    UNIGRAM,
    UNKNOWN,
    USER_DEFINED,
    Piece,
    SentencePieceModel,
    read_model,
)
from kdtw_jax.files import write_atomically, write_json

JSON_FILE, CONFIG_FILE = "tokenizer.json", "tokenizer_config.json"  # their names in a folder
# A Unigram model of `tokenizers` finds every piece in a text, even "</s>" and "<τ>". So text and
# ordinary pieces write "<" as this control character, which no normalised text contains.
_LESS_THAN = "\x1a"

_TRANSFORMERS = {
    "tokenizer_class": "PreTrainedTokenizerFast",  # T5's class would build a different one
    "model_input_names": ["input_ids", "attention_mask"],
    "clean_up_tokenization_spaces": False,
    "split_special_tokens": True,  # "</s>" and "<τ>" in a text are ordinary characters
    "extra_special_tokens": {"tau_token": TAU},
}


def save_tokenizer_json(model_proto: bytes, folder: str | os.PathLike) -> None:
  """Writes `tokenizer.json` and `tokenizer_config.json` for `AutoTokenizer` into a folder.

  The ids are those of `Tokenizer.encode`, then EOS, with one exception. If a Unigram model can cut
  a word into the same pieces in two orders, as "l|ll" or "ll|l", both are equally probable. Then
  the rounding of float32 sums decides in SentencePiece, while `tokenizers` makes the last piece the
  longest. (None of Multi30k's 62,028 sentences, 11 of AESLC's 28,872 texts of up to 6,000 tokens.)
  Decoded text is the same, except for bytes that are not UTF-8 and for unknown pieces, which
  transformers skips as special. With `split_special_tokens=False`, transformers encodes the text
  "<τ>" as the special id.

  Args:
    model_proto: the content of a `tokenizer.model` file.
    folder: the folder; created if missing.

  Raises:
    ValueError: if the model has settings that `train_tokenizer` never uses.
  """
  source = read_model(model_proto)
  _check(source)
  special = {name: source.pieces[i].text for i, name in enumerate(("pad", "eos", "unk"))}
  config = {**{f"{name}_token": piece for name, piece in special.items()}, **_TRANSFORMERS}
  write_atomically(os.path.join(folder, JSON_FILE), _converted(source).to_str())
  write_json(os.path.join(folder, CONFIG_FILE), config)


def _check(source: SentencePieceModel) -> None:
  """Raises ValueError if the model reads text in another way."""
  found = {
      "model_type": source.type in (UNIGRAM, BPE),
      "normalization_rule_name": not source.has_rules,
      "add_dummy_prefix": source.add_dummy_prefix,
      "remove_extra_whitespaces": source.remove_extra_whitespaces,
      "split_by_whitespace": all(WORD_START not in piece.text[1:] for piece in source.pieces),
      "user_defined_symbols": set(DIGITS)
      == {piece.text for piece in source.pieces if piece.type == USER_DEFINED},
  }
  wrong = [name for name, is_ours in found.items() if not is_ours]
  if wrong:
    raise ValueError(
        f"tokenizer model: {wrong[0]} is not as train_tokenizer sets it, so that no tokenizer.json "
        "would give its ids: train the model with train_tokenizer"
    )


def _converted(source: SentencePieceModel) -> Tokenizer:
  """Converts a SentencePiece model that passed `_check`."""
  has_bytes = source.byte_fallback
  alone, steps = DIGITS, normalizer_steps()
  if source.type == BPE:
    model = _bpe(source.pieces, has_bytes)
  elif has_bytes and all(piece.text != "<" for piece in source.pieces):
    model = _unigram(source.pieces, has_bytes)
    alone += "<"  # encoded as a byte; cut off, it cannot form a special piece with what follows
  else:
    model = _unigram(source.pieces, has_bytes, less_than=_LESS_THAN)
    steps.append(normalizers.Replace("<", _LESS_THAN))
  tokenizer = Tokenizer(model)
  tokenizer.normalizer = normalizers.Sequence(steps)
  tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
      [
          pre_tokenizers.Split(WORD_START, "merged_with_next"),
          pre_tokenizers.Split(Regex(f"[{alone}]"), "isolated"),
      ]
  )
  tokenizer.decoder = _decoder(has_bytes)
  eos = source.pieces[EOS_ID].text
  tokenizer.post_processor = processors.TemplateProcessing(
      single=f"$A {eos}", pair=f"$A {eos} $B {eos}", special_tokens=[(eos, EOS_ID)]
  )
  tokenizer.add_special_tokens(
      [
          AddedToken(piece.text, special=True, normalized=False)
          for piece in source.pieces
          if piece.type in (CONTROL, UNKNOWN)
      ]
  )
  return tokenizer


def _bpe(pieces: Sequence[Piece], has_bytes: bool) -> models.BPE:
  return models.BPE(
      vocab={piece.text: i for i, piece in enumerate(pieces)},
      merges=list(_merges(pieces)),
      unk_token=pieces[UNK_ID].text,
      fuse_unk=True,
      byte_fallback=has_bytes,
  )


def _unigram(pieces: Sequence[Piece], has_bytes: bool, less_than: str = "<") -> models.Unigram:
  names = [
      piece.text.replace("<", less_than) if piece.type == NORMAL else piece.text for piece in pieces
  ]
  scores = [piece.score for piece in pieces]
  return models.Unigram(
      list(zip(names, scores, strict=True)), unk_id=UNK_ID, byte_fallback=has_bytes
  )


def _merges(pieces: Sequence[Piece]) -> Iterator[tuple[str, str]]:
  """Yields pairs of pieces in the order in which SentencePiece merges them.

  It merges the pair whose result has the highest score, whatever its parts. All pairs with the same
  result are therefore adjacent here, and their order among themselves has no effect.
  """
  normal = {piece.text: piece.score for piece in pieces if piece.type == NORMAL}
  for whole in sorted(normal, key=lambda name: -normal[name]):
    cuts = ((whole[:i], whole[i:]) for i in range(1, len(whole)))
    yield from ((left, right) for left, right in cuts if left in normal and right in normal)


def _decoder(has_bytes: bool) -> decoders.Decoder:
  return decoders.Sequence(
      [
          *([decoders.ByteFallback()] if has_bytes else []),
          decoders.Fuse(),
          decoders.Replace(_LESS_THAN, "<"),
          decoders.Replace(WORD_START, " "),
          decoders.Replace(Regex(r"\A +"), ""),
      ]
  )
