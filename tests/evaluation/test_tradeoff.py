"""Curves: records, interpolation, areas and the table, on numbers worked out by hand."""

import math

import pytest

from kdtw_jax.evaluation import tradeoff
from kdtw_jax.evaluation.area import area_between, hypervolume
from kdtw_jax.evaluation.record import Curve, Point


def curve(pairs, costs=None):
  """A curve through (share, score) pairs; its points cost what they are told, or nothing."""
  points = tuple(
      Point(
          dial=float(i),
          label="",
          scores={"bleu": score},
          asked_share=share,
          teacher_share=share,
          teacher_calls=share,
          teacher_passes=share,
          teacher_tokens=share,
          student_steps=1.0,
          cost=costs[i] if costs else 0.0,
      )
      for i, (share, score) in enumerate(pairs)
  )
  return Curve(
      method="some",
      title="Some",
      family="some",
      bound=False,
      is_handover=False,
      dial_name="dial",
      student="wheels",
      points=points,
  )


def test_score_at_share():
  line = curve([(0.4, 34.0), (0.0, 30.0), (0.2, 33.0), (0.2, 31.0)])
  assert tradeoff.score_at_share(line, "bleu", 0.1) == (31.0, 0.1)
  assert tradeoff.score_at_share(line, "bleu", 0.2).score == 32.0  # the mean of 33 and 31
  assert tradeoff.score_at_share(line, "bleu", 0.7) == (34.0, 0.4)
  assert tradeoff.score_at_share(curve([]), "bleu", 0.1) is None


def test_areas_by_hand():
  def area(pairs, **kwargs):
    return area_between(curve(pairs), "bleu", student=20.0, teacher=30.0, **kwargs)

  assert area([(0.0, 20.0), (1.0, 30.0)]) == pytest.approx(0.5)
  assert area([(0.0, 30.0), (1.0, 30.0)]) == pytest.approx(1.0)
  assert area([(0.0, 20.0), (1.0, 20.0)]) == pytest.approx(0.0)
  # Knee at (.2, 28): triangle .2·.8/2 and trapezium .8·(.8 + 1)/2; the ends are filled in.
  assert area([(0.2, 28.0)], min_span=0.0) == pytest.approx(0.08 + 0.72)
  # The same knee up to 20% only: half of the way to .8.
  assert area([(0.0, 20.0), (0.2, 28.0)], up_to=0.2) == pytest.approx(0.4)
  # Up to 10% the line has come to .4 in between two points.
  assert area([(0.0, 20.0), (0.2, 28.0)], up_to=0.1) == pytest.approx(0.2)
  assert area([(0.0, 15.0), (1.0, 20.0)]) == pytest.approx(-0.25)


def test_bisection_finds_the_dial_of_a_share_or_the_nearest():
  asked = []

  def share_of(dial):
    asked.append(dial)
    return 1 / (1 + math.exp(-dial))

  found = tradeoff.bisect_dial(share_of, 0.2)
  assert share_of(found) == pytest.approx(0.2, abs=0.004) and len(asked) <= 15
  steps = tradeoff.bisect_dial(lambda dial: 0.1 if dial < 1 else 0.4, 0.2)  # no dial gives 20%
  assert steps < 1


def test_hypervolumes_by_hand():
  def volume(pairs, cheapest=0.2):
    line = curve([(0.0, score) for _, score in pairs], [cost for cost, _ in pairs])
    return hypervolume(line, "bleu", student=20.0, teacher=30.0, cheapest=cheapest)

  assert volume([(0.2, 20.0), (1.0, 30.0)]) == pytest.approx(0.0)  # the two alone dominate nothing
  assert volume([(0.6, 25.0)]) == pytest.approx(0.5 * 0.5)
  assert volume([(0.6, 25.0), (0.4, 22.0)]) == pytest.approx((0.6 * 2 + 0.4 * 3) / 8)
  assert volume([(0.6, 25.0), (0.7, 24.0), (1.4, 31.0)]) == pytest.approx(0.25)  # dominated, dear
  assert volume([(0.1, 33.0)]) == pytest.approx(1.0)  # better and cheaper than both
  assert volume([(0.5, 25.0)], cheapest=1.0) is None
  assert volume([]) is None


def test_areas_that_mean_nothing_are_none():
  line = curve([(0.0, 20.0), (1.0, 30.0)])
  assert area_between(line, "bleu", student=30.0, teacher=30.0) is None
  assert area_between(curve([]), "bleu", student=20.0, teacher=30.0) is None
  one_place = curve([(0.38, 30.0), (0.4, 30.0)])
  assert area_between(one_place, "bleu", student=20.0, teacher=30.0) is None
  with pytest.raises(ValueError, match="up_to=0"):
    area_between(line, "bleu", student=20.0, teacher=30.0, up_to=0.0)
