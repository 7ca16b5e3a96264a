"""Prices of calls are read off rollouts that are replayed."""

import numpy as np
import pytest

from kdtw_jax.stages.decisions import Decisions
from kdtw_jax.stages.prices import call_prices

T = 12


def rollouts(rng, number):
  """Decisions of rollouts with 1 to 5 calls, in a random order, and G and C predicted for each."""
  rows = []
  for rollout in range(number):
    total, final = rng.integers(1, 6), rng.integers(1, T + 1)
    rows += [(rollout, k, total - k, rng.integers(1, T + 1), final) for k in range(total)]
  rollout, so_far, calls, draft, final = np.array(rows)[rng.permutation(len(rows))].T
  position, n = np.arange(T), len(rows)
  return Decisions(
      *(np.zeros((n, 2), np.float32),) * 2,
      signals=np.stack([np.zeros(n), so_far], axis=1),
      gain=np.zeros(n, np.float32),
      calls=calls,
      example_id=np.zeros(n, int),
      draft=(position < draft[:, None]).astype(int),
      final=(position < final[:, None]).astype(int),
      rollout=rollout,
  )


def replayed(found, gain, calls, price):
  """Calls per token of policy `worth` at a price, in plain Python."""
  spent = tokens = 0
  for rollout in set(found.rollout.tolist()):
    own = [i for i in range(len(gain)) if found.rollout[i] == rollout]
    own.sort(key=lambda i: found.signals[i, -1])
    stop = next((i for i in own if gain[i] - price * calls[i] <= 0), None)
    spent += len(own) if stop is None else int(found.signals[stop, -1])
    tokens += (found.final[own[0]] if stop is None else found.draft[stop]).sum()
  return spent / tokens


def test_each_price_makes_the_calls_that_the_policy_would():
  rng = np.random.default_rng(0)
  found = rollouts(rng, 40)
  gain, calls = rng.uniform(0.1, 9, len(found.calls)), rng.uniform(1, 5, len(found.calls))
  made, prices = call_prices(found, gain, calls)
  assert (np.diff(made) >= 0).all() and (np.diff(prices) < 0).all()
  assert made[0] == 0 and prices[-1] == 0
  everyone = [found.final[found.rollout == r][0].sum() for r in range(40)]
  assert made[-1] == pytest.approx(len(found.calls) / sum(everyone))  # all helped until clean
  expected = np.array([replayed(found, gain, calls, price) for price in prices])
  np.testing.assert_allclose(made, np.maximum.accumulate(expected))
  assert len(set(made)) > 20
