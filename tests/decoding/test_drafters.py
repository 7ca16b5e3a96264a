"""Policies that draft and check: exact where they claim it, in distribution where they draw."""

from drafting_pair import (
    MANY,
    SHORT,
    SOURCE,
    STUDENT,
    STUDENT_SOURCE,
    TEACHER,
    B,
    T,
    alone,
    assert_drawn_from,
    counted,
    decoder_of,
    joint,
    of_teacher,
    probs,
    run,
    softmax,
)
import jax
import jax.numpy as jnp
import numpy as np
from prefix_models import VOCABULARY, NumpyModel, padded
import pytest
import scipy.stats

from kdtw_jax import base
from kdtw_jax.decoding import Budget, PromptLookup, make_policy
from kdtw_jax.decoding.policies import cascades

EXACT = [
    ("lenient", 1.0, {}),
    ("lenient", 1.0, {"k": 7}),
    ("prompt_lookup", 4, {}),
    *[(f"cascade_{rule}", -2.0, {}) for rule in cascades.RULES],
    ("cascade_token_v2", 0.0, {}),
    ("cascade_token_v3", 0.0, {}),
    ("verify_max_prob_end", 0.5, {"tolerance": 0.0}),
    ("verify", -0.5, {"tolerance": 0.0}),
    ("verify", 0.2, {"rule": "random", "tolerance": 0.0, "k": 3}),
    ("verify_end", 0.0, {}),
    ("big_little", 0.4, {"tolerance": 0.0, "end": True}),
    ("fly", 1.2, {}),  # no entropy of three tokens is above log 3
    ("fly", 0.0, {"k": 4, "window": 4}),  # no window lies in a draft
    ("relaxed", 0.0, {}),
    ("relaxed", 1.0, {"top": 1}),
    ("accept_single", 1.0, {}),
    ("accept_acc", 0.2, {}),
    ("mentored", 0.0, {}),
]


@pytest.mark.parametrize("name,dial,fields", EXACT, ids=lambda x: str(x))
def test_the_strictest_setting_is_the_teacher(name, dial, fields):
  out = run(make_policy(name, dial, **fields))
  np.testing.assert_array_equal(out.tokens, alone(TEACHER, SOURCE))
  assert (out.teacher_calls <= out.length).all()


@pytest.mark.parametrize(
    "name,dial,fields",
    [
        *[(f"cascade_{rule}", 3.0, {}) for rule in cascades.RULES],
        ("relaxed", 1.0, {"top": VOCABULARY, "k": T}),
        ("accept_single", 0.0, {"k": T}),
        ("mentored", 99.0, {"k": T}),
        ("verify_max_prob", 0.0, {"tolerance": np.inf, "k": T}),
        ("verify", -1e6, {"tolerance": np.inf, "k": T, "end": False}),
    ],
)
def test_the_loosest_setting_is_the_student(name, dial, fields):
  out = run(make_policy(name, dial, **fields))
  student = alone(STUDENT, STUDENT_SOURCE)
  ended = (student == base.EOS_ID).any(axis=1)  # a row cut at T ends with the teacher's token
  np.testing.assert_array_equal(out.tokens[ended], student[ended])
  assert ended.any()
  if name.startswith("verify"):
    np.testing.assert_array_equal(out.teacher_calls[ended], 0)


def verify_reference(b, rule, k, tolerance, end):
  """Rounds of one row in plain Python: tokens, who asked, teacher calls."""
  student, teacher = NumpyModel(STUDENT, T), NumpyModel(TEACHER, T)
  emitted, asked, calls = [], [], 0
  while len(emitted) < T and base.EOS_ID not in emitted:
    drafts, asking = [], False
    while len(drafts) < min(k, T - len(emitted) - 1) and base.EOS_ID not in drafts:
      logits = student.logits[student.state(STUDENT_SOURCE[b], emitted + drafts)]
      if rule(student, emitted + drafts, b):
        asking = True
        break
      drafts.append(int(np.argmax(logits)))
    if base.EOS_ID in drafts and not end:
      emitted, asked = emitted + drafts, asked + [False] * len(drafts)
      break
    calls += 1
    for i, token in enumerate(drafts):
      logits = teacher.logits[teacher.state(SOURCE[b], emitted + drafts[:i])]
      if logits.max() - logits[token] > tolerance:
        drafts, asking = drafts[:i], False
        break
    emitted, asked = emitted + drafts, asked + [False] * len(drafts)
    if base.EOS_ID not in emitted:
      emitted.append(teacher.greedy(SOURCE[b], emitted))
      asked.append(asking)
  return emitted, asked, calls


@pytest.mark.parametrize("end", [True, False])
@pytest.mark.parametrize("k", [3, 16])
@pytest.mark.parametrize("tolerance", [0.5, 2.0])
def test_verify_on_ask_equals_the_reference(k, end, tolerance):
  def rule(student, emitted, b):
    return student.gate(STUDENT_SOURCE[b], emitted) - 0.6 > 0

  out = run(make_policy("verify", -0.6, tolerance=tolerance, k=k, end=end))
  tokens, asked, calls = zip(
      *[verify_reference(b, rule, k, tolerance, end) for b in range(B)], strict=True
  )
  np.testing.assert_array_equal(out.tokens, padded(tokens, T))
  np.testing.assert_array_equal(out.asked, padded(asked, T).astype(bool))
  np.testing.assert_array_equal(out.teacher_calls, calls)
  assert out.asks.any() and (out.written_by_teacher.sum(axis=1) > out.asks).any()


def unsure(student, emitted, b):
  return softmax(student.logits[student.state(STUDENT_SOURCE[b], emitted)]).max() < 0.3


def gate_asks(student, emitted, b):
  return student.gate(STUDENT_SOURCE[b], emitted) - 0.6 > 0


@pytest.mark.parametrize(
    "name,dial,rule,n",
    [("span", -0.6, gate_asks, 3), *[("relay", n, unsure, n) for n in (1.0, 1.5, 2.0, 5.0, T)]],
)
def test_a_span_writes_all_its_tokens(name, dial, rule, n):
  out, student = run(make_policy(name, dial)), NumpyModel(STUDENT, T)
  for b in range(B):
    tokens, t = out.tokens[b, : out.length[b]].tolist(), 0
    while t < len(tokens):
      asks = rule(student, tokens[:t], b)
      width = int(np.ceil(n)) if asks else 1
      assert (out.asked[b, t : t + width] == asks)[: len(tokens) - t].all()
      t += width
  assert 0 < out.asks.sum() < out.length.sum()


def test_periodic_asks_meet_their_rate_and_prefix_asks_come_first():
  for rate in (0.1, 0.25, 0.5):
    out = run(make_policy("periodic", rate))
    np.testing.assert_array_equal(out.asks, np.floor(rate * out.length + 1e-4).astype(int))
  out = run(make_policy("prefix", 3))
  np.testing.assert_array_equal(out.asked, np.arange(T)[None] < np.minimum(3, out.length)[:, None])


def test_a_budget_without_a_gate_is_periodic_asking():
  """Asking whenever a budget allows it at every prefix is asking at the budget's rate."""
  budget = np.array([0.0, 0.1, 0.2, 0.35, 0.5, 1.0], np.float32)
  args = (STUDENT, TEACHER, STUDENT_SOURCE, SOURCE, budget, jax.random.key(0))
  capped = decoder_of(T, 0.0)(
      *args[:4], Budget(budget, form="prefix"), args[5], make_policy("periodic", 1.0)
  )
  rate = decoder_of(T, 0.0)(*args, make_policy("periodic", budget))
  np.testing.assert_array_equal(capped.asked, rate.asked)
  np.testing.assert_array_equal(capped.tokens, rate.tokens)


# Drawn tokens -------------------------------------------------------------------------------------


def of_cascade(rule, a):
  """π by its definition, token by token: independent of cascades.py."""
  keeps = {
      "chow": lambda q, p, v: max(q) >= 1 - a,
      "diff": lambda q, p, v: max(q) >= max(p) - a,
      "opt": lambda q, p, v: max(q) >= max(p) - a * 0.5 * np.abs(q - p).sum(),
      "token_v1": lambda q, p, v: q[v] >= max(p) - a,
      "token_v2": lambda q, p, v: p[v] >= max(p) - a,
      "token_v3": lambda q, p, v: p[v] >= max(p) * (1 - a),
  }[rule]

  def pi(q, p):
    keep = np.array([keeps(q, p, v) for v in range(len(q))])
    return q * keep + p * (q * ~keep).sum()

  return pi


DRAWN = [
    ("speculative", 2, {}, of_teacher),
    ("speculative", 3, {}, of_teacher),
    ("lenient", 1.0, {"k": 2}, of_teacher),
    ("prompt_lookup", 2, {}, of_teacher),
    *[
        (f"cascade_{rule}", a, {"k": 2}, of_cascade(rule, a))
        for rule, a in (
            ("chow", 0.6),
            ("diff", 0.05),
            ("opt", 0.3),
            ("token_v1", 0.2),
            ("token_v2", 0.2),
            ("token_v3", 0.7),
        )
    ],
]


@pytest.mark.parametrize("name,dial,fields,chain", DRAWN, ids=lambda x: str(x)[:24])
def test_drawn_outputs_follow_the_distribution_aimed_at(name, dial, fields, chain):
  assert_drawn_from(joint(chain, SHORT), make_policy(name, dial, **fields))


def test_the_test_of_distributions_sees_a_wrong_one():
  """Leniency is not exact, and the chi-square says so; its bound p/l holds."""
  found, expected = counted(make_policy("lenient", 0.6, k=2)), joint(of_teacher, 1)
  first = np.zeros(len(probs([])[0]))
  for tokens, n in found.items():
    first[tokens[0]] += n / MANY
  p = np.array([expected.get((v,), 0.0) for v in range(len(first))])
  assert scipy.stats.chisquare(first[p > 0] * MANY, p[p > 0] * MANY).pvalue < 1e-6
  assert (first <= p / 0.6 + 4 * np.sqrt(p / MANY)).all()


def test_cascade_rules_keep_some_and_defer_some():
  """The dials above are not all-or-nothing: π differs from q and from p somewhere."""
  prefixes = [tuple(t) for t in np.random.default_rng(0).integers(2, 13, (40, 2))]
  for name, _, _, chain in DRAWN[4:]:
    pairs = [probs(list(prefix)) for prefix in prefixes]
    mixed = [chain(q, p) for q, p in pairs]
    assert any(np.abs(m - q).max() > 0.01 for m, (q, _) in zip(mixed, pairs, strict=True)), name
    assert any(np.abs(m - p).max() > 0.01 for m, (_, p) in zip(mixed, pairs, strict=True)), name


# Prompt lookup ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source,output,expected",
    [
        ([5, 6, 7, 8, 9, 1], [5, 6], [7, 8, 9]),  # the longest match in the source
        ([5, 6, 7, 4, 6, 8, 1], [6], [8, 1]),  # of equal ones the latest; nothing after EOS
        ([5, 6, 7, 4, 6, 8, 1], [5, 6], [7, 4, 6]),  # a longer match wins over a later one
        ([9, 9, 9, 1], [5, 6, 7, 5], [6, 7, 5]),  # the output itself
        ([9, 8, 1], [5], []),  # no match
        ([9, 8, 1], [], []),  # nothing written yet
    ],
)
def test_prompt_lookup_copies_what_followed(source, output, expected):
  tokens = np.full((1, 12), 77, np.int32)  # stale beyond the output
  tokens[0, : len(output) + 1] = [base.PAD_ID, *output]
  padding = [[*source, base.PAD_ID, base.PAD_ID]]
  drafts, count = PromptLookup(k=3).propose(
      jnp.asarray(padding, jnp.int32), jnp.asarray(tokens), jnp.asarray([len(output)], jnp.int32)
  )
  assert drafts[0, : int(count[0])].tolist() == expected
