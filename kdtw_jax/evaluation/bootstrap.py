"""Bootstrap: how certain a score is, and whether one system beats another on this test set.

Sentences are resampled with the random numbers of sacrebleu's own test (`sacrebleu.significance`).
sacrebleu reports no interval of a difference; here the interval is the result. Only texts are
scored; nothing is decoded.

Shape letters: N sentences, K statistics of one sentence, R resamples.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kdtw_jax.evaluation import metrics
from kdtw_jax.evaluation.statistics import sentence_statistics

SACREBLEU_SEED = 12345  # sacrebleu's default; another seed gives different resamples
_CHUNK = 256  # resamples that are counted at once


class Difference(NamedTuple):
  """The outcome of one paired test.

  Attributes:
    score: the system's corpus score, 0..100.
    baseline_score: the baseline's corpus score, 0..100.
    delta: score − baseline_score.
    interval: 95% percentile interval of the difference over the resamples.
  """

  score: float
  baseline_score: float
  delta: float
  interval: tuple[float, float]


def paired_bootstrap(
    system: Sequence[str],
    baseline: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    metric: str = "bleu",
    num_resamples: int = 1000,
    seed: int = SACREBLEU_SEED,
) -> Difference:
  """Compares two systems on the same sentences by paired bootstrap resampling.

  Both are scored on the same R resamples of the sentences, drawn with replacement. The interval
  holds the middle 95% of the differences. Koehn 2004, "Statistical significance tests for machine
  translation evaluation", W04-3250.

  Args:
    system: N outputs of the system.
    baseline: N outputs of the baseline for the same inputs.
    references: for each input, its reference texts.
    metric: "bleu", "chrf", "exact_match", "rouge" or one of ROUGE's keys.
    num_resamples: R.
    seed: seed of the resampling.

  Returns:
    The scores, their difference and its 95% interval.

  Raises:
    ValueError: if the corpora differ in size, or R is below 1.
  """
  metrics.check_corpus(system, references)
  if len(system) != len(baseline):
    raise ValueError(f"{len(system)} outputs of the system but {len(baseline)} of the baseline")
  _check_resamples(num_resamples)
  key = metrics.primary_score(metric)
  counts = resample_counts(len(system), num_resamples, seed)
  system_stats, score_fn = sentence_statistics(system, references, key)
  baseline_stats, _ = sentence_statistics(baseline, references, key)
  score, baseline_score = score_fn(system_stats.sum(0)), score_fn(baseline_stats.sum(0))
  system_sums, baseline_sums = counts @ system_stats, counts @ baseline_stats
  deltas = [score_fn(a) - score_fn(b) for a, b in zip(system_sums, baseline_sums, strict=True)]
  return Difference(score, baseline_score, score - baseline_score, middle(deltas))


def score_intervals(
    texts: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    metric: str = "bleu",
    num_resamples: int = 1000,
    seed: int = SACREBLEU_SEED,
) -> dict[str, tuple[float, float]]:
  """Returns 95% percentile intervals of a system's scores over resamples of the sentences.

  Args:
    texts: N outputs.
    references: for each input, its reference texts.
    metric: "bleu", "chrf", "exact_match", "rouge" or one of ROUGE's keys; the last two give all of
      ROUGE's keys.
    num_resamples: R.
    seed: seed of the resampling.

  Returns:
    (low, high) by score.

  Raises:
    ValueError: if the corpus cannot be scored, or R is below 1.
  """
  metrics.check_corpus(texts, references)
  _check_resamples(num_resamples)
  key = metrics.primary_score(metric)
  counts = resample_counts(len(texts), num_resamples, seed)
  intervals = {}
  for name in metrics.mean_scores(metric) or (key,):
    stats, score_fn = sentence_statistics(texts, references, name)
    intervals[name] = middle([score_fn(sums) for sums in counts @ stats])
  return intervals


def middle(values: Sequence[float]) -> tuple[float, float]:
  """Returns the bounds of the middle 95% of the values."""
  low, high = np.percentile(values, [2.5, 97.5])
  return float(low), float(high)


def p_value(deltas: Sequence[float]) -> float:
  """Returns the two-sided p-value of no difference, from the differences in R resamples.

  p = min(1, 2 (1 + min(#{δ <= 0}, #{δ >= 0})) / (R + 1)): the level at which the percentile
  interval would just reach 0. It is at least 2 / (R + 1). Efron and Tibshirani 1993, "An
  Introduction to the Bootstrap", section 15.4.

  Args:
    deltas: R differences.
  """
  found = np.asarray(deltas)
  fewer = min(np.sum(found <= 0), np.sum(found >= 0))
  return float(min(1.0, 2 * (1 + fewer) / (found.size + 1)))


def _check_resamples(num_resamples: int) -> None:
  if num_resamples < 1:
    raise ValueError(f"num_resamples={num_resamples}: must be >= 1")


def resample_counts(num_sentences: int, num_resamples: int, seed: int) -> np.ndarray:
  """Returns `[R, N]` counts: how often each resample drew each sentence, with replacement."""
  rng = np.random.default_rng(seed)
  drawn = rng.choice(num_sentences, size=(num_resamples, num_sentences), replace=True)
  counts = np.empty((num_resamples, num_sentences), np.float64)
  for start in range(0, num_resamples, _CHUNK):
    part = drawn[start : start + _CHUNK]
    offsets = part + num_sentences * np.arange(len(part))[:, None]
    flat = np.bincount(offsets.ravel(), minlength=len(part) * num_sentences)
    counts[start : start + len(part)] = flat.reshape(len(part), num_sentences)
  return counts
