"""What any T5 must keep: causality, indifference to padding and batch mates, dropout, dtypes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_models import fast_jit

from kdtw_jax.base import MASKED_LOGIT
from kdtw_jax.models import build
from kdtw_jax.models.layers import dropout, dropout_seeds, embedding_unit

CLOSE = {"rtol": 0, "atol": 1e-5}
VARIANTS = [
    {"feed_forward": "relu", "tie_embeddings": True},
    {"feed_forward": "gated-gelu", "tie_embeddings": False},
]
variants = pytest.mark.parametrize("changes", VARIANTS, ids=["relu-tied", "gated-untied"])


@variants
def test_decoder_is_causal(tiny_model, text, changes):
  tiny = tiny_model(**changes)
  source, target = text
  hidden = np.asarray(tiny.forward(source, target))
  changed = target.copy()
  changed[:, 4] = 4 + (target[:, 4] - 3) % 26  # target 4 is decoder input 5
  other = np.asarray(tiny.forward(source, changed))
  np.testing.assert_array_equal(other[:, :5], hidden[:, :5])
  assert (np.abs(other[:, 5:] - hidden[:, 5:]).max(axis=(1, 2)) > 1e-3).all()


def test_encoder_sees_both_sides(tiny_model, text):
  tiny = tiny_model()
  source = text[0][:1]
  for position, elsewhere in ((0, 6), (6, 0)):
    changed = source.copy()
    changed[0, position] = 4 + (source[0, position] - 3) % 26
    difference = tiny.encode(source).states - tiny.encode(changed).states
    assert np.abs(difference[0, elsewhere]).max() > 1e-3


@variants
def test_padding_and_batch_mates_change_nothing(tiny_model, text, changes):
  tiny = tiny_model(**changes)
  source, target = text
  hidden = tiny.forward(source, target)
  more_source = np.pad(source, ((0, 0), (0, 5)))
  np.testing.assert_allclose(tiny.forward(more_source, target), hidden, **CLOSE)
  more_target = np.pad(target, ((0, 0), (0, 5)))
  np.testing.assert_allclose(tiny.forward(source, more_target)[:, :8], hidden, **CLOSE)
  np.testing.assert_allclose(tiny.forward(source[2:3], target[2:3]), hidden[2:3], **CLOSE)
  mates = np.concatenate([source[:1], source[:1, ::-1].copy(), source[2:]])
  np.testing.assert_allclose(tiny.forward(mates, target)[:1], hidden[:1], **CLOSE)


def test_a_row_of_pure_padding_is_finite(tiny_model, text):
  tiny = tiny_model()
  source, target = (x.copy() for x in text)
  source[0], target[0] = 0, 0

  def loss(params):
    hidden = tiny.model.hidden(params, tiny.model.encode(params, source), target)
    return jnp.square(tiny.model.logits(params, hidden)[..., 4:]).mean()

  assert all(np.isfinite(g).all() for g in jax.tree.leaves(fast_jit(jax.grad(loss))(tiny.params)))


def test_an_unknown_id_is_not_silent(tiny_model, text):
  source = text[0].copy()
  source[0, 0] = 30  # the vocabulary ends at 29
  assert np.isnan(tiny_model().encode(source).states[0]).any()


def test_dropout_keeps_the_expectation_and_its_rate():
  x = jnp.ones((400, 500))
  seed, other = dropout_seeds(jax.random.key(0), 2)
  dropped = np.asarray(dropout(x, 0.3, seed))
  assert abs((dropped == 0).mean() - 0.3) < 0.005  # 5 standard deviations
  assert abs(dropped.mean() - 1) < 0.007
  assert len(np.unique(dropped)) == 2
  assert dropout(x, 0.3, None) is x and dropout(x, 0.0, other) is x
  assert dropout_seeds(None, 2) == (None, None)


def test_dropout_masks_are_uncorrelated_with_each_other_and_with_their_neighbours():
  """Lags of 1 and of a row, and other seeds, even ones that differ in one bit of either word."""
  x = jnp.ones((400, 500))
  seed, other = dropout_seeds(jax.random.key(0), 2)
  near = [seed + jnp.array(step, jnp.uint32) for step in ([1, 0], [0, 1], [2**31, 0], [0, 2**31])]
  masks = [np.asarray(dropout(x, 0.5, s)) == 0 for s in (seed, other, *near)]
  first = masks[0].ravel()
  lagged = [(first[:-lag], first[lag:]) for lag in (1, 2, 500)]
  for a, b in [(first, mask.ravel()) for mask in masks[1:]] + lagged:
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.012  # 5 standard deviations


def test_dropout_acts_only_with_a_key_and_by_the_key(tiny_model, text):
  tiny = tiny_model(dropout_rate=0.5)
  source, target = text
  plain, again = tiny.forward(source, target), tiny.forward(source, target)
  np.testing.assert_array_equal(plain, again)

  @fast_jit
  def noisy(key):
    keys = jax.random.split(key)
    encoded = tiny.model.encode(tiny.params, source, dropout_key=keys[0])
    return tiny.model.hidden(tiny.params, encoded, target, dropout_key=keys[1])

  one, two = noisy(jax.random.key(1)), noisy(jax.random.key(2))
  np.testing.assert_array_equal(one, noisy(jax.random.key(1)))
  assert np.abs(one - two).max() > 0.1 and np.abs(one - plain).max() > 0.1
  assert 0.4 < float((one == 0).mean()) < 0.6  # the last dropout is after the last norm


@variants
def test_bfloat16_is_float32_up_to_rounding(tiny_model, text, changes):
  source, target = text
  wide, narrow = tiny_model(**changes), tiny_model(dtype="bfloat16", **changes)
  jax.tree.map(np.testing.assert_array_equal, wide.params, narrow.params)  # float32 both
  hidden = narrow.forward(source, target)
  assert hidden.dtype == jnp.bfloat16
  logits = narrow.model.logits(narrow.params, hidden)
  assert logits.dtype == jnp.float32
  exact = wide.model.logits(wide.params, wide.forward(source, target))
  np.testing.assert_allclose(logits, exact, rtol=0, atol=0.1)


def test_the_row_of_tau_is_masked(tiny_model, text):
  tiny = tiny_model()
  hidden = tiny.forward(*text)
  logits = np.asarray(tiny.model.logits(tiny.params, hidden))
  assert (logits[..., 3] == MASKED_LOGIT).all()
  assert (np.abs(np.delete(logits, 3, axis=-1)) < 100).all()
  no_tau = tiny_model(tau_id=-1)
  free = np.asarray(no_tau.model.logits(no_tau.params, hidden))
  assert (np.abs(free) < 100).all()
  np.testing.assert_array_equal(np.delete(free, 3, axis=-1), np.delete(logits, 3, axis=-1))


@variants
def test_fresh_logits_have_unit_variance(text, tiny_model, changes):
  """The reason for the initialisation: an untrained loss near log V + 1/2, at any width."""
  tiny = tiny_model(d_model=96, d_ff=192, vocab_size=500, tau_id=-1, **changes)
  logits = tiny.model.logits(tiny.params, tiny.forward(*text))
  assert 0.8 < float(jnp.std(logits)) < 1.2
  embedded = np.asarray(tiny.params["shared"]["embedding"]) * embedding_unit(96)
  assert 0.95 < embedded.std() < 1.05


def test_impossible_configs_are_refused(tiny_model):
  good = tiny_model().model.config
  for changes, message in (
      ({"num_heads": 0}, "model.num_heads=0: must be >= 1"),
      ({"feed_forward": "swish"}, "model.feed_forward='swish'"),
      ({"dtype": "float16"}, "model.dtype='float16'"),
      ({"gate": "linear"}, "model.gate='linear'"),
      ({"gate": "token", "tau_id": -1}, "model.tau_id=-1"),
      ({"tau_id": 30}, "model.tau_id=30"),
      ({"dropout_rate": 1.0}, "model.dropout_rate=1.0"),
      ({"gate_alpha": 0.0}, "model.gate_alpha=0.0"),
      ({"gate_top_k": 31}, "model.gate_top_k=31"),
      ({"relative_attention_num_buckets": 6}, "model.relative_attention_num_buckets=6"),
      ({"relative_attention_max_distance": 4}, "model.relative_attention_max_distance=4"),
  ):
    with pytest.raises(ValueError, match=message):
      build(dataclasses.replace(good, **changes))
