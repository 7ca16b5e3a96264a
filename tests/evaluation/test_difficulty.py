"""The difficulty map: tokens grouped by what they spell."""

import numpy as np

from kdtw_jax.data import Tokenizer
from kdtw_jax.data.example import Example, InMemorySource
from kdtw_jax.evaluation.difficulty import difficulty_map
from kdtw_jax.evaluation.outputs import Outputs
from kdtw_jax.evaluation.record import WordGroup


class Pieces(Tokenizer):
  """A tokenizer whose ids are positions in a list of pieces."""

  def __init__(self, *pieces):
    self._pieces = pieces

  def pieces(self, ids):
    return [self._pieces[i] for i in ids]


def outputs(ids, by_teacher):
  return Outputs(texts=[""], ids=[list(ids)], by_teacher=[np.array(by_teacher)], counts={})


class Tagged(InMemorySource):

  def __getitem__(self, index):
    example = super().__getitem__(index)
    return Example(
        *example[:4], tags=(("territory", "Mosambik", "tail"), ("language", "Dänisch", "head"))
    )


def test_tagged_words_are_found_across_pieces():
  tokenizer = Pieces("▁Er", "▁reist", "▁nach", "▁Mo", "sam", "bik", ".", "</s>")
  rows = difficulty_map(
      outputs(range(8), [0, 0, 0, 1, 1, 0, 0, 0]),
      Tagged([("x", "y")]),
      tokenizer,
      InMemorySource([("x", "y")]),
  )
  assert rows == (
      WordGroup("frame", "", tokens=5, asked=0.0),
      WordGroup("territory", "tail", tokens=3, asked=2 / 3),
  )


def test_untagged_words_are_grouped_by_their_rank_in_training():
  training = InMemorySource([("a", "ein Hund"), ("b", "ein Boot")])
  tokenizer = Pieces("▁ein", "▁Zebra", "fell", "▁Hund", ".")
  rows = difficulty_map(
      outputs(range(5), [0, 1, 1, 0, 0]), InMemorySource([("x", "y")]), tokenizer, training
  )
  assert rows == (
      WordGroup("word", "not in training", tokens=2, asked=1.0),
      WordGroup("word", "the 100 most frequent", tokens=3, asked=0.0),
  )
