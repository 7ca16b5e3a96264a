"""Which student a baseline is given."""

import dataclasses

from test_tradeoff import curve

from kdtw_jax.evaluation.record import EXACT_METHOD
from kdtw_jax.evaluation.sweeps import best_student

FRUGAL, LAVISH = curve([(0.0, 30.0), (0.05, 32.0)]), curve([(0.04, 31.0), (0.3, 36.0)])


def test_students_are_compared_at_equal_calls():
  assert best_student([LAVISH, FRUGAL], "bleu") == 1
  assert best_student([FRUGAL, LAVISH], "bleu") == 0
  apart = curve([(0.1, 33.0), (0.2, 34.0)])  # whose fewest calls are more than FRUGAL's most
  assert best_student([FRUGAL, apart], "bleu") == 1


def test_exact_methods_are_compared_by_their_passes():
  exact = [dataclasses.replace(each, method=EXACT_METHOD) for each in (LAVISH, FRUGAL)]
  assert best_student(exact, "bleu") == 1
