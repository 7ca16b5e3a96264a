"""The contract of all gate kinds, and where the heads' gradients may go."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_models import fast_jit

from kdtw_jax.base import MASKED_LOGIT
from kdtw_jax.models import GATE_KINDS, shift_right, with_duals
from kdtw_jax.models.heads import confidence_features

HEADS = {"gate", "price", "value", "cost_value", "worth"}
kinds = pytest.mark.parametrize("kind", GATE_KINDS)
real_kinds = pytest.mark.parametrize("kind", [kind for kind in GATE_KINDS if kind != "none"])


@pytest.fixture
def tiny_model(tiny_model):
  """One decoder layer is enough to see where gradients go."""
  return functools.partial(tiny_model, num_decoder_layers=1)


def gradient_sizes(loss_fn, params) -> dict[str, float]:
  """The largest gradient entry under each top-level name."""
  gradients = fast_jit(jax.grad(loss_fn))(params)
  return {
      name: max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(part))
      for name, part in gradients.items()
  }


@kinds
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_gate_kind_keeps_the_contract(tiny_model, text, kind, dtype):
  tiny = tiny_model(gate=kind, dtype=dtype)
  hidden, price, logits, gate_logits = tiny.teacher_forced(*text)
  assert gate_logits.shape == (4, 8) and gate_logits.dtype == jnp.float32
  assert price.shape == (4,) and price.dtype == jnp.float32 and (price >= 0).all()
  assert np.isfinite(gate_logits).all()
  assert ("gate" in tiny.params) == (kind != "none")
  assert ("price" in tiny.params) == (kind == "difficulty_price")
  # A slice of positions gives a slice of the gate.
  part = tiny.model.gate_logits(tiny.params, logits[:, 2:5], hidden[:, 2:5], price)
  np.testing.assert_allclose(part, gate_logits[:, 2:5], rtol=0, atol=1e-5)


@kinds
def test_the_decoder_reads_out_what_teacher_forcing_does(tiny_model, text, kind):
  tiny = tiny_model(gate=kind)
  _, price, logits, gate_logits = tiny.teacher_forced(*text)
  fns = tiny.model.decoder_fns
  cache = fns.start(tiny.params, text[0], 8)
  hidden, cache = tiny.extend(cache, shift_right(text[1]), jnp.zeros((4,), jnp.int32))
  step = fns.readout(tiny.params, cache, hidden)
  np.testing.assert_allclose(cache.price, price, rtol=0, atol=1e-6)
  np.testing.assert_allclose(step.logits, logits, rtol=0, atol=1e-4)
  np.testing.assert_allclose(step.gate_logits, gate_logits, rtol=0, atol=1e-4)


@real_kinds
def test_an_untrained_gate_is_near_its_bias(tiny_model, text, kind):
  """The token gate adds e_τ·h, of unit variance; the MLP gates start within a few tenths."""
  tiny = tiny_model(gate=kind, gate_bias_init=3.0, gate_alpha=0.5)
  limit = 1.5 if kind == "token" else 0.4
  assert abs(float(tiny.teacher_forced(*text)[3].mean()) - 3.0) < limit


def test_the_model_without_a_gate_never_asks(tiny_model, text):
  gate_logits = tiny_model().teacher_forced(*text)[3]
  np.testing.assert_array_equal(gate_logits, 0.0)


def test_token_gate_is_the_joint_softmax(tiny_model, text):
  """P(<τ>) = g and P(v) = (1 - g) π_LM(v) of one softmax over V ∪ {<τ>}."""
  tiny = tiny_model(gate="token")
  hidden, _, logits, gate_logits = tiny.teacher_forced(*text)
  tau_row = np.asarray(tiny.params["shared"]["embedding"])[3]
  joint = np.asarray(logits, np.float64)
  bias = float(tiny.params["gate"]["bias"][0])
  joint[..., 3] = np.asarray(hidden, np.float64) @ tau_row + bias
  joint = np.exp(joint) / np.exp(joint).sum(-1, keepdims=True)
  asked = np.asarray(jax.nn.sigmoid(gate_logits))
  np.testing.assert_allclose(asked, joint[..., 3], rtol=1e-5)
  written = (1 - asked[..., None]) * np.asarray(jax.nn.softmax(logits))
  np.testing.assert_allclose(
      np.delete(written, 3, axis=-1), np.delete(joint, 3, axis=-1), rtol=1e-4
  )


def test_difficulty_minus_price(tiny_model, text):
  tiny = tiny_model(gate="difficulty_price", gate_alpha=0.5)
  hidden, price, logits, gate_logits = tiny.teacher_forced(*text)
  dearer = tiny.model.gate_logits(tiny.params, logits, hidden, price + 3.0)
  np.testing.assert_allclose(dearer, gate_logits - 6.0, rtol=0, atol=1e-5)
  more_padding = np.pad(text[0], ((0, 0), (0, 4)))
  padded = tiny.model.price(tiny.params, tiny.encode(more_padding))
  np.testing.assert_allclose(padded, price, rtol=0, atol=1e-6)
  other = tiny.model.budget(tiny.params, tiny.encode(text[0][:, ::-1].copy()))
  read = tiny.model.budget(tiny.params, tiny.encode(text[0]))
  assert np.abs(other - read).max() > 1e-4  # it does read the source


def test_the_price_is_that_of_the_budget_read(tiny_model, text):
  """λ(B̂), linear between the knots and constant beyond them."""
  tiny = tiny_model(gate="difficulty_price", price_knots=(0.0, 0.1, 0.5))
  encoded = tiny.encode(text[0])
  for reads, price in ((0.05, 4.5), (0.3, 2.0), (-1.0, 6.0), (0.9, 1.0)):
    params = with_duals(tiny.params, jnp.asarray([6.0, 3.0, 1.0]))
    params["price"]["mlp"] = {
        **params["price"]["mlp"],
        "out_bias": jnp.asarray([reads]),
        "out_kernel": jnp.zeros_like(params["price"]["mlp"]["out_kernel"]),
    }
    np.testing.assert_allclose(tiny.model.budget(params, encoded), reads, rtol=1e-6)
    np.testing.assert_allclose(tiny.model.price(params, encoded), price, rtol=1e-5)


def test_no_gradient_sets_a_price(tiny_model, text):
  tiny = tiny_model(gate="difficulty_price")

  def total(params):
    return tiny.model.price(params, tiny.model.encode(params, text[0])).sum()

  sizes = gradient_sizes(total, tiny.params)
  assert max(sizes.values()) == 0.0


def test_a_gate_without_a_price_has_no_duals(tiny_model):
  tiny = tiny_model(gate="mlp")
  assert with_duals(tiny.params, jnp.ones(3)) is tiny.params


@real_kinds
@pytest.mark.parametrize("detach", [False, True])
def test_where_the_gate_gradient_goes(tiny_model, text, kind, detach):
  tiny = tiny_model(gate=kind, detach_gate_features=detach)
  sizes = gradient_sizes(
      lambda params: jnp.square(tiny.outputs(params, *text)[3]).sum(), tiny.params
  )
  assert sizes["gate"] > 0
  trunk = {"encoder", "decoder"} & set(sizes)
  assert all((sizes[name] == 0) == detach for name in trunk)
  if detach and kind != "token":  # z_τ reads its row of the shared embedding
    assert sizes["shared"] == 0


@pytest.mark.parametrize("detach", [True, False])
def test_where_the_value_gradient_goes(tiny_model, text, detach):
  tiny = tiny_model(value_heads=True, detach_value_features=detach)

  def loss(params):
    hidden = tiny.outputs(params, *text)[0]
    value, cost_value = tiny.model.values(params, hidden, jnp.ones(4))
    return jnp.square(value - 1).sum() + jnp.square(cost_value - 2).sum()

  # The zero last layer passes no gradient on, so take the test one step after it.
  params = jax.tree.map(lambda leaf: leaf + 0.1, tiny.params)
  sizes = gradient_sizes(loss, params)
  assert sizes["value"] > 0 and sizes["cost_value"] > 0
  for name in set(sizes) - HEADS:
    assert (sizes[name] == 0) == detach, name


def test_values_depend_on_the_price(tiny_model, text):
  tiny = tiny_model(value_heads=True)
  params = jax.tree.map(lambda leaf: leaf + 0.1, tiny.params)
  hidden = tiny.forward(*text)
  cheap, dear = (tiny.model.values(params, hidden, jnp.full((4,), price)) for price in (0.0, 9.0))
  for one, other in zip(cheap, dear, strict=True):
    assert np.abs(one - other).min() > 0


def test_values_start_at_zero_and_are_two_heads(tiny_model, text):
  tiny = tiny_model(value_heads=True, dtype="bfloat16")
  hidden = tiny.forward(*text)
  value, cost_value = tiny.model.values(tiny.params, hidden, jnp.ones(4))
  assert value.shape == (4, 8) and value.dtype == cost_value.dtype == jnp.float32
  np.testing.assert_array_equal(value, 0.0)
  np.testing.assert_array_equal(cost_value, 0.0)
  params = jax.tree.map(lambda leaf: leaf, tiny.params)
  params["value"]["mlp"]["out_bias"] = jnp.ones((1,))
  value, cost_value = tiny.model.values(params, hidden, jnp.ones(4))
  np.testing.assert_array_equal(value, 1.0)
  np.testing.assert_array_equal(cost_value, 0.0)


def test_values_of_a_model_without_them_are_refused(tiny_model, text):
  tiny = tiny_model()
  with pytest.raises(ValueError, match=r"model.value_heads=False: set it to True"):
    tiny.model.values(tiny.params, tiny.forward(*text), jnp.ones(4))


def test_confidence_features_of_a_known_distribution():
  """P = (1/2, 1/4, 1/4, 0): log-probs of the two largest, and 1.5 bits of entropy."""
  p = np.array([0.25, 0.5, 0.25])
  logits = jnp.array([*np.log(p) + 5.0, MASKED_LOGIT], jnp.float32).reshape(1, 1, 4)
  expected = [np.log(0.5), np.log(0.25), 1.5 * np.log(2)]
  np.testing.assert_allclose(confidence_features(logits, 2)[0, 0], expected, rtol=1e-5)
  assert np.isfinite(confidence_features(logits, 4)).all()
  gradient = jax.grad(lambda z: confidence_features(z, 2).sum())(logits)
  np.testing.assert_array_equal(gradient, 0.0)
