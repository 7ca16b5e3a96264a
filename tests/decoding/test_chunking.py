"""The measured width of a catch-up pass."""

import jax
import numpy as np
import pytest
from test_real_models import TEACHER, params, sources

from kdtw_jax.decoding import chunking


def test_passes_of_every_width_are_timed():
  seconds = chunking.pass_seconds(
    TEACHER.decoder_fns, params()[1], sources()[1], max_length=13, widths=(1, 4, 32), runs=2
  )
  assert set(seconds) == {1, 4} and all(0 < t < 10 for t in seconds.values())
  assert chunking.best_chunk(seconds, 0.2) in seconds


@pytest.mark.parametrize("use", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("width", [1, 4, 16])
def test_expected_time_is_that_of_random_asks(use, width):
  lags = np.asarray(jax.random.geometric(jax.random.key(0), use, (200_000,)))
  passes = np.ceil(lags / width)
  expected = chunking.seconds_per_ask({width: 2.0}, use)[width]
  assert expected == pytest.approx(2.0 * passes.mean(), abs=8 * passes.std() / len(lags) ** 0.5)


def test_cheap_width_wins_rare_asks_and_dear_width_loses():
  flat, steep = {1: 1.0, 8: 1.0}, {1: 1.0, 8: 8.0}
  assert chunking.best_chunk(flat, 0.1) == 8 and chunking.best_chunk(steep, 0.1) == 1
  assert chunking.best_chunk({1: 1.0, 8: 1.5}, 0.9) == 1
  with pytest.raises(ValueError, match=r"use=0\.0: must be above 0"):
    chunking.best_chunk(flat, 0.0)
