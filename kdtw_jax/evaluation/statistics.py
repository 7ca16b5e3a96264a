"""Sufficient statistics of corpus scores: they sum over sentences, and the sum gives the score.

A bootstrap scores a thousand resamples of the sentences; with these statistics each costs one sum.
Only public parts of sacrebleu are used. BLEU's counts come from sacrebleu's score of each sentence;
for chrF, which exposes no counts, they are counted here (Popović 2015, W15-3049). Strings in,
numbers out.

Shape letters: N sentences, K statistics of one sentence.
"""

from collections import Counter
from collections.abc import Callable, Sequence
import functools

import numpy as np
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from kdtw_jax.evaluation import metrics

ScoreFn = Callable[[np.ndarray], float]


def sentence_statistics(
    texts: Sequence[str], references: Sequence[Sequence[str]], key: str
) -> tuple[np.ndarray, ScoreFn]:
  """Counts what a corpus score needs from each sentence.

  Args:
    texts: N outputs.
    references: for each output, its reference texts.
    key: the score, as named by `metrics.corpus_scores`.

  Returns:
    `[N, K]` float64 statistics, and the function from their sum over sentences, `[K]`, to the
    score.
  """
  if key in ("bleu", "chrf"):
    row, score_fn = (_bleu_row, _bleu) if key == "bleu" else (_chrf_row, _chrf)
    rows = [row(text, tuple(own)) for text, own in zip(texts, references, strict=True)]
    return np.asarray(rows, np.float64), score_fn
  values = metrics.score_per_sentence(texts, references, key)[key]
  return np.stack([values, np.ones_like(values)], axis=1), lambda sums: float(sums[0] / sums[1])


@functools.lru_cache(maxsize=1 << 17)  # the methods of an evaluation share most of their outputs
def _bleu_row(text: str, references: tuple[str, ...]) -> tuple[int, ...]:
  """Counts output and reference words, then matches and totals of 1- to 4-grams."""
  found = BLEU(force=True).corpus_score([text], [[reference] for reference in references])
  return (found.sys_len, found.ref_len, *found.counts, *found.totals)


def _bleu(sums: np.ndarray) -> float:
  # The counts of a mixture of systems are no whole numbers. sacrebleu wants whole numbers of words,
  # of which the score has only the ratio, so they may be any multiple.
  words, reference_words = (round(value * 2**20) for value in sums[:2])
  found = BLEU.compute_bleu(
      list(sums[2:6]), list(sums[6:]), words, reference_words, smooth_method="exp"
  )
  return float(found.score)


@functools.lru_cache(maxsize=1 << 17)
def _chrf_row(text: str, references: tuple[str, ...]) -> tuple[int, ...]:
  """Counts character n-grams in the output, the reference and both, for n from 1 to 6.

  With several references, the one with the sentence's best score is used.
  """
  grams = _character_grams(text)
  rows = [_gram_counts(grams, _character_grams(reference)) for reference in references]
  return tuple(max(rows, key=lambda row: _chrf(np.asarray(row))))


def _character_grams(text: str) -> list[Counter[str]]:
  text = "".join(text.split())
  return [
      Counter(text[i : i + n] for i in range(len(text) - n + 1))
      for n in range(1, CHRF.CHAR_ORDER + 1)
  ]


def _gram_counts(grams: list[Counter[str]], reference: list[Counter[str]]) -> list[int]:
  counts = []
  for ours, theirs in zip(grams, reference, strict=True):
    matched = sum(min(count, theirs[gram]) for gram, count in ours.items() if gram in theirs)
    # If the reference is too short for n-grams of a length, the output's are not counted either.
    counts += [ours.total() if theirs else 0, theirs.total(), matched]
  return counts


def _chrf(sums: np.ndarray) -> float:
  """Returns 100 (1 + β²) P R / (β² P + R), β = 2; P and R are means over the orders both have."""
  ours, theirs, matched = np.asarray(sums, np.float64).reshape(-1, 3).T
  usable = (ours > 0) & (theirs > 0)
  if not matched.any():
    return 0.0
  precision = np.mean(matched[usable] / ours[usable])
  recall = np.mean(matched[usable] / theirs[usable])
  weight = CHRF.BETA**2
  return float(100 * (1 + weight) * precision * recall / (weight * precision + recall))
