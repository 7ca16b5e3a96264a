"""Timing, on a clock of our own: shapes are warmed up, and only the timed calls count."""

from types import SimpleNamespace

import numpy as np
import pytest

from kdtw_jax.base import Batch
from kdtw_jax.evaluation import latency
from kdtw_jax.evaluation.record import Seconds


@pytest.fixture
def clock(monkeypatch):
  """A clock that only `tick` moves."""
  now = [0.0]

  def tick(seconds):
    now[0] += seconds

  monkeypatch.setattr(latency.time, "perf_counter", lambda: now[0])
  return tick


def sentence(width):
  ids = np.zeros((1, width), np.int32)
  return Batch(ids, ids, ids, np.zeros(1, np.float32), np.zeros(1, np.int32))


def test_sentences_are_timed_after_a_warm_up_of_each_shape(clock):
  calls = []

  def decode(batch):
    width = batch.student_source.shape[1]
    clock(1.0 if width in calls else 100.0)  # the first call of a shape compiles
    calls.append(width)
    return SimpleNamespace(length=np.array([width]))

  found = latency.seconds_per_sentence(decode, [sentence(3), sentence(5), sentence(3)])
  assert sorted(calls) == [3, 3, 3, 5, 5]
  assert found == Seconds(mean=1.0, p50=1.0, p95=1.0, tokens=11 / 3)


def test_throughput_counts_all_rows(clock):
  def decode(batch):
    clock(0.5)
    return SimpleNamespace(length=np.array([4, 6]))

  assert latency.tokens_per_second(decode, sentence(3)) == pytest.approx(20.0)
