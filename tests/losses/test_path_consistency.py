"""Path consistency against its definition: segments, masks, gradients, extremes."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.test_util import check_grads
import numpy as np
import pytest

from kdtw_jax import losses

from . import oracle

# Compiled once per shape and segment length; test_contract.py compares compiled and eager.
residuals = partial(jax.jit, static_argnames=("segment_length", "stop_bootstrap"))(
    losses.path_consistency_error
)


def random_case(seed, batch=6, length=9):
  rng = np.random.default_rng(seed)
  lengths = np.array([length, 1, 0, 5, length, 4])[:batch]
  mask = np.arange(length)[None] < lengths[:, None]
  done = np.array([True, True, True, False, False, True])[:batch]
  values, rewards, entropies = rng.normal(size=(3, batch, length)).astype(np.float32)
  return values, rewards, entropies, mask, done


@pytest.mark.parametrize("gamma", [1.0, 0.8, 0.0])
@pytest.mark.parametrize("d", [1, 2, 3, 5, 6, 7, 8, 9, 100, None])
def test_matches_definition(gamma, d):
  values, rewards, entropies, mask, done = random_case(0)
  got, valid = residuals(values, rewards, entropies, mask, done, gamma=gamma, segment_length=d)
  want, want_valid = oracle.residuals(values, rewards - entropies, mask, done, gamma, d)
  np.testing.assert_array_equal(valid, want_valid)
  np.testing.assert_allclose(got, want, atol=2e-6)


def test_hand_derived_constant():
  # n = 3, d = 2, γ = ½, x = r − e = (−1, −2, −4), V = (1, 2, 3):
  # C_0 = −1 + ¼·3 − 1 + ½·(−2) = −2.25;  C_1 = −2 − 2 + ½·(−4) = −6;  C_2 = −3 − 4 = −7.
  errors, valid = losses.path_consistency_error(
      jnp.array([[1.0, 2.0, 3.0, 9.0]]),
      jnp.array([[-2.0, -3.0, -5.0, 9.0]]),
      jnp.array([[-1.0, -1.0, -1.0, 9.0]]),
      jnp.array([[True, True, True, False]]),
      jnp.array([True]),
      gamma=0.5,
      segment_length=2,
  )
  np.testing.assert_array_equal(errors, [[-2.25, -6.0, -7.0, 0.0]])
  np.testing.assert_array_equal(valid, [[True, True, True, False]])
  np.testing.assert_array_equal(
      losses.path_consistency_loss(errors, valid), [[2.53125, 18.0, 24.5, 0.0]]
  )
  np.testing.assert_array_equal(
      losses.path_consistency_loss(errors, valid, huber=2.0), [[2.5, 10.0, 12.0, 0.0]]
  )


def test_a_cut_off_row_counts_its_last_state_for_what_follows():
  # x = (−1, −2, −4, ·), V = (1, 2, 3, 5), cut after 4 tokens, γ = ½, d = 2 and to the end:
  # C_2 = −3 − 4 + ½·5 = −4.5;  C_1 = −2 − 2 − 2 + ¼·5 = −4.75;  C_0 = −1 − 1 − 1 + ¼·3 = −2.25,
  # to the end −1 − 1 − 1 − 1 + ⅛·5 = −3.375. The last token begins no segment.
  values = jnp.array([[1.0, 2.0, 3.0, 5.0, 9.0]])
  rewards = jnp.array([[-1.0, -2.0, -4.0, 7.0, 9.0]])
  mask = jnp.array([[True, True, True, True, False]])
  for d, first in ((2, -2.25), (None, -3.375), (9, -3.375)):
    errors, valid = residuals(
        values, rewards, 0 * rewards, mask, jnp.array([False]), gamma=0.5, segment_length=d
    )
    np.testing.assert_array_equal(errors, [[first, -4.75, -4.5, 0.0, 0.0]])
    np.testing.assert_array_equal(valid, [[True, True, True, False, False]])


@pytest.mark.parametrize("stop", [False, True])
def test_the_value_at_a_cut_carries_gradient_unless_bootstraps_stop(stop):
  ones, mask = jnp.ones((1, 3)), jnp.ones((1, 3), bool)

  def first(values):
    return losses.path_consistency_error(
        values,
        ones,
        ones,
        mask,
        jnp.array([False]),
        gamma=0.5,
        segment_length=None,
        stop_bootstrap=stop,
    )[0][0, 0]

  np.testing.assert_array_equal(jax.grad(first)(ones), [[-1.0, 0.0, 0.0 if stop else 0.25]])


def test_padding_changes_nothing():
  values, rewards, entropies, mask, done = random_case(1)

  @jax.jit
  @partial(jax.value_and_grad, argnums=(0, 1))
  def loss(values, entropies, rewards, mask, done):
    errors, valid = losses.path_consistency_error(
        values, rewards, entropies, mask, done, gamma=0.9, segment_length=3, asked=rewards > 0
    )
    return losses.token_sum(losses.path_consistency_loss(errors, valid), valid)

  want, want_grads = loss(values, entropies, rewards, mask, done)
  junk = [np.where(mask, array, np.nan) for array in (values, entropies, rewards)]
  got, got_grads = loss(*junk, mask, done)
  np.testing.assert_array_equal(got, want)
  for a, b in zip(got_grads, want_grads, strict=True):
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(a[~mask], 0.0)

  # The same rows in a wider bucket, and row 3 by itself, cut to its own length.
  wider = [np.pad(a, ((0, 0), (0, 4)), constant_values=7) for a in (values, entropies, rewards)]
  got, got_grads = loss(*wider, np.pad(mask, ((0, 0), (0, 4))), done)
  np.testing.assert_allclose(got, want, rtol=1e-6)
  np.testing.assert_allclose(got_grads[0][:, :9], want_grads[0], atol=1e-6)
  row = np.s_[3:4, :5]
  _, got_grads = loss(values[row], entropies[row], rewards[row], mask[row], done[3:4])
  for a, b in zip(got_grads, want_grads, strict=True):
    np.testing.assert_allclose(a, b[row], atol=1e-6)


def test_splitting_a_batch_changes_nothing():
  values, *rest = random_case(2)

  @jax.jit
  @jax.value_and_grad
  def loss(values, rewards, entropies, mask, done):
    errors, valid = losses.path_consistency_error(
        values, rewards, entropies, mask, done, gamma=0.9, segment_length=2
    )
    return losses.token_sum(losses.path_consistency_loss(errors, valid), valid)

  want, want_grad = loss(values, *rest)
  parts = [loss(*(array[rows] for array in (values, *rest))) for rows in np.split(np.arange(6), 3)]
  np.testing.assert_allclose(sum(value for value, _ in parts), want, rtol=1e-6)
  np.testing.assert_allclose(np.concatenate([grad for _, grad in parts]), want_grad, atol=1e-7)


def jacobians(d, asked, **settings):
  ones = jnp.ones((1, 4))

  def errors(values, entropies):
    return losses.path_consistency_error(
        values,
        ones,
        entropies,
        ones > 0,
        jnp.array([True]),
        gamma=0.5,
        segment_length=d,
        asked=asked,
        **settings,
    )[0][0]

  parts = jax.jacrev(errors, argnums=(0, 1))(ones, ones)
  return [np.asarray(part[:, 0]) for part in parts]


def test_gradient_stops_at_the_first_ask_of_a_segment():
  by_value, by_entropy = jacobians(3, jnp.array([[False, True, False, False]]))
  np.testing.assert_array_equal(by_value, -np.eye(4))  # V_3 in C_0 lies behind the ask
  np.testing.assert_array_equal(
      -by_entropy, [[1, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0.5], [0, 0, 0, 1]]
  )


def test_gradient_without_asks_reaches_the_whole_segment():
  by_value, by_entropy = jacobians(3, None)
  np.testing.assert_array_equal(by_value, -np.eye(4) + 0.125 * np.eye(4, k=3))
  np.testing.assert_array_equal(
      -by_entropy, [[1, 0.5, 0.25, 0], [0, 1, 0.5, 0.25], [0, 0, 1, 0.5], [0, 0, 0, 1]]
  )


def test_stop_bootstrap_leaves_only_the_start_value():
  by_value, by_entropy = jacobians(1, None, stop_bootstrap=True)
  np.testing.assert_array_equal(by_value, -np.eye(4))
  np.testing.assert_array_equal(by_entropy, -np.eye(4))


def test_asks_do_not_change_the_residual():
  values, rewards, entropies, mask, done = random_case(3)
  plain, _ = residuals(values, rewards, entropies, mask, done, gamma=0.9, segment_length=5)
  asked, _ = residuals(
      values, rewards, entropies, mask, done, gamma=0.9, segment_length=5, asked=rewards > 0
  )
  np.testing.assert_array_equal(plain, asked)


def test_long_sequences_keep_their_digits_and_stay_linear_in_memory():
  length = 700
  rng = np.random.default_rng(0)
  values, rewards = rng.normal(size=(2, 1, length)).astype(np.float32) * 10
  mask, done = np.ones((1, length), bool), np.array([True])
  for gamma, d in [(1.0, None), (0.95, None), (0.5, 300)]:
    got, _ = residuals(values, rewards, 0 * rewards, mask, done, gamma=gamma, segment_length=d)
    want, _ = oracle.residuals(
        values.astype(np.float64), rewards.astype(np.float64), mask, done, gamma, d
    )
    # Sums of 700 terms of size 10 reach some hundreds: 5e-4 is a few units of float32 there.
    np.testing.assert_allclose(got, want, rtol=2e-6, atol=5e-4)

  def total(values):
    errors, _ = losses.path_consistency_error(
        values, rewards, 0 * rewards, mask, done, gamma=0.9, segment_length=None
    )
    return jnp.sum(errors**2)

  program = jax.make_jaxpr(jax.grad(total))(values)
  sizes = [var.aval.size for eqn in program.eqns for var in eqn.outvars]
  assert max(sizes) <= 2 * length


@pytest.mark.parametrize("huber", [None, 0.7])
def test_check_grads(huber):
  values, rewards, entropies, mask, done = random_case(4)

  def loss(values, rewards, entropies):
    errors, valid = losses.path_consistency_error(
        values, rewards, entropies, mask, done, gamma=0.9, segment_length=3
    )
    return losses.token_mean(losses.path_consistency_loss(errors, valid, huber), valid).value()

  check_grads(
      jax.jit(loss), (values, rewards, entropies), order=1, modes=["rev"], atol=1e-2, rtol=1e-2
  )


def test_jit_equals_eager_also_with_traced_discount():
  values, rewards, entropies, mask, done = random_case(5)

  def errors(gamma, *arrays):
    return losses.path_consistency_error(
        *arrays, mask, done, gamma=gamma, segment_length=4, asked=mask & (rewards > 0)
    )

  eager = errors(0.9, values, rewards, entropies)
  jitted = jax.jit(errors)(jnp.float32(0.9), values, rewards, entropies)
  np.testing.assert_allclose(eager[0], jitted[0], atol=2e-6)
  np.testing.assert_array_equal(eager[1], jitted[1])


@pytest.mark.parametrize("huber", [None, 1.0])
def test_extremes_have_finite_gradients(huber):
  _, rewards, entropies, mask, done = random_case(6)
  values = jnp.where(rewards > 0, 1e9, -1e9)

  def loss(values, entropies):
    errors, valid = losses.path_consistency_error(
        values, rewards * 1e9, entropies, mask, done, gamma=1.0, segment_length=4
    )
    return losses.token_mean(losses.path_consistency_loss(errors, valid, huber), valid).value()

  for part in jax.jit(jax.grad(loss, argnums=(0, 1)))(values, entropies):
    assert np.all(np.isfinite(part))
  zero = jax.grad(lambda e: jnp.sum(losses.path_consistency_loss(e, e == 0, huber)))(
      jnp.zeros((1, 2))
  )
  np.testing.assert_array_equal(zero, 0.0)


def test_huber_is_the_square_inside_and_linear_outside():
  errors = np.linspace(-4, 4, 33)[None].astype(np.float32)
  valid = np.ones(errors.shape, bool)
  want = np.where(np.abs(errors) <= 1.5, 0.5 * errors**2, 1.5 * (np.abs(errors) - 0.75))
  np.testing.assert_allclose(
      losses.path_consistency_loss(errors, valid, huber=1.5), want, rtol=1e-6
  )
  slope = jax.grad(lambda e: jnp.sum(losses.path_consistency_loss(e, valid, huber=1.5)))(
      jnp.asarray(errors)
  )
  np.testing.assert_allclose(slope, np.clip(errors, -1.5, 1.5), atol=1e-6)


def test_impossible_values_are_refused():
  values, rewards, entropies, mask, done = random_case(7)
  with pytest.raises(ValueError, match="segment_length=0"):
    losses.path_consistency_error(
        values, rewards, entropies, mask, done, gamma=1.0, segment_length=0
    )
  with pytest.raises(ValueError, match="huber=0"):
    losses.path_consistency_loss(values, mask, huber=0.0)
