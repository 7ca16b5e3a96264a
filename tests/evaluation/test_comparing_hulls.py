"""Families against the hull of all others, on outputs whose quality and price are known."""

import numpy as np
import pytest

from kdtw_jax.evaluation import metrics
from kdtw_jax.evaluation.bootstrap import p_value
from kdtw_jax.evaluation.comparing_hulls import Candidate, Price, hull_comparisons, prices
from kdtw_jax.evaluation.outputs import Outputs

WORDS = "a quick brown fox jumps over the lazy dog while seven wizards watch from towers".split()
CALLS = Price("calls")


def references(num_sentences):
  rng = np.random.default_rng(0)
  return [(" ".join(rng.choice(WORDS, 12)),) for _ in range(num_sentences)]


def texts(wanted, noise, seed):
  """References of which each word is wrong with probability `noise`."""
  rng = np.random.default_rng(seed)
  return [
      " ".join("wrong" if rng.random() < noise else word for word in own[0].split())
      for own in wanted
  ]


def outputs(written, calls, lengths=None):
  """Outputs of which each token costs `calls` calls, a float or one per sentence."""
  lengths = np.full(len(written), 12) if lengths is None else lengths
  paid = calls * lengths
  wrote = [np.arange(n) < round(c) for n, c in zip(lengths, paid, strict=True)]
  counts = {
      "length": lengths,
      "teacher_calls": paid,
      "teacher_row_passes": 1.5 * paid,
      "student_row_steps": 2.0 * lengths,
  }
  return Outputs(list(written), [[]] * len(written), wrote, counts)


def candidate(method, family, test, score, validation=None, key=None):
  return Candidate(
      method=method,
      title=method.title(),
      label="",
      dial=0.0,
      student="wheels",
      family=family,
      scores={key: score} if key else {"bleu": score, "chrf": score},
      validation=validation or test,
      test=test,
  )


def ends(wanted):
  """The models alone: a student without a call, and a teacher of one call per token."""
  return [
      candidate("student", "", outputs(texts(wanted, 0.5, 1), 0.0), 10.0),
      candidate("teacher", "", outputs(texts(wanted, 0.1, 2), 1.0), 80.0),
  ]


def compared(found, wanted, *, at=(0.1,), priced=(CALLS,), scores=("bleu",), num_resamples=200):
  return hull_comparisons(
      found,
      families=("ours",),
      priced=priced,
      scores=scores,
      at=at,
      references=wanted,
      num_resamples=num_resamples,
      seed=3,
  )


@pytest.mark.parametrize("score", ["bleu", "chrf"])
def test_a_mixture_has_the_score_of_an_actual_coin(score):
  wanted = 20 * references(100)
  student, teacher = ends(wanted)
  found = [student, teacher, candidate("own", "ours", student.test, 10.0)]
  (row,) = compared(found, wanted, at=(0.3,), scores=(score,), num_resamples=1)
  coin = row.gaps[0].others
  assert (coin.vertex, coin.weight) == (0, pytest.approx(0.3)) and row.gaps[0].reached
  heads = np.random.default_rng(5).random(len(wanted)) < coin.weight
  drawn = np.where(heads, teacher.test.texts, student.test.texts).tolist()
  low, high = (vertex.score for vertex in row.others.vertices)
  assert low + 5 < coin.scores[score] < high - 5
  actual = metrics.corpus_scores(drawn, wanted)[score]
  assert coin.scores[score] == pytest.approx(actual, abs=0.7)


def test_validation_chooses_the_settings_and_test_sets_the_weights():
  wanted = references(40)
  flattered = outputs(texts(wanted, 0.5, 3), 0.3)  # good on validation alone
  cheap = outputs(texts(wanted, 0.3, 4), 0.2)
  dearer = outputs(cheap.texts, 0.25)  # what `cheap` costs on test
  found = [
      *ends(wanted),
      candidate("flattered", "theirs", flattered, 75.0),
      candidate("cheap", "ours", dearer, 60.0, validation=cheap),
      candidate("dominated", "ours", outputs(texts(wanted, 0.1, 5), 0.5), 20.0),
  ]
  (row,) = compared(found, wanted, at=(0.1,), scores=("bleu", "chrf"))[:1]
  assert [v.method for v in row.ours.vertices] == ["student", "cheap", "teacher"]
  assert [v.method for v in row.others.vertices] == ["student", "flattered", "teacher"]
  assert row.ours.settings == {"cheap": 1, "dominated": 1}
  assert row.others.settings == {"flattered": 1}
  (gap,) = row.gaps
  assert gap.ours.weight == pytest.approx(0.1 / 0.25) and gap.others.weight == pytest.approx(1 / 3)
  assert gap.ours.price == pytest.approx(0.1) and gap.others.price == pytest.approx(0.1)
  assert gap.delta == pytest.approx(gap.ours.scores["bleu"] - gap.others.scores["bleu"])
  assert gap.delta > 0 and gap.interval[0] < gap.delta < gap.interval[1]
  assert set(gap.ours.scores) == {"bleu", "chrf"}
  scored = metrics.corpus_scores(cheap.texts, wanted)
  assert row.ours.vertices[1].score == pytest.approx(scored["bleu"])


def test_both_sides_have_the_models_alone_and_no_side_the_other():
  wanted = references(20)
  found = [*ends(wanted), candidate("own", "ours", outputs(texts(wanted, 0.2, 3), 0.2), 70.0)]
  (row,) = compared(found, wanted)
  assert [v.method for v in row.others.vertices] == ["student", "teacher"]
  assert row.others.settings == {} and row.gaps[0].delta > 0
  assert compared(ends(wanted), wanted) == ()  # the family was not measured


def test_a_price_beyond_a_hull_is_said_to_be():
  wanted = references(20)
  best = candidate("best", "theirs", outputs(texts(wanted, 0.0, 3), 0.15), 100.0)
  found = [*ends(wanted), best, candidate("own", "ours", ends(wanted)[0].test, 10.0)]
  (row,) = compared(found, wanted, at=(0.1, 0.2))
  within, beyond = row.gaps
  assert within.reached and within.others.price == pytest.approx(0.1)
  assert not beyond.reached and beyond.ours.price == pytest.approx(0.2)
  assert (beyond.others.vertex, beyond.others.weight) == (0, 1.0)
  assert beyond.others.price == pytest.approx(0.15)


def test_prices():
  found = outputs(["a", "b"], np.array([0.5, 0.25]), np.array([4, 12]))
  calls, share, *costs = prices((0.02, 0.1), 0.3)
  assert calls.of(found) == pytest.approx(5 / 16) and share.of(found) == pytest.approx(5 / 16)
  assert [cost.of(found) for cost in costs] == pytest.approx(
      [c * 2 + 1.5 * 5 / 16 for c in (0.02, 0.1, 0.3)]
  )
  assert [cost.measured for cost in costs] == [False, False, True]
  wanted = references(10)
  everything = [*ends(wanted), candidate("own", "ours", outputs(texts(wanted, 0.2, 3), 0.2), 70.0)]
  rows = compared(everything, wanted, priced=[costs[2]], at=(0.05, 0.1))
  assert [gap.at for gap in rows[0].gaps] == pytest.approx([0.35, 0.4])


def test_a_mixture_of_two_others_does_not_beat_the_hull():
  """Sentences come in equal pairs, so a coin that takes one of each pair is exact."""
  half = references(60)
  wanted = [own for own in half for _ in range(2)]
  cheap, dear = (
      [text for text in texts(half, noise, seed) for _ in range(2)]
      for noise, seed in ((0.3, 3), (0.15, 4))
  )
  of_second = np.arange(len(wanted)) % 2 == 1
  mixed = np.where(of_second, dear, cheap).tolist()
  found = [
      *ends(wanted),
      candidate("cheap", "theirs", outputs(cheap, 0.05), 40.0),
      candidate("dear", "theirs", outputs(dear, 0.25), 60.0),
      candidate("mixed", "ours", outputs(mixed, np.where(of_second, 0.25, 0.05)), 50.0),
  ]
  (row,) = compared(found, wanted, at=(0.1, 0.15, 0.2))
  below, level, above = row.gaps
  assert level.delta == pytest.approx(0.0, abs=1e-9)
  assert level.interval[0] < 0 < level.interval[1] and level.p_value > 0.3
  assert below.delta < 0 and above.delta < 0  # there ours adds the student or the teacher alone


@pytest.mark.parametrize("ours, theirs", [(0.5, 0.5), (0.6, 0.4)])
def test_the_interval_covers_the_difference_and_equal_methods_have_uniform_p_values(ours, theirs):
  """Right sentences cost less, so a resample of good ones also has cheap ones."""
  num_trials, num_sentences, at, alone = 200, 80, 0.05, 50.0
  wanted, rng = [("a b c d",)] * num_sentences, np.random.default_rng(0)

  def expected(chance):  # of the mixture of a method with the student alone
    weight = at / (0.2 - 0.1 * chance)
    return weight * (75 + 25 * chance) + (1 - weight) * alone

  def sampled(name, chance):
    right = rng.random(num_sentences) < chance
    written = np.where(right, "a b c d", "a b x d").tolist()
    return candidate(name, name, outputs(written, np.where(right, 0.1, 0.2)), 80.0, key="rouge1")

  student = outputs(["x b x d"] * num_sentences, 0.0)
  gaps = []
  for _ in range(num_trials):
    found = [candidate("student", "", student, alone, key="rouge1")]
    found += [sampled("ours", ours), sampled("theirs", theirs)]
    (row,) = compared(found, wanted, scores=("rouge1",), at=(at,))
    gaps += row.gaps
  assert all(gap.reached for gap in gaps)
  truth = expected(ours) - expected(theirs)
  assert np.mean([gap.delta for gap in gaps]) == pytest.approx(truth, abs=0.2)
  covered = np.mean([gap.interval[0] <= truth <= gap.interval[1] for gap in gaps])
  assert 0.9 < covered < 0.99
  found = np.array([gap.p_value for gap in gaps])
  if ours == theirs:
    assert 0.4 < np.mean(found) < 0.6 and np.mean(found < 0.1) < 0.18
    assert np.mean(found < 0.5) == pytest.approx(0.5, abs=0.12)
  else:
    assert np.mean(found < 0.05) > 0.5


def test_the_p_value_by_hand():
  assert p_value([1.0] * 99) == pytest.approx(0.02)
  assert p_value([-1.0] * 99) == pytest.approx(0.02)
  assert p_value([1.0] * 90 + [-1.0] * 9) == pytest.approx(0.2)
  assert p_value([0.0] * 10) == 1.0
