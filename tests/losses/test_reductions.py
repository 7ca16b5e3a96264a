"""Sums and means over tokens."""

import jax
import jax.numpy as jnp
import numpy as np

from kdtw_jax import losses


def test_hand_derived_constants():
  values = jnp.array([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]])
  mask = jnp.array([[True, True, False], [False, False, True]])
  assert float(losses.token_sum(values, mask)) == 33.0
  assert float(losses.token_count(mask)) == 3.0
  assert float(losses.token_mean(values, mask).value()) == 11.0  # not the mean of row means, 15.75
  weights = jnp.array([[1.0, 0.0, 0.0], [0.5, 0.0, 0.0]])
  assert float(losses.token_mean(values, weights).value()) == 4.0  # (1 + 5) / 1.5


def test_an_empty_mask_gives_zero_and_no_gradient():
  values = jnp.array([[1.0, jnp.inf]])
  mask = jnp.zeros((1, 2), bool)
  value, grad = jax.value_and_grad(lambda v: losses.token_mean(v, mask).value())(values)
  assert float(value) == 0.0
  np.testing.assert_array_equal(grad, 0.0)


def test_masked_values_do_not_matter_even_nan():
  values = jnp.array([[1.0, jnp.nan, 3.0]])
  mask = jnp.array([[True, False, True]])
  value, grad = jax.value_and_grad(lambda v: losses.token_mean(v, mask).value())(values)
  assert float(value) == 2.0
  np.testing.assert_array_equal(grad, [[0.5, 0.0, 0.5]])


def test_sums_of_any_split_add_up_to_the_whole():
  rng = np.random.default_rng(0)
  values, mask = rng.exponential(size=(5, 7)), rng.random((5, 7)) < 0.4
  whole = losses.token_mean(values, mask).value()
  np.testing.assert_allclose(whole, values[mask].mean(), rtol=1e-6)
  for cut in range(6):
    parts = [(values[rows], mask[rows]) for rows in (slice(0, cut), slice(cut, None))]
    means = [losses.token_mean(*part) for part in parts]
    joined = jax.tree.map(lambda *sums: sum(sums), *means)
    np.testing.assert_allclose(joined.value(), whole, rtol=1e-6)


def test_a_root_mean_adds_up_before_its_root():
  parts = [losses.RootMean(jnp.float32(total), jnp.float32(1)) for total in (9.0, 16.0)]
  joined = jax.tree.map(lambda *sums: sum(sums), *parts)
  np.testing.assert_allclose(joined.value(), 12.5**0.5, rtol=1e-6)
  assert losses.RootMean(jnp.zeros(()), jnp.zeros(())).value() == 0.0


def test_low_precision_values_are_summed_in_float32():
  values = jnp.ones((1, 4096), jnp.bfloat16)
  total = losses.token_sum(values, jnp.ones((1, 4096), bool))
  assert total.dtype == jnp.float32
  assert float(total) == 4096.0
