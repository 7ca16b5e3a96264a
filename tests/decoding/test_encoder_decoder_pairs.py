"""The loop with decoders that are given tokens, which are no outputs and no calls, and T5Gemma."""

import functools

from compiled_loops import copies_in_loops
import jax
import numpy as np
import pytest
from random_pair import ended_sources, lively, written_alone

from kdtw_jax import base
from kdtw_jax.decoding import make_decoder, make_policy
from kdtw_jax.models import ModelConfig, build
from kdtw_jax.models.config_checks import GEMMA_BLOCKS

B, T, S, V = 3, 12, 7, 31
SHARED = {
    "vocab_size": V,
    "tau_id": 3,
    "num_encoder_layers": 1,
    "num_decoder_layers": 1,
    "num_heads": 2,
    "d_model": 16,
    "d_ff": 24,
    "d_kv": 8,
}
LARGER = {"d_model": 20, "d_ff": 40, "d_kv": 10}
BART = {
    "kind": "bart",
    "prompt_prefix": (20,),
    "prompt_suffix": (base.EOS_ID, 22),
    "decoder_prefix": (base.EOS_ID, 23),
}
GEMMA = {
    "kind": "t5gemma",
    "feed_forward": "gated-gelu",
    **GEMMA_BLOCKS,
    "windows": (4,),
    "prompt_prefix": (20,),
    "prompt_suffix": (21, 22),
}
ASKS = {"gate": "mlp", "gate_hidden": 8}
PAIRS = {  # fields of the student and of the teacher
    "bart": (BART, {**BART, "positions": "m2m"}),
    "t5gemma": (
        {**GEMMA, "merged_attention": True},
        {**GEMMA, "qk_norm": False, "tie_embeddings": False, "encoder": (("windows", (2,)),)},
    ),
}


@functools.cache
def models(kind):
  """(student, teacher)."""
  student, teacher = PAIRS[kind]
  return build(ModelConfig(**SHARED, **student, **ASKS)), build(
      ModelConfig(**{**SHARED, **LARGER, **teacher})
  )


@functools.cache
def params(kind):
  return tuple(lively(model, seed) for seed, model in enumerate(models(kind)))


def sources():
  return ended_sources(B, S, V)


def decoder(kind, chunk=3, pass_rows=None):
  fns = (model.decoder_fns for model in models(kind))
  return make_decoder(*fns, max_length=T, chunk=chunk, pass_rows=pass_rows)


def run(kind, name, dial=None, pass_rows=None):
  args = (*params(kind), *sources(), np.ones((B,), np.float32), jax.random.key(0))
  return jax.tree.map(np.asarray, decoder(kind, 3, pass_rows)(*args, make_policy(name, dial)))


@functools.cache
def teachers_output(kind):
  return written_alone(models(kind)[1], params(kind)[1], sources()[1], T)


@pytest.mark.parametrize(
    "kind, name, dial, pass_rows",
    [
        ("bart", "handover", 1e9, None),
        ("bart", "speculative", 3, 1),
        ("t5gemma", "speculative", 3, 1),
    ],
)
def test_who_always_has_the_teacher_writes_its_output(kind, name, dial, pass_rows):
  expected = teachers_output(kind)
  assert len(np.unique(expected)) > 5  # and not one token for ever
  found = run(kind, name, dial, pass_rows)
  np.testing.assert_array_equal(found.tokens, expected)
  if name == "handover":  # each output token is a call, and what is given is none
    np.testing.assert_array_equal(found.teacher_calls, (expected != base.PAD_ID).sum(axis=1))


@pytest.mark.parametrize("kind", PAIRS)
def test_no_loop_copies_a_cache(kind):
  weights = tuple(jax.eval_shape(m.init, jax.random.key(0)) for m in models(kind))
  args = (*weights, *sources(), np.zeros((B,), np.float32), jax.random.key(0))
  hlo = decoder(kind, chunk=4).lower(*args, make_policy("verify", 0.0)).compile().as_text()
  shapes = set()
  for model in models(kind):
    length = T + len(model.config.decoder_prefix)
    shapes |= {(B, 2, model.config.d_kv, length), (B, 2, length, model.config.d_kv)}
  assert all(str(list(shape)).replace(" ", "") in hlo for shape in shapes)
  assert not copies_in_loops(hlo, shapes)
