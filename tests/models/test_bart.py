"""What any BART must keep: constant tokens, padding anywhere, the cache, valid fields."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_models import assert_ragged_chunks_are_one_pass, cached_model, fast_jit, lively

from kdtw_jax.base import EOS_ID, PAD_ID
from kdtw_jax.models import build, shift_right
from kdtw_jax.models.bart import sinusoids

CLOSE = {"rtol": 0, "atol": 1e-5}
LENGTH, FIRST = 8, 9
BART = {"kind": "bart", "d_kv": 8}
# m2m: rows 0, 1 and 2 of the published table are BOS, PAD and EOS
RENAMED = ((0, 1), (1, 2), (2, 0))
LANGUAGES = {"prompt_prefix": (25,), "decoder_prefix": (EOS_ID,), "prompt_suffix": (EOS_ID, 26)}
FAMILIES = {
    "bart": {
        "positions": "learned",
        "max_positions": 20,
        "pre_norm": False,
        "embedding_norm": True,
        "feed_forward": "gelu",
        "prompt_prefix": (24,),
        "prompt_suffix": (EOS_ID, EOS_ID),
    },
    "mbart": {
        "positions": "learned",
        "max_positions": 20,
        "embedding_norm": True,
        "scale_embedding": True,
        "feed_forward": "gelu",
        "prompt_suffix": (EOS_ID, 25, 26),
    },
    "m2m": {"positions": "m2m", "renamed_ids": RENAMED, "scale_embedding": True, **LANGUAGES},
}
families = pytest.mark.parametrize("family", ["bart", "m2m"])


@functools.cache
def tiny(family, **changes):
  """A tiny model of the family in which no bias is zero, and no norm the identity."""
  return lively(cached_model(**BART, **{**FAMILIES[family], **changes}))


@families
def test_padding_anywhere_changes_nothing(family, text):
  source, target = text
  row = np.concatenate([source[:1], [[EOS_ID]]], axis=1)
  model = tiny(family)
  states, hidden = model.encode(row), model.forward(row, target[:1])
  for at in ([0, 0, 0], [3, 3, 5], [8, 8, 8], [0, 4, 8]):
    padded = np.insert(row, at, PAD_ID, axis=1)
    found = model.encode(padded)
    np.testing.assert_allclose(found.states[found.mask], states.states[states.mask], **CLOSE)
    np.testing.assert_allclose(model.forward(padded, target[:1]), hidden, **CLOSE)
  swapped = row[:, [1, 0, *range(2, 8)]]
  assert np.abs(model.forward(swapped, target[:1]) - hidden).max() > 1e-2  # order is seen


@pytest.mark.parametrize("family", ["mbart", "m2m"])
def test_constant_tokens_are_those_that_one_could_write_into_source_and_inputs(family, text):
  """Against the model without them; mBART is given a decoder's prefix of two as well."""
  model = tiny(family, **({"decoder_prefix": (27, 28)} if family == "mbart" else {}))
  config = model.model.config
  none = {"prompt_prefix": (), "decoder_prefix": (), "prompt_suffix": (EOS_ID, FIRST)}
  plain = dataclasses.replace(tiny(family, **none), params=model.params)
  source, target = (x[:2] for x in text)
  before, after = config.prompt_prefix, config.prompt_suffix[1:-1]
  assert before or after

  def rows(ids):
    return np.tile(np.array(ids, np.int32), (2, 1))

  written = np.concatenate([rows(before), source, rows(after)], axis=1)
  found, expected = model.encode(source), plain.encode(written)
  np.testing.assert_array_equal(found.mask, expected.mask)
  np.testing.assert_allclose(found.states, expected.states, **CLOSE)
  inputs = shift_right(target)
  started = np.concatenate([rows((*config.decoder_prefix, config.prompt_suffix[-1])), target], 1)
  hidden = model.model.hidden(model.params, found, inputs)
  whole = plain.model.hidden(plain.params, expected, started[:, :-1])
  np.testing.assert_allclose(hidden, whole[:, len(config.decoder_prefix) :], **CLOSE)


@families
def test_any_ragged_chunking_equals_one_full_pass(family, text):
  assert_ragged_chunks_are_one_pass(tiny(family), *text)


def test_a_row_of_pure_padding_is_finite_and_dropout_needs_its_key(text):
  model = tiny("mbart", dropout_rate=0.5)
  source, target = (x.copy() for x in text)
  source[0], target[0] = PAD_ID, PAD_ID

  def loss(params, key):
    hidden = model.model.hidden(
        params, model.model.encode(params, source, dropout_key=key), target, dropout_key=key
    )
    return jnp.square(model.model.logits(params, hidden)[..., 4:]).mean(), hidden

  run = fast_jit(jax.grad(loss, has_aux=True))
  (gradient, one), (_, two) = run(model.params, jax.random.key(0)), run(model.params, None)
  for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
    assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0, path  # every parameter is used
  assert np.abs(one - two).max() > 0.1 and 0.4 < float((one == 0).mean()) < 0.6


def test_sinusoids_by_hand():
  pegasus, m2m = sinusoids("pegasus", 4, 8), sinusoids("m2m", 4, 8)
  for i in range(4):
    a, b = 3 * 10_000 ** (-i / 4), 3 * 10_000 ** (-i / 3)
    np.testing.assert_allclose(pegasus[3, [i, 4 + i]], [np.sin(a), np.cos(a)], atol=1e-6)
    np.testing.assert_allclose(m2m[3, [i, 4 + i]], [np.sin(b), np.cos(b)], atol=1e-6)


def test_a_source_beyond_a_learned_table_is_not_silent(text):
  source = np.tile(text[0][:1], (1, 3))  # 21 tokens; the table ends at 20
  assert np.isnan(tiny("mbart").encode(source).states).any()
  assert not np.isnan(tiny("mbart").encode(source[:, :19]).states).any()


def test_impossible_fields_are_named():
  good = tiny("m2m").model.config
  for changes, message in (
      ({"feed_forward": "gated-gelu"}, "feed_forward='gated-gelu': a model of kind='bart' is not"),
      ({"tie_embeddings": False}, "tie_embeddings=False: must be True with kind='bart'"),
      ({"d_kv": 6}, "d_kv=6: must be d_model / num_heads = 8"),
      ({"positions": "rotary"}, "positions='rotary': must be one of learned, pegasus, m2m"),
      ({"d_model": 15, "num_heads": 1, "d_kv": 15}, "d_model=15: must be even and >= 4"),
      ({"prompt_suffix": (EOS_ID, PAD_ID)}, "starts a decoder with padding"),
      ({"prompt_suffix": (25, 26)}, "keeps its EOS: must begin with 1"),
      ({"decoder_prefix": (30,)}, "decoder_prefix: row 30 is not in the vocabulary"),
      ({"kind": "t5", "feed_forward": "gelu"}, "feed_forward='gelu': is built for kind='bart'"),
  ):
    with pytest.raises(ValueError, match=message):
      build(dataclasses.replace(good, **changes))
