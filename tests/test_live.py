"""Outputs in pieces: their texts join to the output of `Pair.write`, and each says who wrote it."""

import types

import numpy as np
import pytest

from kdtw_jax import decoding, live
from kdtw_jax.live import Piece, Pieces
from kdtw_jax.pair import load_pair
from tests import tiny_pair


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
  return load_pair(tiny_pair.save(tmp_path_factory.mktemp("pair")))


ORDERS = [
    {"budget": 0.2},
    {"budget": 0.2, "form": "hard"},
    {"budget": "at most 3 calls"},
    {"policy": decoding.make_policy("random", 0.5)},
    {"policy": decoding.make_policy("speculative", 3)},
    {"policy": decoding.make_policy("route_length", 100.0)},
    {"policy": decoding.make_policy("teacher")},
    {"budget": 0},
]


@pytest.mark.parametrize("order", ORDERS)
def test_pieces_join_to_what_write_returns(pair, order):
  text = tiny_pair.TEXTS[7]
  stream = pair.stream(text, **order)
  assert stream.written is None
  pieces = list(stream)
  assert stream.written is not None and list(stream) == []
  if not (order.get("policy") and order["policy"].draws):  # a draw depends on the batch
    assert stream.written == pair.write(text, **order)
  assert "".join(piece.text for piece in pieces) == stream.written.text
  assert len(pieces) > 1 and all(piece.text for piece in pieces)
  assert {piece.by_teacher for piece in pieces} <= set(stream.written.by_teacher)


def test_a_piece_comes_before_the_output_is_whole(pair, monkeypatch):
  advances, advance = [], decoding.Slots.advance

  def counted(self, num_done, steps):
    advances.append(steps)
    return advance(self, num_done, steps)

  monkeypatch.setattr(decoding.Slots, "advance", counted)
  stream = pair.stream(tiny_pair.TEXTS[7], 0.2)
  next(stream)
  early = len(advances)
  list(stream)
  assert early < len(advances) / 2 and len(stream.written.tokens) == 24


def test_seconds_are_from_the_wish_for_the_first_piece_to_the_last(pair, monkeypatch):
  now, advance = [7.0], decoding.Slots.advance

  def ticking(self, num_done, steps):
    now[0] += 1.0
    return advance(self, num_done, steps)

  monkeypatch.setattr(decoding.Slots, "advance", ticking)
  monkeypatch.setattr(live, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
  stream = pair.stream(tiny_pair.TEXTS[7], 0.2)
  now[0] = 10.0
  next(stream)
  now[0] += 100.0  # of the caller
  list(stream)
  assert stream.written is not None and stream.written.seconds == now[0] - 10.0 > 100.0


@pytest.mark.parametrize(
    "text,order,error",
    [
        ("", {"budget": 0.2}, r"texts\[0\]='': has nothing to read; leave it out"),
        ("1 " * 99, {"budget": 0.2}, r"texts\[0\]=.*this pair reads at most 23"),
        ("a", {"budget": 0.9}, "budget=0.9"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(pair, text, order, error):
  with pytest.raises(ValueError, match=error):
    pair.stream(text, **order)


def spelled(ids):
  """Ids that are the bytes of a text."""
  return bytes(ids).decode("utf-8", errors="replace")


@pytest.mark.parametrize("step", [1, 2, 3, 100])
def test_characters_of_several_tokens_come_whole(step):
  ids = np.frombuffer("aßc\U0001f600d".encode(), np.uint8).astype(np.int32)
  by_teacher = np.array([0, 0, 1, 1, 0, 1, 0, 1, 1], bool)
  pieces, found = Pieces(spelled), []
  for end in (*range(step, len(ids), step), len(ids)):
    found += pieces.grown(ids, by_teacher, length=end, done=end == len(ids))
  runs = [Piece("a", False), Piece("ß", True), Piece("c", True)]
  runs += [Piece("\U0001f600", True), Piece("d", True)]
  joined = []
  for text, by in found:  # how far a piece goes depends on when one looks
    joined += [Piece(letter, by) for letter in text]
  assert joined == runs


def test_an_output_that_is_cut_within_a_character_says_so():
  ids = np.array([97, 0xF0, 0x9F], np.int32)
  found = Pieces(spelled).grown(ids, np.zeros(3, bool), length=3, done=True)
  assert found == [Piece("a\N{REPLACEMENT CHARACTER}", False)]
