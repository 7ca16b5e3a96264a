"""The loop with real tiny encoder-decoders: the same equalities as with the fakes, in float32."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_pair import lively

from kdtw_jax import base
from kdtw_jax.decoding import decode, make_decoder, make_policy
from kdtw_jax.models.config import ModelConfig
from kdtw_jax.models.functional import build, shift_right

B, T, S, V = 3, 13, 6, 31
STUDENT_CONFIG = ModelConfig(
    vocab_size=V,
    d_model=16,
    d_ff=24,
    num_heads=2,
    d_kv=7,
    num_encoder_layers=1,
    num_decoder_layers=1,
    tau_id=3,
    gate="mlp",
    gate_hidden=8,
    tie_embeddings=False,
)
TEACHER_CONFIG = ModelConfig(
    vocab_size=V,
    d_model=16,
    d_ff=28,
    num_heads=2,
    d_kv=7,
    num_encoder_layers=1,
    num_decoder_layers=2,
    tau_id=3,
    tie_embeddings=False,
)
STUDENT, TEACHER = build(STUDENT_CONFIG), build(TEACHER_CONFIG)


@functools.cache
def params():
  return lively(STUDENT, 0), lively(TEACHER, 1)


def sources():
  source = np.random.default_rng(0).integers(4, V, (B, S)).astype(np.int32)
  source[1, 4:] = base.PAD_ID
  return np.concatenate([np.full((B, 2), 7, np.int32), source], axis=1), source


def run(policy, *, chunk=2, max_length=T, eager=False, pass_rows=None):
  decoder = decoder_of(chunk, max_length, eager, pass_rows)
  args = (*params(), *sources(), np.zeros((B,), np.float32), jax.random.key(0))
  return jax.tree.map(np.asarray, decoder(*args, policy))


@functools.cache
def decoder_of(chunk, max_length, eager=False, pass_rows=None):
  settings = dict(max_length=max_length, chunk=chunk, eager=eager, pass_rows=pass_rows)
  return make_decoder(STUDENT.decoder_fns, TEACHER.decoder_fns, **settings)


@functools.partial(jax.jit, static_argnums=0)
def full_forward(model, weights, source, targets):
  """Logits at each position of one teacher-forced pass: no cache, no loop."""
  hidden = model.hidden(weights, model.encode(weights, source), shift_right(targets))
  return model.logits(weights, hidden).at[..., base.PAD_ID].set(base.MASKED_LOGIT)


@functools.cache
def threshold():
  """A max-prob threshold under which about a third of the tokens lie: lags of all lengths."""
  source, _ = sources()
  out = run(make_policy("max_prob", 0.0))
  logits = full_forward(STUDENT, params()[0], source, out.tokens)
  probs = np.asarray(jax.nn.softmax(logits, axis=-1).max(axis=-1))
  return float(np.quantile(probs[out.tokens != base.PAD_ID], 0.35))


@pytest.mark.parametrize("name", ["max_prob", "verify_max_prob"])
def test_sources_read_late_and_passes_over_two_rows_change_nothing(name):
  whole, out = (run(make_policy(name, threshold()), pass_rows=rows) for rows in (None, 2))
  np.testing.assert_array_equal(out.tokens, whole.tokens)
  np.testing.assert_array_equal(out.teacher_calls, whole.teacher_calls)
  assert whole.teacher_calls.any()


def test_every_token_is_its_writers_choice_by_a_full_forward():
  """Position by position, against teacher-forced passes over the output."""
  out = run(make_policy("max_prob", threshold()))
  of_student, of_teacher = (
      np.argmax(full_forward(model, weights, source, out.tokens), axis=-1)
      for model, weights, source in zip((STUDENT, TEACHER), params(), sources(), strict=True)
  )
  valid = out.tokens != base.PAD_ID
  expected = np.where(out.written_by_teacher, of_teacher, of_student)
  np.testing.assert_array_equal(out.tokens[valid], expected[valid])
  assert 0 < out.asks.sum() < out.length.sum()
  assert (of_student != of_teacher)[valid].any()
  assert (out.teacher_tokens > out.teacher_calls).any()  # some tokens were caught up on


def test_never_and_always_asking_are_the_single_models():
  teacher, student = run(make_policy("teacher")), run(make_policy("student"))
  np.testing.assert_array_equal(run(make_policy("max_prob", 0.0)).tokens, student.tokens)
  np.testing.assert_array_equal(run(make_policy("max_prob", 1.1)).tokens, teacher.tokens)
  assert (student.tokens != teacher.tokens).any(axis=1).all()
  assert max(len(set(row.tolist())) for row in teacher.tokens) > 4


def shaken(key):
  return lambda leaf: leaf * (1 + 0.05 * jax.random.normal(key, leaf.shape))


@pytest.mark.parametrize("k", [3])
def test_speculative_decoding_is_the_teacher_greedy(k):
  """A student that is the teacher with noise on its weights: drafts both right and wrong."""
  _, weights = params()
  noise = jax.random.key(9)
  draft_weights = jax.jit(functools.partial(jax.tree.map, shaken(noise)))(weights)
  fns, source = TEACHER.decoder_fns, sources()[1]
  decoder = jax.jit(functools.partial(decode, fns, fns, max_length=T))
  args = (draft_weights, weights, source, source, jnp.zeros((B,)), jax.random.key(0))
  out = decoder(*args, make_policy("speculative", k))
  np.testing.assert_array_equal(out.tokens, run(make_policy("teacher")).tokens)
  by_student = np.asarray(out.length - out.written_by_teacher.sum(axis=1))
  assert by_student.any() and (np.asarray(out.student_row_steps) > by_student).any()


def test_rows_are_independent_of_their_batch():
  policy, rows = make_policy("max_prob", threshold()), np.array([2, 0, 2])
  whole = run(policy)
  args = (*params(), *(s[rows] for s in sources()), np.zeros((B,), np.float32), jax.random.key(0))
  part = decoder_of(2, T)(*args, policy)
  np.testing.assert_array_equal(part.tokens, whole.tokens[rows])
  np.testing.assert_array_equal(part.teacher_tokens, whole.teacher_tokens[rows])


@pytest.mark.parametrize("name", ["max_prob", "oracle", "speculative", "student"])
def test_an_eager_teacher_changes_neither_tokens_nor_counts_per_row(name):
  dials = {"max_prob": threshold(), "oracle": 0.5, "speculative": 2}
  policy = make_policy(name, *([dials[name]] if name in dials else []))
  lazy, eager = (run(policy, eager=eager) for eager in (False, True))
  assert name in ("student", "speculative") or 0 < lazy.asks.sum() < lazy.length.sum()
  for field in lazy._fields:
    if field not in ("teacher_passes", "student_steps", "gate_logits"):  # of the whole batch
      np.testing.assert_array_equal(getattr(lazy, field), getattr(eager, field), field)
  np.testing.assert_allclose(lazy.gate_logits, eager.gate_logits, atol=1e-5)
