"""The decoding loop with causal models: what it writes is what they write without it."""

import functools

from compiled_loops import copies_in_loops
import jax
import numpy as np
import pytest
from random_pair import ended_sources, lively, written_alone

from kdtw_jax import base
from kdtw_jax.decoding import make_decoder, make_policy
from kdtw_jax.models import ModelConfig, build

B, T, S, V = 3, 13, 7, 31
SHARED = {
    "kind": "causal",
    "vocab_size": V,
    "feed_forward": "gated-silu",
    "tie_embeddings": False,
    "tau_id": 3,
    "prompt_prefix": (20,),
    "prompt_suffix": (21, 22),
}
STUDENT = build(
    ModelConfig(
        **SHARED,
        d_model=16,
        d_ff=24,
        num_heads=2,
        d_kv=10,
        num_decoder_layers=1,
        gate="mlp",
        gate_hidden=8,
    )
)
TEACHER = build(
    ModelConfig(
        **SHARED,
        d_model=24,
        d_ff=40,
        num_heads=4,
        num_key_heads=2,
        d_kv=14,
        num_decoder_layers=2,
        windows=(0, 6),
    )
)


@functools.cache
def params():
  return lively(STUDENT, 0), lively(TEACHER, 1)


def sources():
  return ended_sources(B, S, V)


def run(name, dial=None, pass_rows=None, **fields):
  decoder = make_decoder(
      STUDENT.decoder_fns, TEACHER.decoder_fns, max_length=T, chunk=3, pass_rows=pass_rows
  )
  args = (*params(), *sources(), np.ones((B,), np.float32), jax.random.key(0))
  return jax.tree.map(np.asarray, decoder(*args, make_policy(name, dial, **fields)))


def test_each_alone_writes_its_greedy_output():
  student, teacher = sources()
  for name, model, weights, source in (
      ("student", STUDENT, params()[0], student),
      ("teacher", TEACHER, params()[1], teacher),
  ):
    expected = written_alone(model, weights, source, T)
    np.testing.assert_array_equal(run(name).tokens, expected)
    assert len(np.unique(expected)) > 5  # and not one token for ever


@pytest.mark.parametrize("pass_rows", [None, 1, 2])
@pytest.mark.parametrize("name, dial", [("speculative", 3), ("handover", 1e9)])
def test_who_always_has_the_teacher_writes_its_output(name, dial, pass_rows):
  expected = written_alone(TEACHER, params()[1], sources()[1], T)
  np.testing.assert_array_equal(run(name, dial, pass_rows).tokens, expected)


def test_smaller_passes_write_what_whole_ones_write():
  for name, fields in (("verify", {"rule": "max_prob"}), ("margin", {})):
    whole, parts = (run(name, 0.5, pass_rows, **fields) for pass_rows in (None, 2))
    np.testing.assert_array_equal(whole.tokens, parts.tokens)
    np.testing.assert_array_equal(whole.written_by_teacher, parts.written_by_teacher)
    assert 0 < whole.written_by_teacher.sum() < (whole.tokens != base.PAD_ID).sum()


@pytest.mark.parametrize("name, dial", [("handover", 0.0), ("speculative", 3), ("verify", 0.0)])
def test_no_loop_copies_a_cache(name, dial):
  decoder = make_decoder(STUDENT.decoder_fns, TEACHER.decoder_fns, max_length=T, chunk=4)
  weights = tuple(jax.eval_shape(m.init, jax.random.key(0)) for m in (STUDENT, TEACHER))
  args = (*weights, *sources(), np.zeros((B,), np.float32), jax.random.key(0))
  hlo = decoder.lower(*args, make_policy(name, dial)).compile().as_text()
  shapes = {
      shape
      for model in (STUDENT.config, TEACHER.config)
      for shape in ((B, model.key_heads, model.d_kv, T), (B, model.key_heads, T, model.d_kv))
  }
  assert not copies_in_loops(hlo, shapes)
