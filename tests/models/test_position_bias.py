"""The distance table, its skewed matrix and its windows against a plain loop."""

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdtw_jax.base import MASKED_LOGIT
from kdtw_jax.models.position_bias import (
    BIAS_UNIT,
    RelativePositionBias,
    relative_position_bucket,
    skew,
    windows,
)


def position_bias(bidirectional: bool) -> RelativePositionBias:
  return RelativePositionBias(2, 8, 12, 2, bidirectional, 1.0, "float32", nnx.Rngs(0))


def by_loop(module: RelativePositionBias, table: int, length: int) -> np.ndarray:
  """bias[n, i, j] of query i and key j in one table, entry by entry."""
  embedding = BIAS_UNIT * np.asarray(module.embedding[table])
  out = np.zeros((2, length, length), np.float32)
  for i in range(length):
    for j in range(length):
      bucket = relative_position_bucket(
          np.array([j - i]), bidirectional=module.bidirectional, num_buckets=8, max_distance=12
      )[0]
      masked = j > i and not module.bidirectional
      out[:, i, j] = MASKED_LOGIT if masked else embedding[bucket]
  return out


@pytest.mark.parametrize("length", [1, 2, 17])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_skew_is_the_matrix_of_distances(length, bidirectional):
  module = position_bias(bidirectional)
  for number, table in enumerate(module.tables(length)):
    np.testing.assert_array_equal(skew(table)[0], by_loop(module, number, length))


@pytest.mark.parametrize("num_queries", [1, 3])
def test_windows_are_rows_of_that_matrix(num_queries):
  module = position_bias(False)
  matrix = by_loop(module, 1, 17)
  positions = jnp.array([0, 5, 14], jnp.int32)
  got = np.asarray(windows(module.tables(17)[1], positions, num_queries))
  for row, position in enumerate([0, 5, 14]):
    np.testing.assert_array_equal(got[row], matrix[:, position : position + num_queries])


def test_gradient_of_skew_counts_each_distance():
  gradient = jax.grad(lambda table: skew(table).sum())(jnp.zeros((2, 9)))
  np.testing.assert_array_equal(gradient, np.tile([1, 2, 3, 4, 5, 4, 3, 2, 1], (2, 1)))


def test_buckets_grow_with_distance_up_to_the_last():
  bucket = relative_position_bucket(
      -np.arange(200), bidirectional=False, num_buckets=32, max_distance=128
  )
  np.testing.assert_array_equal(bucket[:16], np.arange(16))  # exact near zero
  assert (np.diff(bucket) >= 0).all() and bucket[-1] == 31 and bucket[127] == 31
  assert bucket[100] < 31
