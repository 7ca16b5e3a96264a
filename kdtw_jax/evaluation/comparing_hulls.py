"""Families of methods against the best mixture of all others, at equal calls, share and cost.

Each side is the upper hull of its settings and of the models alone (hull.py). Validation chooses
the settings that carry a hull and the two neighbours that a coin mixes at a price. On test the
coin's weight is set so that both sides cost exactly that, and a paired bootstrap tests their
difference. Each resample sets the weights anew, since prices differ between samples as scores do.

A mixture's quality comes from expected sufficient statistics, Σ_v w_v S_v: what an actual coin
gives on many sentences.

Shape letters: N sentences, K statistics of one sentence, V vertices, R resamples,
M = R + 1 (the test set and its resamples).
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from jaxtyping import Float, Num
import numpy as np

from kdtw_jax.evaluation import bootstrap
from kdtw_jax.evaluation.hull import coin_weights, segment, upper_hull
from kdtw_jax.evaluation.hull_record import Coin, Gap, Hull, HullComparison, PriceKind, Vertex
from kdtw_jax.evaluation.measure import PAIR_STAGE, Measure
from kdtw_jax.evaluation.methods import Sweep
from kdtw_jax.evaluation.outputs import Outputs
from kdtw_jax.evaluation.statistics import ScoreFn, sentence_statistics

_CLOSE = 1e-9  # distance from a price that is rounding


class Candidate(NamedTuple):
  """A setting that may carry a hull.

  Attributes:
    method: its name in code.
    title: its display name.
    label: the setting in words.
    dial: value of the dial.
    student: the stage whose student it uses; "" for the teacher alone.
    family: its family; "" for a model alone, which belongs to every hull.
    scores: its scores on validation.
    validation: its outputs on validation.
    test: its outputs on test.
  """

  method: str
  title: str
  label: str
  dial: float
  student: str
  family: str
  scores: dict[str, float]
  validation: Outputs
  test: Outputs


class Price(NamedTuple):
  """A price per output token.

  Attributes:
    kind: what is paid for.
    step_ratio: c, the cost of a student step in teacher passes, for the kind `cost`.
    measured: True if c was measured on this machine.
  """

  kind: PriceKind
  step_ratio: float | None = None
  measured: bool = False

  def paid(self, outputs: Outputs) -> Float[np.ndarray, " N"]:
    """Returns what each sentence cost; a cost is c · student steps + teacher passes."""
    if self.kind == "share":
      return outputs.written.astype(float)
    if self.step_ratio is None:
      return outputs.counts["teacher_calls"].astype(float)
    return (
        self.step_ratio * outputs.counts["student_row_steps"] + outputs.counts["teacher_row_passes"]
    )

  def of(self, outputs: Outputs) -> float:
    """Returns the price per output token of a whole split."""
    return float(self.paid(outputs).sum() / outputs.num_tokens)


def prices(step_ratios: Iterable[float], measured: float) -> tuple[Price, ...]:
  """Returns the prices of a run: calls, share, and the cost at each step ratio."""
  costs = [Price("cost", float(ratio)) for ratio in step_ratios]
  return Price("calls"), Price("share"), *costs, Price("cost", measured, measured=True)


def candidates(measure: Measure, sweeps: Sequence[Sweep]) -> list[Candidate]:
  """Collects the settings of all methods that are no upper bounds, and the models alone.

  Args:
    measure: measures the run.
    sweeps: the methods.
  """
  sweeps = [sweep for sweep in sweeps if not sweep.bound]
  students = {setting.stage for sweep in sweeps for _, _, setting in sweep.settings} | {PAIR_STAGE}
  found = []
  for who in ("teacher", *sorted(students)):
    teacher = who == "teacher"
    validation, test = (measure.alone(who, split) for split in ("validation", "test"))
    found.append(
        Candidate(
            method="teacher" if teacher else "student",
            title="Teacher alone" if teacher else "Student alone",
            label="",
            dial=0.0,
            student="" if teacher else who,
            family="",
            scores=measure.runner.scores("validation", validation),
            validation=validation,
            test=test,
        )
    )
  for sweep in sweeps:
    points = measure.curve("validation", sweep).points
    for point, (dial, label, setting) in zip(points, sweep.settings, strict=True):
      found.append(
          Candidate(
              method=sweep.method,
              title=sweep.title,
              label=label,
              dial=float(dial),
              student=setting.stage,
              family=sweep.family,
              scores=dict(point.scores),
              validation=measure.outputs("validation", setting),
              test=measure.outputs("test", setting),
          )
      )
  return found


def hull_comparisons(
    found: Sequence[Candidate],
    *,
    families: Iterable[str],
    priced: Iterable[Price],
    scores: Sequence[str],
    at: Sequence[float],
    references: Sequence[Sequence[str]],
    num_resamples: int,
    seed: int,
) -> tuple[HullComparison, ...]:
  """Compares each family with the hull of all methods outside it.

  Args:
    found: the settings of all methods, and the models alone.
    families: the families; one without a setting is skipped.
    priced: the prices at which they are compared.
    scores: names of the scores; each chooses hulls of its own.
    at: calls and shares per output token at which they are compared. Costs are compared at c more:
      a student step for each token, and as many teacher passes.
    references: references of the test sentences.
    num_resamples: R.
    seed: seed of the resampling.

  Returns:
    One comparison for each family, price and score.
  """
  test = _Test(references, num_resamples, seed)
  priced = tuple(priced)
  rows = []
  for family in families:
    ours = [candidate for candidate in found if candidate.family in ("", family)]
    others = [candidate for candidate in found if candidate.family != family]
    if any(candidate.family for candidate in ours):
      for price in priced:
        for score in scores:
          mine, theirs = (_Side(group, price, score, test) for group in (ours, others))
          rows.append(
              HullComparison(
                  family=family,
                  price=price.kind,
                  step_ratio=price.step_ratio,
                  measured=price.measured,
                  score=score,
                  ours=mine.hull,
                  others=theirs.hull,
                  gaps=tuple(
                      _gap(mine, theirs, x + (price.step_ratio or 0.0), score, scores) for x in at
                  ),
              )
          )
  return tuple(rows)


class _Test:
  """Sums over the test sentences and over R resamples of them; row 0 is the test set itself."""

  def __init__(self, references: Sequence[Sequence[str]], num_resamples: int, seed: int):
    self._references = references
    counts = bootstrap.resample_counts(len(references), num_resamples, seed)
    self._counts = np.concatenate([np.ones((1, len(references))), counts])
    self._statistics: dict[tuple, tuple[np.ndarray, ScoreFn]] = {}

  def sums(self, per_sentence: Num[np.ndarray, "N ..."]) -> Float[np.ndarray, "M ..."]:
    """Returns the sums of a value per sentence."""
    return self._counts @ per_sentence

  def statistics(self, candidate: Candidate, score: str) -> tuple[np.ndarray, ScoreFn]:
    """Returns `[M, K]` sums of a score's statistics, and the function from them to the score."""
    key = (*candidate[:5], score)
    if key not in self._statistics:
      rows, score_fn = sentence_statistics(candidate.test.texts, self._references, score)
      self._statistics[key] = self.sums(rows), score_fn
    return self._statistics[key]


class _Side:
  """The hull of one group, chosen on validation at one price by one score; its mixtures on test."""

  def __init__(self, group: Sequence[Candidate], price: Price, score: str, test: _Test):
    known = [price.of(candidate.validation) for candidate in group]
    chosen = upper_hull(known, [candidate.scores[score] for candidate in group])
    self._test, self._candidates = test, [group[i] for i in chosen]
    self._known = np.array([[known[i] for i in chosen]])
    outputs = [candidate.test for candidate in self._candidates]
    self._paid = np.stack([test.sums(price.paid(o)) for o in outputs], axis=1)
    self._tokens = np.stack([test.sums(o.counts["length"]) for o in outputs], axis=1)
    alone = np.eye(len(outputs))
    methods = [candidate.method for candidate in group if candidate.family]
    self.hull = Hull(
        settings={method: methods.count(method) for method in dict.fromkeys(methods)},
        vertices=tuple(
            Vertex(
                method=candidate.method,
                title=candidate.title,
                label=candidate.label,
                dial=candidate.dial,
                student=candidate.student,
                price=price.of(candidate.test),
                score=self.scores(alone[v : v + 1], score)[0],
            )
            for v, candidate in enumerate(self._candidates)
        ),
    )

  def weights(self, at: float) -> Float[np.ndarray, "M V"]:
    """Returns the vertices' weights at a price, in the test set and in each resample."""
    intended = coin_weights(self._known, np.ones_like(self._known), at)
    return coin_weights(self._paid, self._tokens, at, first=segment(intended[0]))

  def scores(self, weights: Float[np.ndarray, "M V"], score: str) -> list[float]:
    """Scores a mixture in the test set and in resamples, as many as there are rows of weights."""
    found = [self._test.statistics(candidate, score) for candidate in self._candidates]
    sums = np.stack([sums[: len(weights)] for sums, _ in found])
    score_fn = found[0][1]
    return [score_fn(row) for row in np.einsum("mv,vmk->mk", weights, sums)]

  def coin(self, weights: Float[np.ndarray, " V"], scores: Iterable[str]) -> Coin:
    """Describes a mixture on test."""
    vertex = segment(weights)
    return Coin(
        vertex=vertex,
        weight=float(weights[vertex + 1]) if weights.size > 1 else 0.0,
        price=float((weights @ self._paid[0]) / (weights @ self._tokens[0])),
        scores={score: self.scores(weights[None], score)[0] for score in scores},
    )


def _gap(ours: _Side, others: _Side, at: float, score: str, scores: Iterable[str]) -> Gap:
  """Compares both sides at a price, by one score, and states the other scores of the same coins."""
  weights = [side.weights(at) for side in (ours, others)]
  delta, *deltas = np.subtract(ours.scores(weights[0], score), others.scores(weights[1], score))
  coins = [side.coin(w[0], scores) for side, w in zip((ours, others), weights, strict=True)]
  return Gap(
      at=at,
      reached=all(abs(coin.price - at) < _CLOSE for coin in coins),
      ours=coins[0],
      others=coins[1],
      delta=float(delta),
      interval=bootstrap.middle(deltas),
      p_value=bootstrap.p_value(deltas),
  )
