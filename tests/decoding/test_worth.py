"""Policies that check whole drafts: who gets help, until when, and what it costs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from prefix_models import FNS, MODULUS, NumpyModel, greedy_decode, make_params, padded, sources
import pytest

from kdtw_jax import base
from kdtw_jax.decoding import Sampling, make_decoder, make_policy, signals

B, T = 8, 20
STUDENT = make_params(1, noise=0.6, eos_bias=0.3)
TEACHER = make_params(2, noise=0.6, eos_bias=0.3)
SOURCE = sources(B)
STUDENT_SOURCE = np.concatenate([np.array([[MODULUS - 9, 9]] * B, np.int32), SOURCE], axis=1)


@functools.cache
def decoder_of(wait):
  return make_decoder(FNS, FNS, max_length=T, chunk=4, wait=wait)


def run(policy, wait=0.5):
  args = (STUDENT, TEACHER, STUDENT_SOURCE, SOURCE, np.ones(B, np.float32), jax.random.key(0))
  return jax.tree.map(np.asarray, decoder_of(wait)(*args, policy))


def reference(b, decide, tolerance, advised):
  """One row in plain Python; `decide(draft signals, calls, length) -> bool`.

  Returns:
    The tokens, the positions that the teacher wrote, the number of calls, and a student's fewest
    steps.
  """
  student, teacher = NumpyModel(STUDENT, T), NumpyModel(TEACHER, T)
  kept, calls, steps, old, said, written = [], 0, 0, [], {}, set()
  while True:
    tokens, gaps, margins = list(kept), [], []
    while len(tokens) < T and base.EOS_ID not in tokens:
      t = len(tokens)
      logits = student.logits[student.state(STUDENT_SOURCE[b], tokens)]
      choice, steps = int(np.argmax(logits)), steps + 1
      written.discard(t)
      if advised and t in said and choice == old[t]:
        tokens.append(said[t])
        written.add(t)
        continue
      gaps.append(max(student.gate(STUDENT_SOURCE[b], tokens), 0.0))
      p = np.sort(np.exp(logits - np.logaddexp.reduce(logits)))
      margins.append(1 - (p[-1] - p[-2]))
      tokens.append(choice)
    signs = {"gap": sum(gaps), "margin": sum(margins), "tokens": len(gaps)}
    if not decide(signs, calls, len(tokens)):
      return tokens, written, calls, steps
    calls += 1
    seen = [teacher.logits[teacher.state(SOURCE[b], tokens[:t])] for t in range(len(tokens))]
    short = [seen[t].max() - seen[t][token] > tolerance for t, token in enumerate(tokens)]
    first = next((t for t in range(len(kept), len(tokens)) if short[t]), None)
    if first is None:
      return tokens, written, calls, steps
    kept = [*tokens[:first], int(np.argmax(seen[first]))]
    written.add(first)
    old, said = tokens, {t: int(np.argmax(seen[t])) for t in range(first + 1, len(tokens))}
    if len(kept) == T or kept[-1] == base.EOS_ID:
      return kept, written, calls, steps


CASES = [
    ("worth", 0.5, {}, lambda s, calls, n: s["gap"] - 0.5 * (1 + n / 5) > 0, 0.5),
    ("worth", 1.0, {"tolerance": 0.0}, lambda s, calls, n: s["gap"] - 1.0 * (1 + n / 5) > 0, 0.0),
    ("route_gap", 3.0, {}, lambda s, calls, n: calls > 0 or s["gap"] <= 3.0, 0.5),
    (
        "route_gap",
        5.0,
        {"skip": 1.0},
        lambda s, calls, n: s["gap"] > 1.0 and (calls > 0 or s["gap"] <= 5.0),
        0.5,
    ),
    ("route_margin_hard", 6.0, {}, lambda s, calls, n: calls > 0 or s["margin"] > 6.0, 0.5),
    ("calls_each", 2.0, {}, lambda s, calls, n: calls < 2, 0.5),
    ("route_length", 9.0, {}, lambda s, calls, n: calls > 0 or s["tokens"] <= 9, 0.5),
]


@pytest.mark.parametrize("advised", [False, True])
@pytest.mark.parametrize("wait", [0.0, 1.0])
@pytest.mark.parametrize("name,dial,fields,decide,tolerance", CASES)
def test_help_equals_the_reference(name, dial, fields, decide, tolerance, wait, advised):
  out = run(make_policy(name, dial, advised=advised, **fields), wait)
  rows = [reference(b, decide, tolerance, advised) for b in range(B)]
  tokens, written, calls, steps = zip(*rows, strict=True)
  np.testing.assert_array_equal(out.tokens, padded(list(tokens), T))
  np.testing.assert_array_equal(out.teacher_calls, calls)
  assert len(set(calls)) > 1
  assert (out.student_row_steps >= steps).all()
  found = [set(np.flatnonzero(row).tolist()) for row in out.written_by_teacher]
  assert found == [{t for t in ts if t < len(own)} for ts, own in zip(written, tokens, strict=True)]


def test_help_for_all_without_tolerance_is_the_teacher_and_for_none_the_student():
  exact = run(make_policy("route_gap", 1e6, tolerance=0.0))
  advised = run(make_policy("route_gap", 1e6, tolerance=0.0, advised=True))
  np.testing.assert_array_equal(advised.tokens, exact.tokens)
  teacher = [greedy_decode(NumpyModel(TEACHER, T), row, T) for row in SOURCE]
  np.testing.assert_array_equal(exact.tokens, padded(teacher, T))
  nobody = run(make_policy("worth", 1e6))
  student = [greedy_decode(NumpyModel(STUDENT, T), row, T) for row in STUDENT_SOURCE]
  np.testing.assert_array_equal(nobody.tokens, padded(student, T))
  assert nobody.teacher_passes == 0 and exact.teacher_calls.all()


def test_patience_saves_student_steps_and_still_checks():
  patient, hasty = (
      run(make_policy("worth", 0.1, tolerance=0.0, patience=p)) for p in (np.inf, 1.0)
  )
  assert hasty.student_row_steps.sum() < patient.student_row_steps.sum()
  assert hasty.asked.any() and not patient.asked.any()


def test_drawn_drafts_heed_no_advice():
  """What the teacher would have chosen is no draw of its."""
  draw = make_decoder(FNS, FNS, max_length=T, sampling=Sampling(temperature=1.0))
  args = (STUDENT, TEACHER, STUDENT_SOURCE, SOURCE, np.ones(B, np.float32), jax.random.key(3))
  plain, advised = (
      draw(*args, make_policy("route_gap", 1e6, advised=heeds)) for heeds in (False, True)
  )
  np.testing.assert_array_equal(plain.tokens, advised.tokens)
  assert plain.teacher_calls.max() > 1


def test_signals_are_sums_over_the_draft():
  logits = jnp.log(jnp.array([[0.5, 0.3, 0.2], [0.9, 0.05, 0.05]]))
  found = signals.zeros(2, 4)
  for rows, gap in (([True, True], 2.0), ([True, False], -1.0)):
    found = signals.add(
        found,
        jnp.array(rows),
        token=jnp.array([1, 0]),
        logits=logits,
        hidden=jnp.ones((2, 4)) * gap,
        gap=jnp.full(2, gap),
    )
  named = dict(zip(signals.NAMES, np.asarray(found.values).T, strict=True))
  np.testing.assert_array_equal(named["tokens"], [2, 1])
  np.testing.assert_array_equal(named["gap"], [2.0, 2.0])  # a negative gap counts as 0
  np.testing.assert_allclose(named["surprisal"], [-2 * np.log(0.3), -np.log(0.9)], rtol=1e-5)
  np.testing.assert_allclose(named["margin"], [2 * (1 - 0.2), 1 - 0.85], rtol=1e-5)
  np.testing.assert_allclose(named["doubt"], [1.0, 0.1], rtol=1e-5)
  entropy = -np.sum(np.exp(logits) * np.asarray(logits), axis=1)
  np.testing.assert_allclose(named["entropy"], entropy * [2, 1], rtol=1e-5)
  np.testing.assert_allclose(named["largest_entropy"], entropy, rtol=1e-5)
  last, mean, values = signals.features(found, jnp.array([7, 8]), jnp.array([1, 0]))
  np.testing.assert_array_equal(last[:, 0], [-1.0, 2.0])
  np.testing.assert_array_equal(mean[:, 0], [0.5, 2.0])
  np.testing.assert_array_equal(values[:, -2:], [[7, 1], [8, 0]])
  assert not np.asarray(signals.clear(found, jnp.array([True, False])).values)[0].any()
