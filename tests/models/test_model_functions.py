"""Params as a plain pytree and the model as pure functions."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_models import fast_jit

from kdtw_jax.models import build, clear_tau, num_params, shift_right


def test_params_are_a_nested_dict_with_stable_readable_names(tiny_model):
  params = tiny_model(
      gate="difficulty_price", value_heads=True, tie_embeddings=False, feed_forward="gated-gelu"
  ).params
  assert set(params) == {
      "shared",
      "encoder",
      "decoder",
      "readout_kernel",
      "gate",
      "price",
      "value",
      "cost_value",
      "worth",
  }
  names = {
      "/".join(key.key for key in path): leaf.shape
      for path, leaf in jax.tree_util.tree_leaves_with_path(params)
  }
  for name, shape in {
      "shared/embedding": (30, 16),
      "readout_kernel": (30, 16),
      "encoder/layer_0/self_attention/qkv": (16, 3, 12),
      "encoder/position_bias/embedding": (1, 8, 2),
      "decoder/layer_1/cross_attention/q": (16, 12),
      "decoder/layer_1/cross_attention/kv": (16, 2, 12),
      "decoder/layer_1/cross_attention/out": (12, 16),
      "decoder/layer_1/feed_forward/wi": (16, 2, 24),
      "decoder/layer_1/feed_forward_norm/weight": (16,),
      "decoder/final_norm/weight": (16,),
      "gate/mlp/out_bias": (1,),
      "price/query": (16,),
      "price/duals": (6,),
      "cost_value/mlp/hidden_kernel": (17, 8),
  }.items():
    assert names[name] == shape, name


@pytest.mark.parametrize("tied", [True, False])
def test_a_cleared_tau_has_logit_zero_and_the_gate_its_bias(tiny_model, text, tied):
  tiny = tiny_model(gate="token", tie_embeddings=tied)
  params = clear_tau(tiny.params, tiny.model.config)
  hidden, _, logits, gate = tiny.outputs(params, *text)
  bias = np.asarray(params["gate"]["bias"])
  total = np.asarray(jax.nn.logsumexp(logits, axis=-1))
  np.testing.assert_allclose(gate, bias - total, atol=1e-5)
  before = tiny.teacher_forced(*text)
  assert np.abs(np.asarray(gate) - np.asarray(before[3])).max() > 0.01
  np.testing.assert_allclose(hidden, before[0], atol=1e-5)  # <τ> is no input


def test_num_params_is_the_sum_by_hand(tiny_model):
  width, hidden, inner, vocab = 16, 24, 12, 30
  attention = 4 * width * inner + width
  feed_forward = 2 * width * hidden + width
  encoder = attention + feed_forward + 8 * 2 + width
  decoder = 2 * (2 * attention + feed_forward) + 8 * 2 + width
  assert num_params(tiny_model().params) == vocab * width + encoder + decoder


def test_init_is_a_function_of_the_key(tiny_model):
  model = tiny_model().model
  same, other = model.init(jax.random.key(0)), model.init(jax.random.key(1))
  jax.tree.map(np.testing.assert_array_equal, tiny_model().params, same)
  assert np.abs(other["shared"]["embedding"] - same["shared"]["embedding"]).max() > 0.1
  leaves = [x for x in jax.tree.leaves(same) if x.ndim > 1]
  assert len({float(x.reshape(-1)[0]) for x in leaves}) == len(leaves)  # no key used twice


def test_a_model_is_a_static_argument_that_does_not_recompile(tiny_model, text):
  traces = []

  @jax.jit(static_argnums=0)
  def states(model, params, source):
    traces.append(1)
    return model.encode(params, source).states

  params = tiny_model().params
  for _ in range(2):  # two records of the same config are one key of jit's cache
    states(build(tiny_model().model.config), params, text[0])
  assert len(traces) == 1


def test_training_with_optax_learns_to_copy(tiny_model):
  """The surface end to end: a loss, a gradient, an update by path, and it learns."""
  tiny = tiny_model(dropout_rate=0.0, gate="mlp", value_heads=True)
  model = tiny.model
  source = np.random.default_rng(0).integers(4, 30, (16, 5)).astype(np.int32)
  heads = ("gate", "price", "value", "cost_value", "worth")
  labels = {
      name: jax.tree.map(lambda _, name=name: "heads" if name in heads else "trunk", part)
      for name, part in tiny.params.items()
  }
  optimizer = optax.multi_transform(
      {"trunk": optax.adam(1e-2), "heads": optax.set_to_zero()}, labels
  )

  def loss_fn(params):
    hidden = model.hidden(params, model.encode(params, source), shift_right(source))
    log_probs = jax.nn.log_softmax(model.logits(params, hidden))
    return -jnp.take_along_axis(log_probs, jnp.asarray(source)[..., None], axis=-1).mean()

  @fast_jit
  def step(params, state):
    loss, gradients = jax.value_and_grad(loss_fn)(params)
    updates, state = optimizer.update(gradients, state, params)
    return optax.apply_updates(params, updates), state, loss

  params, state = tiny.params, optimizer.init(tiny.params)
  losses = []
  for _ in range(150):
    params, state, loss = step(params, state)
    losses.append(float(loss))
  assert abs(losses[0] - np.log(29)) < 1.5 and losses[-1] < 0.3
  jax.tree.map(np.testing.assert_array_equal, params["gate"], tiny.params["gate"])


def test_shift_right():
  np.testing.assert_array_equal(shift_right(np.array([[7, 8, 1, 0]], np.int32)), [[0, 7, 8, 1]])
