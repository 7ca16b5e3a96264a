"""Quality of texts and use of the teacher, as plain numbers.

Corpus scores come from sacrebleu and rouge-score, so that they are comparable with scores
elsewhere; each has a signature that lets a reader repeat it. The teacher's use is counted per
output token. Nothing here decodes, reads files or touches a device: strings and integer arrays in,
floats out.

Shape letters: N sentences, K statistics of one sentence.
"""

from collections.abc import Mapping, Sequence
import functools
import importlib.metadata
import re
from typing import Any, cast

import numpy as np
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

ROUGE_KEYS = ("rouge1", "rouge2", "rougeL", "rougeLsum")

EXACT = "exact_match"

# The score of `corpus_scores` that stands for quality, by the metric that a config names.
PRIMARY_SCORE = {"bleu": "bleu", "chrf": "chrf", "rouge": "rougeLsum", EXACT: EXACT} | {
    k: k for k in ROUGE_KEYS
}

# Slack of "share <= budget", far below one token of any output. Budgets pass through float32, where
# 0.7 is 0.69999999, so that 7 of 10 tokens would count as a violation.
SHARE_SLACK = 1e-6

_NUMBER = re.compile(r"-?\d(?:[\d,]*\d)?(?:\.\d+)?")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def primary_score(metric: str) -> str:
  """Returns the key of the score that stands for quality under `metric`.

  Raises:
    ValueError: if the metric is unknown.
  """
  if metric not in PRIMARY_SCORE:
    raise ValueError(f"metric={metric!r}: choose one of {', '.join(PRIMARY_SCORE)}")
  return PRIMARY_SCORE[metric]


def compared_scores(metric: str) -> tuple[str, ...]:
  """Returns the scores by which methods are compared under `metric`, its own first.

  Raises:
    ValueError: if the metric is unknown.
  """
  primary = primary_score(metric)
  keys = mean_scores(metric) or ("bleu", "chrf")
  return primary, *(key for key in keys if key != primary)


def mean_scores(metric: str) -> tuple[str, ...]:
  """Returns the scores that are means over sentences; () if those of `metric` are not.

  Raises:
    ValueError: if the metric is unknown.
  """
  primary = primary_score(metric)
  return ROUGE_KEYS if primary in ROUGE_KEYS else (EXACT,) if primary == EXACT else ()


def check_corpus(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> None:
  """Rejects corpora that cannot be scored.

  Args:
    hypotheses: N output texts.
    references: for each output, its one or more reference texts.

  Raises:
    ValueError: if a corpus is empty, the counts differ, or an output has no reference.
  """
  if not hypotheses:
    raise ValueError("hypotheses: 0 texts; score at least one")
  if len(hypotheses) != len(references):
    raise ValueError(
        f"{len(hypotheses)} hypotheses but {len(references)} lists of references; give one list "
        "for each hypothesis"
    )
  for row, texts in enumerate(references):
    if isinstance(texts, str):
      raise ValueError(f"references[{row}] is a text; give a sequence of texts, e.g. ({texts!r},)")
    if not texts:
      raise ValueError(f"references[{row}]: no reference; give each hypothesis at least one")


def reference_streams(references: Sequence[Sequence[str]]) -> list[list[str | None]]:
  """Turns references per sentence into sacrebleu's streams, filling gaps with None.

  `[("a", "b"), ("c",)]` becomes `[["a", "c"], ["b", None]]`.

  Args:
    references: for each of N outputs, its reference texts.

  Returns:
    Lists of N entries, as many as the largest number of references of a sentence.
  """
  width = max(len(texts) for texts in references)
  return [[texts[k] if k < len(texts) else None for texts in references] for k in range(width)]


def corpus_scores(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], *, metric: str = "bleu"
) -> dict[str, float]:
  """Scores a corpus of outputs.

  Args:
    hypotheses: N detokenised output texts.
    references: for each output, its one or more reference texts, the main one first.
    metric: "bleu" or "chrf" returns `bleu`, `chrf` and `length_ratio`; "rouge" (or one of its keys)
      returns `rouge1`, `rouge2`, `rougeL`, `rougeLsum` and `length_ratio`; "exact_match" returns
      `exact_match`, the share of right answers (see `answer`), and `length_ratio`.

  Returns:
    Scores of 0..100. `length_ratio` is output words per reference word: BLEU's own count for
    "bleu", and words between spaces, against the first reference, for the others.

  Raises:
    ValueError: if the corpus cannot be scored or the metric is unknown.
  """
  check_corpus(hypotheses, references)
  if mean_scores(metric):
    return _mean_scores(hypotheses, references, metric)
  streams = cast(list[list[str]], reference_streams(references))  # sacrebleu accepts None for gaps
  bleu = BLEU(force=True).corpus_score(list(hypotheses), streams)
  chrf = CHRF().corpus_score(list(hypotheses), streams)
  ratio = bleu.sys_len / bleu.ref_len if bleu.ref_len else 0.0
  return {"bleu": float(bleu.score), "chrf": float(chrf.score), "length_ratio": float(ratio)}


def each_score(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], *, metric: str = "bleu"
) -> np.ndarray:
  """Scores each output by itself: the mean of its scores under `metric`.

  Args:
    hypotheses: N output texts.
    references: for each output, its reference texts.
    metric: "bleu" or "chrf" takes BLEU (of the orders that an output is long enough for) and chrF,
      "rouge" (or one of its keys) all of ROUGE_KEYS, "exact_match" that alone.

  Returns:
    An `[N]` float64 array of 0..100.

  Raises:
    ValueError: if the corpus cannot be scored or the metric is unknown.
  """
  check_corpus(hypotheses, references)
  if mean_scores(metric):
    return np.mean(list(score_per_sentence(hypotheses, references, metric).values()), axis=0)
  scorers = BLEU(effective_order=True), CHRF()
  return np.array(
      [
          np.mean([scorer.sentence_score(hypothesis, list(texts)).score for scorer in scorers])
          for hypothesis, texts in zip(hypotheses, references, strict=True)
      ]
  )


def signature(references: Sequence[Sequence[str]], *, metric: str = "bleu") -> str:
  """Returns what a reader needs to repeat the scores: versions, tokenisation and references.

  Args:
    references: the references of the scores; their number is part of the signature.
    metric: as for `corpus_scores`.
  """
  counts = {len(texts) for texts in references}
  num_refs = str(counts.pop()) if len(counts) == 1 else "var"
  if primary_score(metric) in ROUGE_KEYS:
    version = importlib.metadata.version("rouge-score")
    return (
        f"ROUGE|nrefs:{num_refs}|case:lower|stemmer:porter|multi:best|"
        f"lsum:newlines-else-after-.!?|mean:fmeasure|version:{version}"
    )
  if primary_score(metric) == EXACT:
    return f"exact match|nrefs:{num_refs}|answer:after-####-else-last-number-else-text|case:lower"
  parts = []
  for name, scorer in (("BLEU", BLEU(force=True)), ("chrF2", CHRF())):
    scorer.num_refs = -1 if num_refs == "var" else int(num_refs)
    parts.append(f"{name}|{scorer.get_signature().format()}")
  return "; ".join(parts)


# Means over sentences ---------------------------------------------


def score_per_sentence(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], metric: str
) -> dict[str, np.ndarray]:
  """Scores each output under a metric whose corpus score is a mean.

  Args:
    hypotheses: N outputs.
    references: for each output, its reference texts.
    metric: one that `mean_scores` knows.

  Returns:
    For each of `mean_scores(metric)`, an `[N]` float64 array of 0..100.
  """
  if primary_score(metric) == EXACT:
    found = zip(hypotheses, references, strict=True)
    is_right = [answer(text) in {answer(own) for own in texts} for text, texts in found]
    return {EXACT: 100.0 * np.asarray(is_right, np.float64)}
  return rouge_per_sentence(hypotheses, references)


def answer(text: str) -> str:
  """Returns the answer that a text ends with, in a form that can be compared.

  It is what follows the last "####" (GSM8K, https://arxiv.org/abs/2110.14168), or else the last
  number, or else the whole text. Numbers have no thousands separators, units or trailing zeros.

  Example: "so $1,200.50 in all." -> "1200.5"
  """
  _, mark, said = text.rpartition("####")
  numbers = _NUMBER.findall(said)
  if not numbers:
    return " ".join(said.lower().split()).rstrip(".")
  number = numbers[0 if mark else -1].replace(",", "")
  return number.rstrip("0").rstrip(".") if "." in number else number


# ROUGE ------------------------------------------------------------


def newline_sentences(text: str) -> str:
  """Splits a text into one sentence per line, the unit of ROUGE-Lsum.

  A text with line breaks keeps them (as the CNN/DailyMail highlights do). Any other text is broken
  after `.`, `!` or `?` followed by white space.

  Args:
    text: one output or reference.
  """
  text = text.strip()
  return text if "\n" in text else _SENTENCE_END.sub("\n", text)


def rouge_per_sentence(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]]
) -> dict[str, np.ndarray]:
  """Scores each output by ROUGE F-measure with the Porter stemmer, against its best reference.

  rouge-score lower-cases and keeps only a-z and 0-9, so the scores are meant for English.

  Args:
    hypotheses: N outputs.
    references: for each output, its reference texts.

  Returns:
    For each of ROUGE_KEYS, an `[N]` float64 array of 0..100.
  """
  rows = [
      _rouge_row(hypothesis, tuple(texts))
      for hypothesis, texts in zip(hypotheses, references, strict=True)
  ]
  table = np.asarray(rows, np.float64)
  return {key: table[:, column] for column, key in enumerate(ROUGE_KEYS)}


@functools.lru_cache(maxsize=1 << 18)  # the methods of an evaluation share most of their outputs
def _rouge_row(hypothesis: str, references: tuple[str, ...]) -> tuple[float, ...]:
  targets = [newline_sentences(text) for text in references]
  scores = _rouge_scorer().score_multi(targets, newline_sentences(hypothesis))
  return tuple(100.0 * scores[key].fmeasure for key in ROUGE_KEYS)


@functools.cache
def _rouge_scorer() -> Any:
  # Imported on first use: rouge-score loads nltk, which takes a second that BLEU users save.
  from rouge_score import rouge_scorer

  return rouge_scorer.RougeScorer(list(ROUGE_KEYS), use_stemmer=True)


def _mean_scores(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], metric: str
) -> dict[str, float]:
  each = score_per_sentence(hypotheses, references, metric)
  scores = {name: float(values.mean()) for name, values in each.items()}
  reference_words = sum(len(texts[0].split()) for texts in references)
  words = sum(len(text.split()) for text in hypotheses)
  return scores | {"length_ratio": words / reference_words if reference_words else 0.0}


# Use of the teacher -----------------------------------------------


def violation_rate(written: np.ndarray, lengths: np.ndarray, budget: float) -> float:
  """Returns the share of rows in which the teacher wrote more than the budget allows.

  Args:
    written: `[N]` integers, tokens that the teacher wrote.
    lengths: `[N]` integers, output tokens; rows of length 0 violate no budget.
    budget: allowed share of teacher tokens, 0..1.

  Raises:
    ValueError: if the budget is outside 0..1 or the counts are impossible.
  """
  if not 0.0 <= budget <= 1.0:
    raise ValueError(f"budget={budget}: must be a share of 0..1")
  written, lengths = _counts(written=written, lengths=lengths)
  if lengths.size == 0:
    return 0.0
  return float(np.mean(written > (budget + SHARE_SLACK) * lengths))


def calibration_error(budgets: Sequence[float], realised: Sequence[float]) -> float:
  """Returns mean_B |use_B − B|, the mean distance of the realised shares from the stated budgets.

  Args:
    budgets: stated shares, 0..1.
    realised: measured shares, one for each budget.

  Raises:
    ValueError: if there are no budgets or the counts differ.
  """
  if len(budgets) != len(realised) or not len(budgets):
    raise ValueError(
        f"{len(budgets)} budgets and {len(realised)} realised shares; give one share per budget"
    )
  return float(np.mean(np.abs(np.asarray(realised, float) - np.asarray(budgets, float))))


def _counts(**arrays: np.ndarray) -> list[np.ndarray]:
  named: Mapping[str, np.ndarray] = {k: np.asarray(v) for k, v in arrays.items()}
  lengths = named["lengths"]
  for name, values in named.items():
    if values.ndim != 1 or values.shape != lengths.shape:
      raise ValueError(f"{name} has shape {values.shape}, lengths {lengths.shape}; give [N]")
    if values.size and (values.min() < 0 or np.any(values > lengths)):
      raise ValueError(f"{name}: each count must lie between 0 and the row's length")
  return [values.astype(np.int64) for values in named.values()]
