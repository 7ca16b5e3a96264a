"""Token choice: greedy, temperature and nucleus on distributions known by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdtw_jax import base
from kdtw_jax.decoding.sampling import Sampling, choose_token, forbid_pad, nucleus

PROBS = np.array([0.05, 0.5, 0.15, 0.3], np.float32)


def frequencies(sampling, num=20000):
  logits = jnp.broadcast_to(jnp.log(PROBS), (num, 4))
  tokens = choose_token(logits, jax.random.key(0), sampling)
  return np.bincount(np.asarray(tokens), minlength=4) / num


def test_greedy_is_the_argmax_and_needs_no_key():
  logits = jax.random.normal(jax.random.key(1), (7, 9))
  tokens = choose_token(logits, None, Sampling())
  assert tokens.dtype == jnp.int32
  np.testing.assert_array_equal(tokens, np.argmax(np.asarray(logits), axis=1))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_temperature_sharpens_the_distribution(temperature):
  expected = PROBS ** (1 / temperature)
  observed = frequencies(Sampling(temperature=temperature))
  np.testing.assert_allclose(observed, expected / expected.sum(), atol=0.015)


@pytest.mark.parametrize(
    "top_p,kept", [(0.4, [1]), (0.5, [1]), (0.51, [1, 3]), (0.9, [1, 2, 3]), (1.0, [0, 1, 2, 3])]
)
def test_nucleus_keeps_the_smallest_set_that_reaches_its_mass(top_p, kept):
  logits = nucleus(jnp.log(PROBS)[None, :], top_p)[0]
  np.testing.assert_array_equal(np.flatnonzero(np.asarray(logits) > base.MASKED_LOGIT), kept)
  expected = np.where(np.isin(np.arange(4), kept), PROBS, 0)
  observed = frequencies(Sampling(temperature=1.0, top_p=top_p))
  np.testing.assert_allclose(observed, expected / expected.sum(), atol=0.015)


def test_pad_is_never_emitted():
  logits = jnp.zeros((2, 3, 5)).at[..., base.PAD_ID].set(50.0)
  masked = forbid_pad(logits)
  assert (masked[..., base.PAD_ID] == base.MASKED_LOGIT).all()
  np.testing.assert_array_equal(masked[..., 1:], logits[..., 1:])
