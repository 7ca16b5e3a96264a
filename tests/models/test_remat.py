"""What the backward pass computes again: the same gradients from less memory."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdtw_jax.models import build, shift_right
from kdtw_jax.models.config import REMATS
from kdtw_jax.models.config_checks import GEMMA_BLOCKS
from tests.models.tiny_models import TINY

ROWS, LENGTH = 8, 48
WIDE = dataclasses.replace(TINY, d_model=32, d_ff=96, num_heads=4, d_kv=8, num_encoder_layers=2)
KINDS = {
    "t5": {},
    "causal": dict(kind="causal", feed_forward="gated-silu", windows=(8, 0)),
    "t5gemma": dict(kind="t5gemma", feed_forward="gated-gelu", **GEMMA_BLOCKS, qk_norm=False),
}


def loss_of(kind, remat):
  """(a loss of a pass with dropout, its params)."""
  model = build(dataclasses.replace(WIDE, **KINDS[kind], remat=remat))
  tokens = jnp.asarray(np.random.default_rng(0).integers(4, TINY.vocab_size, (ROWS, LENGTH)))

  def loss(params):
    key = jax.random.key(1)
    encoded = model.encode(params, tokens, dropout_key=key)
    hidden = model.hidden(params, encoded, shift_right(tokens), dropout_key=key)
    return jnp.mean(jnp.sin(hidden))

  return loss, model.shapes


def bytes_kept(kind, remat):
  """Bytes that the forward pass keeps for the backward pass, parameters included."""
  loss, shapes = loss_of(kind, remat)
  kept = jax.eval_shape(lambda params: jax.vjp(loss, params)[1], shapes)
  return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(kept))


@pytest.mark.parametrize("kind", ["t5", "causal"])
def test_gradients_are_the_same(kind):
  params = build(dataclasses.replace(WIDE, **KINDS[kind])).init(jax.random.key(0))
  whole, *others = (jax.jit(jax.grad(loss_of(kind, remat)[0]))(params) for remat in REMATS)
  for found in others:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), whole, found)


@pytest.mark.parametrize("kind", KINDS)
def test_each_keeps_less_than_the_one_before(kind):
  """What XLA makes of it is another matter: on a CPU it merges what is computed twice."""
  none, dots, layers = (bytes_kept(kind, remat) for remat in REMATS)
  assert none > 2 * dots and dots > 2 * layers, (none, dots, layers)


def test_nothing_else_is_known():
  with pytest.raises(ValueError, match="remat='all': must be one of"):
    build(dataclasses.replace(WIDE, remat="all"))
