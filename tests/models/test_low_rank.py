"""A frozen kernel with a change of low rank computes, and trains, as the sum of both would."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdtw_jax.models import HEADS, low_rank
from kdtw_jax.models.config_checks import GEMMA_BLOCKS
from kdtw_jax.stages import supervised
from kdtw_jax.training import step
from tests import tiny
from tests.models.tiny_models import cached_model

SCALE = 0.5
CAUSAL = {"kind": "causal", "feed_forward": "gated-silu", "num_key_heads": 1}
BART = {"kind": "bart", "d_kv": 8}
T5GEMMA = {
    "kind": "t5gemma",
    "feed_forward": "gated-gelu",
    **GEMMA_BLOCKS,
    "qk_norm": False,
    "encoder": (("d_model", 12),),
}


def parts(model):
  """(trained, frozen) of a model, the changes not zero any more."""
  params = model.init(jax.random.key(0))
  trained = low_rank.draw(params, jax.random.key(1), whole=HEADS, rank=2)
  rng = np.random.default_rng(2)
  return jax.tree.map(lambda x: x + 0.1 * rng.normal(size=x.shape), trained), low_rank.frozen_of(
      params, whole=HEADS
  )


@pytest.fixture(
    scope="module", params=[{}, CAUSAL, BART, T5GEMMA], ids=["t5", "causal", "bart", "t5gemma"]
)
def model(request):
  heads = {"value_heads": True, "gate": "difficulty_price"}
  return cached_model(**request.param, **heads, num_decoder_layers=1, dropout_rate=0.0).model


def test_every_kernel_of_a_layer_is_changed_and_nothing_else(model):
  params = model.init(jax.random.key(0))
  trained = low_rank.draw(params, jax.random.key(1), whole=HEADS, rank=2)
  frozen = low_rank.frozen_of(params, whole=HEADS)
  assert {*trained} - {"changes"} == {*params} & {*HEADS}
  start = low_rank.merged(trained, frozen, scale=SCALE)
  jax.tree.map(np.testing.assert_array_equal, start, params)  # B is zero
  trained, frozen = parts(model)
  changed = low_rank.merged(trained, frozen, scale=SCALE)
  for path, before in jax.tree_util.tree_leaves_with_path({k: params[k] for k in frozen}):
    after = functools.reduce(lambda tree, key: tree[key.key], path, changed)
    is_matrix = before.ndim > 1 and "layer_" in str(path) and not path[-1].key.endswith("_bias")
    if not is_matrix:
      np.testing.assert_array_equal(after, before)
      continue
    change = np.asarray(after - before, np.float64)
    assert np.linalg.matrix_rank(change.reshape(len(change), -1), tol=1e-5) == 2


def test_outputs_and_gradients_are_those_of_merged_kernels(model):
  trained, frozen = parts(model)
  batch = tiny.batch(rows=4)
  objective = supervised.cross_entropy(model, tiny.stage("sft", label_smoothing=0.1))

  def loss(put_together, trained):
    params = put_together(trained, frozen, scale=SCALE)
    return step.loss_of(objective)(params, None, batch, jax.random.key(0), None)[0]

  (value, found), (wanted_value, wanted) = (
      jax.jit(jax.value_and_grad(functools.partial(loss, fn)))(trained)
      for fn in (low_rank.combined, low_rank.merged)
  )
  np.testing.assert_allclose(value, wanted_value, rtol=1e-5)
  jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5 + 1e-4 * jnp.abs(b).max()),
      found,
      wanted,
  )
  changes = jax.tree.leaves(found["changes"])
  assert all(jnp.abs(gradient).max() > 0 for gradient in changes)
