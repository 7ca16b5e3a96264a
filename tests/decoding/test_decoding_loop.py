"""The loop against a plain-Python decoder, with fake models that any wrong cache state derails."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from prefix_models import FNS, MODULUS, NumpyModel, greedy_decode, make_params, padded, sources
import pytest

from kdtw_jax import base
from kdtw_jax.decoding import Budget, Sampling, decode, make_decoder, make_policy

B, T = 6, 24
STUDENT = make_params(1, noise=0.7, eos_bias=-1.0)
TEACHER = make_params(2, noise=0.7, eos_bias=-1.0)
SOURCE = sources(B)
# What the student reads on top: rows 0-3 hash like the teacher's source, so that the models often
# agree; rows 4-5 differ, so that a source handed to the wrong model shows.
PROMPT = np.array([[MODULUS - 9, 9]] * 4 + [[5, 6]] * 2, np.int32)
STUDENT_SOURCE = np.concatenate([PROMPT, SOURCE], axis=1)
FREE = np.ones((B,), np.float32)  # a budget that forbids nothing


@functools.cache
def decoder_of(**settings):
  """One decoder per setting, so that the tests share compilations."""
  return make_decoder(FNS, FNS, **settings)


def run(policy, *, budget=FREE, rows=slice(None), key=None, max_length=T, chunk=3, **settings):
  decoder = decoder_of(max_length=max_length, chunk=chunk, **settings)
  key = jax.random.key(0) if key is None else key
  if not isinstance(budget, Budget):
    budget = budget[rows]
  out = decoder(STUDENT, TEACHER, STUDENT_SOURCE[rows], SOURCE[rows], budget, key, policy)
  return jax.tree.map(np.asarray, out)


def reference(ask_rule, max_length=T, budget=None):
  """Row by row: tokens, asks, and what the asks cost the teacher."""
  student, teacher = NumpyModel(STUDENT, max_length), NumpyModel(TEACHER, max_length)
  rows = []
  for b in range(B):
    emitted, asked, teacher_len = [], [], 0
    while len(emitted) < max_length and base.EOS_ID not in emitted:
      t = len(emitted)
      ask = ask_rule(student.gate(STUDENT_SOURCE[b], emitted))
      if budget is not None:
        ask = ask and (sum(asked) + 1) <= budget[b] * (t + 1) + 1e-5
      if ask:
        teacher_len = t + 1
        emitted.append(teacher.greedy(SOURCE[b], emitted))
      else:
        emitted.append(student.greedy(STUDENT_SOURCE[b], emitted))
      asked.append(ask)
    rows.append({"tokens": emitted, "asked": asked, "consumed": teacher_len})
  return rows


def alone(params, source, max_length=T):
  model = NumpyModel(params, max_length)
  return padded([greedy_decode(model, row, max_length) for row in source], max_length)


def test_the_fakes_are_worth_testing_with():
  student, teacher = alone(STUDENT, STUDENT_SOURCE), alone(TEACHER, SOURCE)
  lengths = (teacher != 0).sum(axis=1)
  assert (student != teacher).any(axis=1).all()
  assert len(set(lengths.tolist())) > 2 and lengths.max() == T > lengths.min()


@pytest.mark.parametrize("name,dial", [("student", None), ("handover", -1e6), ("random", 0.0)])
def test_never_asking_is_the_student_alone(name, dial):
  out = run(make_policy(name, dial))
  np.testing.assert_array_equal(out.tokens, alone(STUDENT, STUDENT_SOURCE))
  assert out.teacher_passes == 0 and out.teacher_calls.sum() == 0 and not out.asked.any()
  np.testing.assert_array_equal(out.student_row_steps, out.length)
  assert out.student_steps == out.length.max()


@pytest.mark.parametrize("name,dial", [("teacher", None), ("handover", 1e6), ("random", 1.0)])
def test_always_asking_is_the_teacher_alone(name, dial):
  out = run(make_policy(name, dial))
  np.testing.assert_array_equal(out.tokens, alone(TEACHER, SOURCE))
  np.testing.assert_array_equal(out.asked, out.tokens != base.PAD_ID)
  np.testing.assert_array_equal(out.written_by_teacher, out.asked)
  for count in (out.asks, out.teacher_calls, out.teacher_row_passes, out.teacher_tokens):
    np.testing.assert_array_equal(count, out.length)
  assert out.teacher_passes == out.length.max()
  assert name != "teacher" or out.student_steps == 0


@pytest.mark.parametrize("chunk", [1, 64, (1, 3, 6)])
@pytest.mark.parametrize("offset,wait", [(-1.2, 1.0), (0.3, 0.0), (0.3, 0.5)])
def test_handover_equals_the_reference(chunk, offset, wait):
  out = run(make_policy("handover", offset), chunk=chunk, wait=wait)
  rows = reference(lambda gate: gate + offset > 0)
  np.testing.assert_array_equal(out.tokens, padded([r["tokens"] for r in rows], T))
  np.testing.assert_array_equal(out.asked, padded([r["asked"] for r in rows], T).astype(bool))
  np.testing.assert_array_equal(out.asks, [sum(r["asked"]) for r in rows])
  np.testing.assert_array_equal(out.teacher_calls, out.asks)
  np.testing.assert_array_equal(out.teacher_row_passes, out.asks)
  np.testing.assert_array_equal(out.teacher_tokens, [r["consumed"] for r in rows])
  np.testing.assert_array_equal(out.student_row_steps, out.length)


def test_the_gate_is_recorded_where_the_token_was_written():
  out = run(make_policy("handover", 0.3))
  student = NumpyModel(STUDENT, T)
  for b in range(B):
    n = out.length[b]
    expected = [student.gate(STUDENT_SOURCE[b], out.tokens[b, :t].tolist()) for t in range(n)]
    np.testing.assert_allclose(out.gate_logits[b, :n], expected, rtol=1e-6)
    assert not out.gate_logits[b, n:].any()


def test_rows_are_independent_of_their_batch():
  policy = make_policy("handover", -0.5)
  whole = run(policy)
  for rows in (np.array([4, 0, 2, 5, 1, 3]), np.array([3])):
    part = run(policy, chunk=3, rows=rows)
    for name in part._fields:
      if name not in ("student_steps", "teacher_passes", "credit"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[rows], err_msg=name)


def test_finished_and_padding_rows_are_frozen():
  source = np.array(SOURCE)
  source[2] = base.PAD_ID
  decoder = decoder_of(max_length=T, chunk=3)
  args = (STUDENT_SOURCE, source, FREE, jax.random.key(0), make_policy("handover", 0.3))
  out, whole = decoder(STUDENT, TEACHER, *args), run(make_policy("handover", 0.3))
  others = np.arange(B) != 2
  np.testing.assert_array_equal(np.asarray(out.tokens)[others], whole.tokens[others])
  for name in ("tokens", "length", "asked", "asks", "student_row_steps", "teacher_tokens"):
    assert not np.asarray(getattr(out, name))[2].any(), name
  assert not out.ended[2]
  after_eos = np.cumsum(whole.tokens == base.EOS_ID, axis=1) - (whole.tokens == base.EOS_ID) > 0
  assert not whole.tokens[after_eos].any() and not whole.written_by_teacher[after_eos].any()
  np.testing.assert_array_equal(whole.ended, (whole.tokens == base.EOS_ID).any(axis=1))


@pytest.mark.parametrize("name,dial", [("handover", 0.3), ("teacher", None), ("speculative", 3)])
@pytest.mark.parametrize("max_length", [1, 4])
def test_max_length_cuts(name, dial, max_length):
  """Cutting at max_length gives the first tokens of the uncut output; the cache is then full."""
  out = run(make_policy(name, dial), max_length=max_length)
  whole = run(make_policy(name, dial))
  np.testing.assert_array_equal(out.tokens, whole.tokens[:, :max_length])
  np.testing.assert_array_equal(out.length, np.minimum(whole.length, max_length))


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_a_budget_by_prefix_holds_at_every_prefix(offset):
  budget = np.array([0.0, 0.1, 0.2, 0.3, 0.7, 1.0], np.float32)
  out = run(make_policy("handover", offset), budget=Budget(budget, form="prefix"))
  rows = reference(lambda gate: gate + offset > 0, budget=budget.astype(float))
  np.testing.assert_array_equal(out.tokens, padded([r["tokens"] for r in rows], T))
  prefix_asks = np.cumsum(out.asked, axis=1)
  tokens_so_far = np.arange(1, T + 1)[None, :]
  assert (prefix_asks <= budget[:, None] * tokens_so_far + 1e-5).all()
  if offset > 0:  # a gate that always wants to ask uses the budget up
    np.testing.assert_array_equal(
        out.asks, np.floor(budget.astype(np.float64) * out.length + 1e-5).astype(int)
    )
  free = run(make_policy("handover", offset), budget=budget)
  assert (free.asks > out.asks).any()


@pytest.mark.parametrize("k", [1, 3, 6, 40])
def test_speculative_decoding_is_the_teacher_greedy(k):
  out = run(make_policy("speculative", k), wait=1.0)
  np.testing.assert_array_equal(out.tokens, alone(TEACHER, SOURCE))
  assert not out.asked.any() and not out.asks.any()
  assert out.written_by_teacher.any()
  assert (out.teacher_calls < out.length).all() if k > 1 else True
  np.testing.assert_array_equal(out.teacher_row_passes, out.teacher_calls)
  assert out.teacher_passes == out.teacher_calls.max()


def speculative_reference(k, b):
  """Rounds of one row in plain Python: tokens, who wrote, calls, student steps, teacher tokens."""
  student, teacher = NumpyModel(STUDENT, T), NumpyModel(TEACHER, T)
  emitted, written, calls, steps, consumed = [], [], 0, 0, 0
  while len(emitted) < T and base.EOS_ID not in emitted:
    drafts = []
    while len(drafts) < min(k, T - len(emitted) - 1) and base.EOS_ID not in drafts:
      drafts.append(student.greedy(STUDENT_SOURCE[b], emitted + drafts))
      steps += 1
    calls += 1
    consumed += len(drafts) + 1
    for token in drafts:
      choice = teacher.greedy(SOURCE[b], emitted)
      if token != choice:
        break
      emitted.append(token)
      written.append(False)
    if base.EOS_ID not in emitted:
      emitted.append(teacher.greedy(SOURCE[b], emitted))
      written.append(True)
  return emitted, written, calls, steps, consumed


@pytest.mark.parametrize("k", [1, 3, 6])
def test_speculative_counters_equal_the_reference(k):
  out = run(make_policy("speculative", k))
  tokens, written, calls, steps, consumed = zip(
      *[speculative_reference(k, b) for b in range(B)], strict=True
  )
  np.testing.assert_array_equal(out.tokens, padded(tokens, T))
  np.testing.assert_array_equal(out.written_by_teacher, padded(written, T).astype(bool))
  np.testing.assert_array_equal(out.teacher_calls, calls)
  np.testing.assert_array_equal(out.student_row_steps, steps)
  np.testing.assert_array_equal(out.teacher_tokens, consumed)


def test_drafts_may_hold_eos():
  """A student that often drafts EOS, rightly and wrongly, changes nothing in the output."""
  student, teacher = make_params(3, eos_bias=3.0), make_params(4, eos_bias=2.0)
  source = sources(32, seed=5)
  decoder = make_decoder(FNS, FNS, max_length=T)
  args = (source, source, np.zeros((32,), np.float32), jax.random.key(0))
  out = decoder(student, teacher, *args, make_policy("speculative", 4))
  np.testing.assert_array_equal(out.tokens, alone(teacher, source))
  ended_by_student = (
      np.asarray(out.ended)
      & ~np.take_along_axis(
          np.asarray(out.written_by_teacher), np.asarray(out.length)[:, None] - 1, axis=1
      )[:, 0]
  )
  assert ended_by_student.any() and not ended_by_student.all()


def test_the_oracle_writes_what_the_teacher_writes_and_asks_less():
  out = run(make_policy("oracle", 0.0))
  np.testing.assert_array_equal(out.tokens, alone(TEACHER, SOURCE))
  assert (out.asks < out.length).all() and (out.asks > 0).all()
  np.testing.assert_array_equal(out.teacher_calls, out.length)
  tolerant = run(make_policy("oracle", 1.0))
  never = run(make_policy("oracle", 1e9))
  assert tolerant.asks.sum() / tolerant.length.sum() < out.asks.sum() / out.length.sum()
  np.testing.assert_array_equal(never.tokens, alone(STUDENT, STUDENT_SOURCE))


def test_a_sweep_of_a_dial_compiles_once():
  traces = []

  def counted(params, cache, tokens, positions):
    traces.append(1)
    return FNS.extend(params, cache, tokens, positions)

  decoder = make_decoder(FNS._replace(extend=counted), FNS, max_length=T)
  args = (STUDENT, TEACHER, STUDENT_SOURCE, SOURCE, FREE, jax.random.key(0))
  asks = [int(decoder(*args, make_policy("max_prob", d)).asks.sum()) for d in (0.1, 0.5, 0.9)]
  assert asks[0] < asks[1] < asks[2]
  once = len(traces)
  decoder(*args, make_policy("max_prob", 0.7))
  assert len(traces) == once and decoder._cache_size() == 1
  decoder(*args, make_policy("max_prob", np.full((B,), 0.7)))
  assert decoder._cache_size() == 2


def test_a_dial_may_differ_by_row():
  dial = np.array([-1e6, 1e6] * (B // 2), np.float32)
  out = run(make_policy("handover", dial))
  np.testing.assert_array_equal(out.tokens[::2], alone(STUDENT, STUDENT_SOURCE)[::2])
  np.testing.assert_array_equal(out.tokens[1::2], alone(TEACHER, SOURCE)[1::2])


def test_models_that_are_not_needed_may_be_absent():
  key = jax.random.key(0)
  only = make_decoder(FNS, None, max_length=T)
  out = only(STUDENT, None, STUDENT_SOURCE, None, FREE, key, make_policy("student"))
  np.testing.assert_array_equal(out.tokens, alone(STUDENT, STUDENT_SOURCE))
  only = make_decoder(None, FNS, max_length=T)
  out = only(None, TEACHER, None, SOURCE, FREE, key, make_policy("teacher"))
  np.testing.assert_array_equal(out.tokens, alone(TEACHER, SOURCE))
  with pytest.raises(ValueError, match="student_fns=None: policy 'handover' runs the student"):
    only(None, TEACHER, None, SOURCE, FREE, key, make_policy("handover"))


def test_sampling_uses_the_key_and_the_distribution():
  """At temperature 1 the first token follows the softmax; at 0 the key changes nothing."""
  batch = 4000
  source = np.broadcast_to(SOURCE[:1], (batch, 5))
  decoder = make_decoder(FNS, FNS, max_length=1, sampling=Sampling(temperature=1.0))
  args = (source, source, np.ones((batch,), np.float32))
  out = decoder(STUDENT, TEACHER, *args, jax.random.key(1), make_policy("handover", 1e6))
  model = NumpyModel(TEACHER, T)
  logits = model.logits[model.state(SOURCE[0], [])]
  probs = np.exp(logits - logits.max())
  counts = np.bincount(np.asarray(out.tokens)[:, 0], minlength=probs.size) / batch
  np.testing.assert_allclose(counts, probs / probs.sum(), atol=4 * 0.5 / np.sqrt(batch))
  first, second = (run(make_policy("handover", 0.0), key=jax.random.key(s)) for s in (1, 2))
  np.testing.assert_array_equal(first.tokens, second.tokens)


def test_sampled_gate_and_mixture_ask_at_their_rates():
  batch = 4000
  source = np.broadcast_to(SOURCE[:1], (batch, 5))
  gate = NumpyModel(STUDENT, T).gate(SOURCE[0], [])
  sigmoid = 1 / (1 + np.exp(-(gate + 0.5)))
  decoder = make_decoder(FNS, FNS, max_length=1)
  args = (STUDENT, TEACHER, source, source, np.ones((batch,), np.float32), jax.random.key(3))
  explore = np.where(np.arange(batch) < batch // 2, 0.0, 0.4).astype(np.float32)
  by_gate = decoder(*args, make_policy("handover", 0.5, sampled=True))
  mixed = decoder(*args, make_policy("mixture", explore, offset=0.5))
  coin = decoder(*args, make_policy("random", explore))
  half = np.asarray(mixed.asks)[: batch // 2], np.asarray(mixed.asks)[batch // 2 :]
  tolerance = 4 * 0.5 / np.sqrt(batch // 2)
  assert abs(np.asarray(by_gate.asks).mean() - sigmoid) < tolerance
  assert abs(half[0].mean() - sigmoid) < tolerance
  assert abs(half[1].mean() - (1 - 0.6 * (1 - sigmoid))) < tolerance
  assert not coin.asks[: batch // 2].any()
  assert abs(np.asarray(coin.asks)[batch // 2 :].mean() - 0.4) < tolerance


@pytest.mark.parametrize(
    "name,dial,settings,message",
    [
        ("handover", 0.0, {"chunk": 0}, "chunk=0: must be >= 1"),
        ("handover", 0.0, {"max_length": 0}, "max_length=0: must be >= 1"),
        ("handover", 0.0, {"wait": 1.5}, "wait=1.5: must be a share"),
        ("handover", 0.0, {"sampling": Sampling(-1.0)}, "temperature=-1.0: must be >= 0"),
        ("handover", 0.0, {"sampling": Sampling(1.0, 0.0)}, "top_p=0.0: must be in"),
        ("speculative", 0, {}, "dial=0: k of policy .speculative. is a whole number"),
        ("teacher", None, {"form": "hard"}, "cannot write on without the teacher"),
        ("prompt_lookup", 2, {"form": "ledger"}, "cannot write on without the teacher"),
        ("cascade_opt", 0.2, {"form": "paced"}, "cannot write on without the teacher"),
        ("random", 0.3, {"key": None}, "key=None: policy 'random' or the sampling draws"),
        ("student", None, {"key": None, "sampling": Sampling(1.0)}, "key=None"),
    ],
)
def test_impossible_settings_are_refused(name, dial, settings, message):
  settings = {"max_length": T, "key": jax.random.key(0), **settings}
  key, form = settings.pop("key"), settings.pop("form", "share")
  with pytest.raises(ValueError, match=message):
    decode(
        FNS,
        FNS,
        STUDENT,
        TEACHER,
        STUDENT_SOURCE,
        SOURCE,
        Budget(jnp.zeros((B,)), form=form),
        key,
        make_policy(name, dial),
        **settings,
    )
