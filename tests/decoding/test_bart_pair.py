"""The decoding loop with decoders that are given tokens: these are no outputs and no calls."""

import functools

from compiled_loops import copies_in_loops
import jax
import numpy as np
import pytest
from random_pair import ended_sources, lively, written_alone

from kdtw_jax import base
from kdtw_jax.decoding import make_decoder, make_policy
from kdtw_jax.models import ModelConfig, build

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
  return lively(STUDENT, 0), lively(TEACHER, 1)


def sources():
  return ended_sources(B, S, V)


def decoder(chunk=3, pass_rows=None):
  fns = STUDENT.decoder_fns, TEACHER.decoder_fns
  return make_decoder(*fns, max_length=T, chunk=chunk, pass_rows=pass_rows)


def run(name, dial=None, pass_rows=None):
  args = (*params(), *sources(), np.ones((B,), np.float32), jax.random.key(0))
  return jax.tree.map(np.asarray, decoder(3, pass_rows)(*args, make_policy(name, dial)))


@pytest.mark.parametrize("name, dial, pass_rows", [("handover", 1e9, None), ("speculative", 3, 1)])
def test_who_always_has_the_teacher_writes_its_output(name, dial, pass_rows):
  expected = written_alone(TEACHER, params()[1], sources()[1], T)
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
