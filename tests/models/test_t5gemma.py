"""What a T5Gemma must keep: prompts, windows of both stacks, the cache, sizes of its own."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_models import assert_ragged_chunks_are_one_pass, cached_model, fast_jit, lively

from kdtw_jax.base import EOS_ID, PAD_ID
from kdtw_jax.models import build

CLOSE = {"rtol": 0, "atol": 1e-5}
GEMMA = {
    "kind": "t5gemma",
    "feed_forward": "gated-gelu",
    "post_norms": True,
    "norm_offset": True,
    "scale_embedding": True,
    "num_heads": 4,
    "num_key_heads": 2,
    "num_encoder_layers": 2,
    "windows": (3, 0),
    "prompt_prefix": (20, 21),
    "prompt_suffix": (22, 23, 24),
}
INSIDE = (("d_model", 12), ("d_ff", 20), ("num_heads", 3), ("num_key_heads", 1), ("d_kv", 4))
FAMILIES = {
    "t5gemma": {
        "qk_norm": False,
        "score_cap": 5.0,
        "logit_cap": 3.0,
        "encoder": (*INSIDE, ("windows", (2, 0))),
    },
    "t5gemma2": {
        "merged_attention": True,
        "rope_theta": 1e6,
        "encoder": (("d_ff", 20), ("windows", (4, 0))),
    },
}
families = pytest.mark.parametrize("family", FAMILIES)
SOURCE = np.array(
    [
        [5, 6, 7, 8, 9, 10, EOS_ID],
        [11, 12, 13, EOS_ID, 0, 0, 0],
        [4, EOS_ID, 0, 0, 0, 0, 0],
        [14, 15, 16, 17, 18, 19, EOS_ID],
    ],
    np.int32,
)


@functools.cache
def tiny(family, **changes):
  return lively(cached_model(**{**GEMMA, **FAMILIES[family], **changes}))


@families
def test_padding_and_batch_mates_change_nothing(family, text):
  model, target = tiny(family), text[1]
  both = model.forward(SOURCE, target)
  np.testing.assert_allclose(model.forward(SOURCE[1:2, :4], target[1:2]), both[1:2], **CLOSE)
  changed = target.copy()
  changed[:, 4] = 4 + (target[:, 4] - 3) % 16
  other = model.forward(SOURCE, changed)
  np.testing.assert_allclose(other[:, :5], both[:, :5], **CLOSE)  # no token sees a later one
  assert np.abs(other - both)[:, 5:].max(axis=(1, 2)).min() > 1e-2
  assert np.abs(model.forward(SOURCE[:, ::-1].copy(), target) - both)[0].max() > 1e-2


@pytest.mark.parametrize(
    ("family", "window", "seen"),
    [("t5gemma", 2, (3, 4, 5, 6, 7)), ("t5gemma2", 4, (4, 5, 6, 7)), ("t5gemma2", 3, (4, 5, 6))],
)
def test_a_window_of_the_encoder_reaches_to_both_sides(family, window, seen):
  """T5Gemma's as far to either, T5Gemma 2's so many in all; token 5 looks."""
  encoder = (*dict(FAMILIES[family]["encoder"] + (("windows", (window,)),)).items(),)
  bare = {"prompt_prefix": (), "prompt_suffix": (9,), "num_encoder_layers": 1}
  model = tiny(family, encoder=encoder, **bare)
  source = np.arange(4, 16)[None].astype(np.int32)
  source[0, -1] = EOS_ID
  rows = np.concatenate([source] * 11)
  rows[np.arange(11), np.arange(11)] = 25
  difference = np.abs(model.encode(rows).states[:, 5] - model.encode(source).states[:, 5])
  assert tuple(np.flatnonzero(difference.max(axis=1) > 1e-4)) == seen


@pytest.mark.parametrize("family", FAMILIES)
def test_a_window_of_the_decoder_hides_the_output_and_not_the_source(family, text):
  model = tiny(family, num_decoder_layers=1, windows=(3,))
  target = np.concatenate([text[1][:1]] * 8)
  target[np.arange(8), np.arange(8)] = 29  # target i is input i + 1
  found = model.forward(np.concatenate([SOURCE[:1]] * 8), target)
  difference = np.abs(found - model.forward(SOURCE[:1], text[1][:1]))[:, 7].max(axis=1)
  assert tuple(np.flatnonzero(difference > 1e-4)) == (4, 5, 6)
  source = SOURCE[:1].copy()
  source[0, 0] = 25
  other = model.forward(source, text[1][:1]) - model.forward(SOURCE[:1], text[1][:1])
  assert np.abs(other).max(axis=(0, 2)).min() > 1e-3


@families
def test_any_ragged_chunking_equals_one_full_pass(family, text):
  assert_ragged_chunks_are_one_pass(tiny(family), SOURCE, text[1])


def test_every_parameter_is_used_pure_padding_is_finite_and_dropout_needs_its_key(text):
  made = tiny(
      "t5gemma",
      dropout_rate=0.5,
      prompt_prefix=(),
      prompt_suffix=(9,),
      gate="difficulty_price",
      num_encoder_layers=1,
      num_decoder_layers=1,
      windows=(3,),
      encoder=INSIDE,
  )
  model, source, target = made.model, SOURCE.copy(), text[1].copy()
  source[0], target[0] = PAD_ID, PAD_ID

  def loss(params, key):
    encoded = model.encode(params, source, dropout_key=key)
    hidden = model.hidden(params, encoded, target, dropout_key=key)
    budget = model.budget(params, encoded)
    return jnp.square(model.logits(params, hidden)[..., 4:]).mean() + budget.sum(), hidden

  gradient, hidden = fast_jit(jax.grad(loss, has_aux=True))(made.params, jax.random.key(0))
  for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
    assert np.isfinite(leaf).all(), path
    is_idle = path[0].key == "gate" or path[-1].key == "duals"
    assert is_idle or np.abs(leaf).max() > 0, path
  assert 0.4 < float((hidden == 0).mean()) < 0.6
  assert float((made.forward(source, target) == 0).mean()) < 0.1  # no key
  assert made.encode(source).states.shape[-1] == made.params["price"]["query"].shape[0] == 12


def test_impossible_fields_are_named():
  good, second = (tiny(family).model.config for family in FAMILIES)
  for config, changes, message in (
      (good, {"post_norms": False}, "post_norms=False: must be True with kind='t5gemma'"),
      (good, {"qk_norm": True}, "qk_norm=True: must be False .* merged_attention=False"),
      (good, {"decoder_prefix": (5,)}, r"decoder_prefix=\(5,\): must be \(\)"),
      (good, {"feed_forward": "relu"}, "feed_forward='relu': a model of kind='t5gemma' is gated"),
      (good, {"encoder": (("tau_id", 4),)}, "encoder: 'tau_id' is not a field that an encoder"),
      (good, {"encoder": (("windows", (4,)),)}, r"encoder.windows=\(4,\): .* for 2 layers"),
      (good, {"encoder": (("d_kv", 3),)}, "encoder.d_kv=3: must be even"),
      (good, {"num_encoder_layers": 0}, "num_encoder_layers=0: must be >= 1"),
      (second, {"tie_embeddings": False}, "tie_embeddings=False: must be True with merged"),
      (second, {"encoder": (("d_model", 8),)}, "encoder.d_model=8: must be d_model=16"),
  ):
    with pytest.raises(ValueError, match=message):
      build(dataclasses.replace(config, **changes))
