"""The decoding loop with decoders that are given tokens: these are no outputs and no calls."""

import functools

from compiled_loops import copies_in_loops
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdtw_jax import base
from kdtw_jax.decoding import make_decoder, make_policy
from kdtw_jax.models import ModelConfig, build, shift_right

B, T, S, V = 3, 12, 7, 31
SHARED = {
    "kind": "bart",
    "vocab_size": V,
    "tau_id": 3,
    "prompt_prefix": (20,),
    "prompt_suffix": (base.EOS_ID, 22),
    "decoder_prefix": (base.EOS_ID, 23),
    "num_encoder_layers": 1,
    "num_decoder_layers": 1,
    "num_heads": 2,
}
STUDENT = build(ModelConfig(**SHARED, d_model=16, d_ff=24, d_kv=8, gate="mlp", gate_hidden=8))
TEACHER = build(ModelConfig(**SHARED, d_model=20, d_ff=40, d_kv=10, positions="m2m"))


@functools.cache
def params():
  """Random params, scaled so that an untrained model does not repeat one token for ever."""
  return tuple(
      jax.tree.map(lambda leaf: 2.5 * leaf, jax.jit(model.init)(jax.random.key(seed)))
      for seed, model in enumerate((STUDENT, TEACHER))
  )


def sources():
  """The student reads two tokens more; rows have unequal lengths."""
  source = np.random.default_rng(0).integers(4, V, (B, S)).astype(np.int32)
  source[1, 4:] = base.PAD_ID
  source[[0, 1, 2], [S - 1, 3, S - 1]] = base.EOS_ID
  return np.concatenate([np.full((B, 2), 7, np.int32), source], axis=1), source


def decoder(chunk=3, pass_rows=None):
  fns = STUDENT.decoder_fns, TEACHER.decoder_fns
  return make_decoder(*fns, max_length=T, chunk=chunk, pass_rows=pass_rows)


def run(name, dial=None, pass_rows=None):
  args = (*params(), *sources(), np.ones((B,), np.float32), jax.random.key(0))
  return jax.tree.map(np.asarray, decoder(3, pass_rows)(*args, make_policy(name, dial)))


@functools.cache
def written_alone() -> np.ndarray:
  """The teacher's greedy tokens `[B, T]` by passes over everything, without a cache or a loop."""
  model, weights, source = TEACHER, params()[1], sources()[1]
  tokens = np.zeros((B, T), np.int32)

  @jax.jit
  def following(targets):
    hidden = model.hidden(weights, model.encode(weights, source), shift_right(targets))
    return jnp.argmax(model.logits(weights, hidden).at[..., base.PAD_ID].set(-1e9), axis=-1)

  done = np.zeros(B, bool)
  for t in range(T):
    tokens[:, t] = np.where(done, base.PAD_ID, following(tokens)[:, t])
    done |= tokens[:, t] == base.EOS_ID
  return tokens


@pytest.mark.parametrize("name, dial, pass_rows", [("handover", 1e9, None), ("speculative", 3, 1)])
def test_who_always_has_the_teacher_writes_its_output(name, dial, pass_rows):
  expected = written_alone()
  assert len(np.unique(expected)) > 5  # and not one token for ever
  found = run(name, dial, pass_rows)
  np.testing.assert_array_equal(found.tokens, expected)
  if name == "handover":  # each output token is a call, and what is given is none
    np.testing.assert_array_equal(found.teacher_calls, (expected != base.PAD_ID).sum(axis=1))


def test_no_loop_copies_a_cache():
  weights = tuple(jax.eval_shape(m.init, jax.random.key(0)) for m in (STUDENT, TEACHER))
  args = (*weights, *sources(), np.zeros((B,), np.float32), jax.random.key(0))
  hlo = decoder(chunk=4).lower(*args, make_policy("verify", 0.0)).compile().as_text()
  shapes = {
      shape
      for model in (STUDENT.config, TEACHER.config)
      for shape in ((B, 2, model.d_kv, T + 2), (B, 2, T + 2, model.d_kv))
  }
  assert all(str(list(shape)).replace(" ", "") in hlo for shape in shapes)
  assert not copies_in_loops(hlo, shapes)
