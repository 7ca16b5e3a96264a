"""Bootstrap: how sure is a score, and is one system better than another on this test set?

sacrebleu's own test (`sacrebleu.significance.PairedTest`, Koehn 2004) reports an interval for each
system but none for their difference. This module resamples the same sufficient statistics with the
same random numbers, so its p-value is sacrebleu's, and adds the interval of the difference. It
scores texts that exist; it decodes nothing.

Shape letters: N sentences, K statistics of one sentence, R resamples.
"""

from collections.abc import Callable, Sequence
import dataclasses

import numpy as np
from sacrebleu.metrics import BLEU, CHRF

from kdtw_jax.evaluation import metrics

SACREBLEU_SEED = 12345  # sacrebleu's default; another seed gives other resamples
_CHUNK = 256  # resamples whose sentence indices are turned into counts at once


@dataclasses.dataclass(frozen=True)
class Comparison:
  """Outcome of one paired test.

  Attributes:
    score: the system's corpus score, 0..100.
    baseline_score: the baseline's corpus score, 0..100.
    delta: score − baseline_score.
    interval: 95% percentile interval of the difference over the resamples.
    p_value: two-sided, sacrebleu's; 1 for systems that no sentence tells apart.
  """

  score: float
  baseline_score: float
  delta: float
  interval: tuple[float, float]
  p_value: float

  def to_json(self) -> dict[str, float | list[float]]:
    """Returns the record as a dict that json can write."""
    return dataclasses.asdict(self) | {"interval": list(self.interval)}


def paired_bootstrap(
    system: Sequence[str],
    baseline: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    metric: str = "bleu",
    num_resamples: int = 1000,
    seed: int = SACREBLEU_SEED,
    tokenize: str | None = None,
) -> Comparison:
  """Compares two systems on the same sentences by paired bootstrap resampling.

  p = (1 + #{r : |δ_r| − mean_r |δ_r| > |δ|}) / (1 + R), δ_r the difference on resample r.
  Koehn 2004, "Statistical significance tests for machine translation evaluation", W04-3250.

  Args:
    system: N outputs of the system.
    baseline: N outputs of the baseline for the same inputs.
    references: for each input, its reference texts.
    metric: "bleu", "chrf", "rouge" or one of ROUGE's keys.
    num_resamples: R.
    seed: of the resampling.
    tokenize: sacrebleu's tokenizer of BLEU; None is its default, 13a.

  Returns:
    Scores, their difference, its 95% interval and p-value.

  Raises:
    ValueError: if the corpora differ in size, or R is below 1.
  """
  metrics.check_corpus(system, references)
  if len(system) != len(baseline):
    raise ValueError(f"{len(system)} outputs of the system but {len(baseline)} of the baseline")
  _check_resamples(num_resamples)
  key = metrics.primary_score(metric)
  system_stats, score_fn = _statistics(system, references, key, tokenize)
  baseline_stats, _ = _statistics(baseline, references, key, tokenize)

  score, baseline_score = score_fn(system_stats.sum(0)), score_fn(baseline_stats.sum(0))
  delta = score - baseline_score
  counts = _resample_counts(len(system), num_resamples, seed)
  system_sums, baseline_sums = counts @ system_stats, counts @ baseline_stats
  deltas = np.array(
      [score_fn(a) - score_fn(b) for a, b in zip(system_sums, baseline_sums, strict=True)]
  )
  low, high = np.percentile(deltas, [2.5, 97.5])
  if np.array_equal(system_stats, baseline_stats):
    p_value = 1.0  # sacrebleu's formula says 1 / (1 + R) here: nothing exceeds a difference of 0
  else:
    absolute = np.abs(deltas)
    exceeding = int(np.sum(absolute - absolute.mean() > abs(delta)))
    p_value = (exceeding + 1) / (num_resamples + 1)
  return Comparison(
      score=score,
      baseline_score=baseline_score,
      delta=delta,
      interval=(float(low), float(high)),
      p_value=p_value,
  )


def score_intervals(
    texts: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    metric: str = "bleu",
    num_resamples: int = 1000,
    seed: int = SACREBLEU_SEED,
) -> dict[str, tuple[float, float]]:
  """95% percentile intervals of one system's scores over resamples of the sentences.

  Args:
    texts: N outputs.
    references: for each input, its reference texts.
    metric: "bleu", "chrf", "rouge" or one of ROUGE's keys; ROUGE gives all of its keys.
    num_resamples: R.
    seed: of the resampling.

  Returns:
    (low, high) by score.

  Raises:
    ValueError: if the corpus cannot be scored, or R is below 1.
  """
  metrics.check_corpus(texts, references)
  _check_resamples(num_resamples)
  key = metrics.primary_score(metric)
  counts = _resample_counts(len(texts), num_resamples, seed)
  intervals = {}
  for name in metrics.ROUGE_KEYS if key in metrics.ROUGE_KEYS else (key,):
    stats, score_fn = _statistics(texts, references, name, None)
    low, high = np.percentile([score_fn(sums) for sums in counts @ stats], [2.5, 97.5])
    intervals[name] = (float(low), float(high))
  return intervals


def _check_resamples(num_resamples: int) -> None:
  if num_resamples < 1:
    raise ValueError(f"num_resamples={num_resamples}: must be >= 1")


def _statistics(
    texts: Sequence[str], references: Sequence[Sequence[str]], key: str, tokenize: str | None
) -> tuple[np.ndarray, Callable[[np.ndarray], float]]:
  """Returns `[N, K]` statistics that add up over sentences, and the score of their sum."""
  if key in metrics.ROUGE_KEYS:
    values = metrics.rouge_per_sentence(texts, references)[key]
    stats = np.stack([values, np.ones_like(values)], axis=1)
    return stats, lambda total: float(total[0] / total[1])
  scorer = BLEU(tokenize=tokenize, force=True) if key == "bleu" else CHRF()
  streams = metrics.reference_streams(references)
  stats = np.asarray(scorer._extract_corpus_statistics(list(texts), streams), np.float64)
  return stats, lambda total: float(scorer._compute_score_from_stats(list(total)).score)


def _resample_counts(num_sentences: int, num_resamples: int, seed: int) -> np.ndarray:
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
