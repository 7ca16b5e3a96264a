"""Sums of sentence statistics have the scores that the libraries give to the whole corpus."""

import random

import numpy as np
import pytest

from kdtw_jax.evaluation import metrics
from kdtw_jax.evaluation.statistics import sentence_statistics

WORDS = "der die Hündin, und eine kleine große Straße am See ist! über zwei (rote) Häuser.".split()


def corpus(seed):
  """Outputs with missing, repeated and shuffled words, against one to three references."""
  rng = random.Random(seed)
  texts, references = [], []
  for _ in range(40):
    words = rng.choices(WORDS, k=rng.randint(1, 14))
    own = [" ".join(rng.sample(words, len(words))) for _ in range(rng.randint(0, 2))]
    references.append((" ".join(words), *own))
    texts.append(" ".join(word for word in words if rng.random() > 0.3))
  texts[:3], references[3] = ["", "x", "der"], ("a",)
  return texts, references


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("key", ["bleu", "chrf", "rouge1", "rougeLsum"])
def test_the_sum_has_the_corpus_score(key, seed):
  texts, references = corpus(seed)
  rows, score_fn = sentence_statistics(texts, references, key)
  whole = metrics.corpus_scores(texts, references, metric="rouge" if "rouge" in key else "bleu")
  assert len(rows) == len(texts) and 5 < whole[key] < 95
  assert score_fn(rows.sum(0)) == pytest.approx(whole[key], rel=1e-12)


@pytest.mark.parametrize("key", ["bleu", "chrf"])
def test_a_resample_has_the_score_of_its_corpus(key):
  texts, references = corpus(5)
  rows, score_fn = sentence_statistics(texts, references, key)
  drawn = np.random.default_rng(0).choice(len(texts), len(texts))
  found = metrics.corpus_scores([texts[i] for i in drawn], [references[i] for i in drawn])
  assert score_fn(rows[drawn].sum(0)) == pytest.approx(found[key], rel=1e-12)


@pytest.mark.parametrize("key", ["bleu", "chrf"])
def test_nothing_in_common_scores_zero(key):
  rows, score_fn = sentence_statistics(["xyz", ""], [("ab",), ("ab",)], key)
  assert score_fn(rows.sum(0)) == 0.0
