"""Readout and loss by chunks: exact values and gradients, and no whole logits."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdtw_jax import distributions, losses

B, T, D, V = 2, 37, 8, 512


def arrays():
  rng = np.random.default_rng(0)
  table = rng.normal(size=(D, V)).astype(np.float32)
  hidden, teacher = rng.normal(size=(2, B, T, D)).astype(np.float32)
  tokens = rng.integers(0, V, size=(B, T))
  return table, hidden, teacher, tokens


def per_token(table, hidden, teacher, tokens):
  logits, teacher_logits = hidden @ table, teacher @ table
  return {
      "taken": losses.taken_log_probs(logits, tokens),
      "kl": losses.reverse_kl(teacher_logits, logits),
      "pair": jnp.stack(
          [distributions.entropy(logits), distributions.log_prob_gap(teacher_logits, logits)], -1
      ),
  }


def chunked(table, hidden, teacher, tokens, size):
  return losses.over_sequence_chunks(
      lambda h, t, y: per_token(table, h, t, y), hidden, teacher, tokens, chunk_size=size
  )


def results_and_gradients(fn):
  table, hidden, teacher, tokens = arrays()
  weights = np.random.default_rng(1).normal(size=(B, T)).astype(np.float32)

  def loss(table, hidden, teacher):
    out = fn(table, hidden, teacher, tokens)
    return jnp.sum(weights * (out["taken"] + out["kl"] * out["pair"][..., 0])), out

  grad = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))
  (_, results), grads = grad(table, hidden, teacher)
  return results, grads


@pytest.fixture(scope="module")
def plain():
  return results_and_gradients(per_token)


@pytest.mark.parametrize("size", [0, 1, 8, 1000])
def test_values_and_gradients_are_those_of_the_plain_call(size, plain):
  want, want_grads = plain
  got, got_grads = results_and_gradients(lambda *args: chunked(*args, size))
  assert got["pair"].shape == (B, T, 2)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), got, want)
  for a, b in zip(got_grads, want_grads, strict=True):
    np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4)


def test_padding_up_to_a_chunk_gives_no_gradient_even_where_zeros_would():
  """A function whose gradient does not exist at zero, as that of a norm without epsilon."""
  hidden = jnp.ones((1, 3, 4))

  def loss(hidden):
    return jnp.sum(
        losses.over_sequence_chunks(
            lambda h: jnp.sqrt(jnp.sum(h**2, axis=-1)), hidden, chunk_size=2
        )
    )

  np.testing.assert_allclose(jax.grad(loss)(hidden), 0.5, rtol=1e-6)


def largest_buffer(program):
  """Most elements of any array in the compiled program."""
  sizes = [
      np.prod([int(n) for n in shape.split(",")])
      for shape in re.findall(r"\b(?:f32|bf16|f64|s32|pred)\[([\d,]+)\]", program)
  ]
  return max(sizes)


def compiled(fn):
  def loss(table, hidden, teacher, tokens):
    out = fn(table, hidden, teacher, tokens)
    return jnp.sum(out["taken"] - out["kl"])

  return jax.jit(jax.value_and_grad(loss, argnums=(0, 1))).lower(*arrays()).compile().as_text()


def test_no_buffer_holds_the_logits_of_all_tokens():
  assert largest_buffer(compiled(per_token)) >= B * T * V
  size = 4
  assert largest_buffer(compiled(lambda *args: chunked(*args, size))) <= max(B * size * V, D * V)


def test_impossible_values_are_refused():
  table, hidden, teacher, tokens = arrays()
  with pytest.raises(ValueError, match="chunk_size=-1"):
    chunked(table, hidden, teacher, tokens, -1)
  with pytest.raises(ValueError, match=r"shape \(2, 8, 5\).*first axes must be \(2, 5\)"):
    losses.over_sequence_chunks(lambda h: jnp.swapaxes(h, 1, 2), hidden, chunk_size=5)
