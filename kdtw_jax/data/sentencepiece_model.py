"""Reader of a SentencePiece model file: its pieces, and its settings for reading text.

The file is a protocol buffer, with the fields of sentencepiece_model.proto. It is parsed here
because sentencepiece's own code for it loads only with the newest protobuf library.
"""

import struct
from typing import Any, NamedTuple

UNIGRAM, BPE = 1, 2  # model types
NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4  # types of pieces

_Fields = dict[int, list[Any]]  # field number -> integers, or the bytes of any other type


class Piece(NamedTuple):
  """The piece of one id.

  Attributes:
    text: the piece, with "▁" for a space.
    score: log-probability, or in a BPE model minus the rank of its merge.
    type: NORMAL, UNKNOWN, CONTROL or another type.
  """

  text: str
  score: float
  type: int


class SentencePieceModel(NamedTuple):
  """A SentencePiece model.

  Attributes:
    pieces: pieces in the order of their ids.
    type: UNIGRAM, BPE or another type.
    byte_fallback: True if unknown characters become bytes.
    has_rules: True if normalization rules other than "identity" change the text.
    add_dummy_prefix: True if a space is put before the text.
    remove_extra_whitespaces: True if spaces at the ends and repeated spaces are dropped.
  """

  pieces: tuple[Piece, ...]
  type: int
  byte_fallback: bool
  has_rules: bool
  add_dummy_prefix: bool
  remove_extra_whitespaces: bool


def read_model(content: bytes) -> SentencePieceModel:
  """Parses the content of a `tokenizer.model` file that sentencepiece can load."""
  model = _fields(content)
  trainer, normalizer = (_fields(_last(model, number, b"")) for number in (2, 3))
  return SentencePieceModel(
      pieces=tuple(map(_piece, model.get(1, []))),
      type=_last(trainer, 3, UNIGRAM),
      byte_fallback=bool(_last(trainer, 35, False)),
      has_rules=bool(_last(normalizer, 2, b"")),
      add_dummy_prefix=bool(_last(normalizer, 3, True)),
      remove_extra_whitespaces=bool(_last(normalizer, 4, True)),
  )


def _piece(content: bytes) -> Piece:
  fields = _fields(content)
  (score,) = struct.unpack("<f", _last(fields, 2, bytes(4)))
  return Piece(_last(fields, 1, b"").decode("utf-8"), score, _last(fields, 3, NORMAL))


def _last(fields: _Fields, number: int, default: Any) -> Any:
  """Returns the value of a field, the last one if it occurs several times."""
  return fields[number][-1] if number in fields else default


def _fields(message: bytes) -> _Fields:
  """Parses a message: pairs of a key (field number and type) and a value."""
  fields: _Fields = {}
  position = 0

  def varint() -> int:
    nonlocal position
    value = shift = 0
    while True:
      byte = message[position]
      position += 1
      value |= (byte & 0x7F) << shift
      if byte < 0x80:
        return value
      shift += 7

  while position < len(message):
    number, wire_type = divmod(varint(), 8)
    if wire_type == 0:
      value = varint()
    else:
      length = {1: 8, 5: 4}.get(wire_type) or varint()
      value = message[position : position + length]
      position += length
    fields.setdefault(number, []).append(value)
  return fields
