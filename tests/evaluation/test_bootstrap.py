"""The paired bootstrap against sacrebleu's own, and on systems whose order is known."""

import numpy as np
import pytest
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.significance import PairedTest

from kdtw_jax.evaluation import bootstrap, metrics

WORDS = "a quick brown fox jumps over the lazy dog while seven wizards watch from towers".split()


def corpus(num_sentences, noise, seed):
  """Returns references and a system that replaces each word with probability `noise`."""
  rng = np.random.default_rng(0)
  references = [" ".join(rng.choice(WORDS, 12)) for _ in range(num_sentences)]
  rng = np.random.default_rng(seed)
  texts = [
      " ".join("wrong" if rng.random() < noise else word for word in text.split())
      for text in references
  ]
  return texts, [(text,) for text in references]


@pytest.mark.parametrize(("metric", "scorer"), [("bleu", BLEU()), ("chrf", CHRF())])
def test_scores_are_sacrebleus(metric, scorer, monkeypatch):
  monkeypatch.delenv("SACREBLEU_SEED", raising=False)
  system, references = corpus(60, 0.2, 1)
  baseline, _ = corpus(60, 0.21, 3)
  ours = bootstrap.paired_bootstrap(system, baseline, references, metric=metric, num_resamples=200)
  named = [("baseline", baseline), ("system", system)]
  streams = [[texts[0] for texts in references]]
  _, theirs = PairedTest(named, {"metric": scorer}, streams, test_type="bs", n_samples=200)()
  results = next(v for k, v in theirs.items() if k != "System")
  assert ours.baseline_score == pytest.approx(results[0].score, rel=1e-9)
  assert ours.score == pytest.approx(results[1].score, rel=1e-9)
  of_one = bootstrap.score_intervals(system, references, metric=metric, num_resamples=200)
  middle, half = float(results[1].mean), float(
      results[1].ci
  )  # sacrebleu's interval, around its mean
  low, high = of_one[metric]
  assert (low + high) / 2 == pytest.approx(middle, abs=0.3 * half)
  assert (high - low) / 2 == pytest.approx(half, rel=0.1)


def test_interval_is_of_the_difference():
  system, references = corpus(30, 0.2, 1)
  baseline, _ = corpus(30, 0.3, 2)
  result = bootstrap.paired_bootstrap(system, baseline, references, num_resamples=60, seed=7)
  rng = np.random.default_rng(7)
  deltas = []
  for rows in rng.choice(30, size=(60, 30), replace=True):
    streams = [[references[row][0] for row in rows]]
    both = [[texts[row] for row in rows] for texts in (system, baseline)]
    scores = [BLEU().corpus_score(texts, streams).score for texts in both]
    deltas.append(scores[0] - scores[1])
  assert result.interval == pytest.approx(tuple(np.percentile(deltas, [2.5, 97.5])), rel=1e-9)
  assert result.interval[0] < result.delta < result.interval[1]


@pytest.mark.parametrize("metric", ["bleu", "rouge"])
def test_identical_systems_are_not_told_apart(metric):
  system, references = corpus(20, 0.2, 1)
  result = bootstrap.paired_bootstrap(
      system, list(system), references, metric=metric, num_resamples=50
  )
  assert result.delta == 0.0
  assert result.interval == (0.0, 0.0)


@pytest.mark.parametrize("metric", ["bleu", "chrf", "rouge"])
def test_the_interval_of_a_clearly_better_system_is_above_zero(metric):
  system, references = corpus(60, 0.1, 1)
  baseline, _ = corpus(60, 0.4, 2)
  better = bootstrap.paired_bootstrap(
      system, baseline, references, metric=metric, num_resamples=200
  )
  worse = bootstrap.paired_bootstrap(baseline, system, references, metric=metric, num_resamples=200)
  assert better.delta > 5 and better.interval[0] > 0
  assert worse.delta == pytest.approx(-better.delta)
  assert worse.interval == pytest.approx((-better.interval[1], -better.interval[0]))


def test_the_seed_decides():
  system, references = corpus(30, 0.2, 1)
  baseline, _ = corpus(30, 0.3, 2)
  runs = [
      bootstrap.paired_bootstrap(system, baseline, references, num_resamples=100, seed=seed)
      for seed in (1, 1, 2)
  ]
  assert runs[0] == runs[1]
  assert runs[0].interval != runs[2].interval
  assert runs[0].delta == runs[2].delta


def test_resample_counts_are_those_of_the_drawn_indices(monkeypatch):
  monkeypatch.setattr(bootstrap, "_CHUNK", 3)  # 7 resamples: two whole chunks and a rest
  drawn = np.random.default_rng(5).choice(4, size=(7, 4), replace=True)
  expected = [[np.sum(row == n) for n in range(4)] for row in drawn]
  np.testing.assert_array_equal(bootstrap.resample_counts(4, 7, 5), expected)


def test_bad_input_is_refused():
  with pytest.raises(ValueError, match="2 of the baseline"):
    bootstrap.paired_bootstrap(["a"], ["a", "b"], [("a",)])
  with pytest.raises(ValueError, match="num_resamples=0"):
    bootstrap.paired_bootstrap(["a"], ["a"], [("a",)], num_resamples=0)


def test_intervals_of_one_system_are_of_its_resampled_scores():
  texts, references = corpus(30, 0.2, 1)
  found = bootstrap.score_intervals(texts, references, num_resamples=60, seed=7)
  rows = np.random.default_rng(7).choice(30, size=(60, 30), replace=True)
  scores = []
  for drawn in rows:
    streams = [[references[i][0] for i in drawn]]
    scores.append(BLEU().corpus_score([texts[i] for i in drawn], streams).score)
  assert found == {"bleu": pytest.approx(tuple(np.percentile(scores, [2.5, 97.5])), rel=1e-9)}
  by_rouge = bootstrap.score_intervals(texts, references, metric="rouge", num_resamples=60)
  for key, (low, high) in by_rouge.items():
    mean = metrics.rouge_per_sentence(texts, references)[key].mean()
    assert low < mean < high < 100
  assert set(by_rouge) == set(metrics.ROUGE_KEYS)
