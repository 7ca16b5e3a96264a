"""The measured widths of a catch-up pass."""

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
  assert set(chunking.best_chunk(seconds, 0.2)) <= set(seconds)


@pytest.mark.parametrize("use", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("widths", [(1,), (4,), (16,), (1, 4, 16), (4, 8)])
def test_expected_time_is_that_of_random_asks(use, widths):
  lags = np.asarray(jax.random.geometric(jax.random.key(0), use, (20_000,)))
  t = {1: 1.0, 4: 1.3, 8: 1.7, 16: 3.0}
  one = [min((t[width] for width in widths if width >= lag), default=None) for lag in lags]
  wide = t[widths[-1]] / widths[-1]
  sampled = np.array([lag * wide if x is None else x for x, lag in zip(one, lags, strict=True)])
  expected = chunking.seconds_per_ask(t, widths, use)
  assert expected == pytest.approx(sampled.mean(), abs=5 * sampled.std() / len(lags) ** 0.5 + 1e-3)


def test_cheap_width_wins_rare_asks_and_dear_width_loses():
  assert chunking.best_chunk({1: 1.0, 8: 1.0}, 0.1) == (8,)
  assert chunking.best_chunk({1: 1.0, 8: 8.0}, 0.1) == (1,)
  assert chunking.best_chunk({1: 1.0, 8: 1.5}, 0.95) == (1,)
  assert chunking.best_chunk({1: 1.0, 4: 1.3, 16: 3.0}, 0.2) != (16,)
  assert len(chunking.best_chunk({1: 1.0, 4: 1.3, 8: 1.7, 16: 3.0}, 0.1, worth=0.0)) > 1
  t = {1: 1.0, 4: 1.3, 16: 1.6}
  assert max(chunking.best_chunk(t, 0.05)) == 16 and chunking.best_chunk(t, 0.05, batch=200) == (1,)
  with pytest.raises(ValueError, match=r"use=0\.0: must be above 0"):
    chunking.best_chunk({1: 1.0}, 0.0)
