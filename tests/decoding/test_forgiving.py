"""Policies that forgive drafts which the teacher would not write: their rules, what they draw."""

from drafting_pair import (
    SHORT,
    SOURCE,
    STUDENT,
    STUDENT_SOURCE,
    TEACHER,
    B,
    T,
    assert_drawn_from,
    joint,
    of_teacher,
    probs,
    run,
    softmax,
)
import jax.numpy as jnp
import numpy as np
from prefix_models import NumpyModel, padded
import pytest
import scipy.optimize

from kdtw_jax import base, decoding
from kdtw_jax.decoding import make_policy
from kdtw_jax.decoding.policies import mentored


def mentored_by_roots(p, q, divergence):
  """π by nested root finding in float64, independent of mentored.py."""
  if np.sum(p * np.log(p / q)) <= divergence:
    return q

  def pi_of(alpha):
    cut = np.maximum(0, q - p / alpha).sum()
    factor = scipy.optimize.brentq(lambda f: np.maximum(0, p * f - q).sum() - cut, 0.0, 1.0 + 1e-9)
    return np.clip(q, p * factor, p / alpha)

  def excess(alpha):
    return np.sum(p * np.log(p / pi_of(alpha))) - divergence

  return pi_of(scipy.optimize.brentq(excess, (p / q).min() * (1 + 1e-6), 1.0))


# Greedy: the rounds of a row in plain Python ------------------------------------------------------


def mismatches_forgiven(q, p, drafts, *, entropy, window):
  agrees = [int(np.argmax(row)) == v for row, v in zip(p, drafts, strict=True)]
  kept = []
  for i, row in enumerate(p):
    three = np.sort(row)[-3:]
    ahead = agrees[i + 1 : i + 1 + window]
    forgiven = -(three * np.log(three)).sum() >= entropy and len(ahead) == window and all(ahead)
    kept.append(agrees[i] or forgiven)
  return kept


def among_the_likeliest(q, p, drafts, *, delta, top):
  return [
      row[v] >= row.max() - delta and v in np.argsort(-row)[:top]
      for row, v in zip(p, drafts, strict=True)
  ]


def above_single(q, p, drafts, *, single):
  return [v == row.argmax() or row[v] >= single for row, v in zip(p, drafts, strict=True)]


def choice_of_mentored(q, p, drafts, *, divergence):
  return [
      v == mentored_by_roots(*rows, divergence).argmax()
      for *rows, v in zip(p, q, drafts, strict=True)
  ]


def reference(b, k, keeps):
  """(tokens, teacher's positions, calls, drafts kept against the teacher's choice) of a row."""
  student, teacher = NumpyModel(STUDENT, T), NumpyModel(TEACHER, T)
  emitted, written, calls, forgiven = [], [], 0, 0
  while len(emitted) < T and base.EOS_ID not in emitted:
    drafts = []
    while len(drafts) < min(k, T - len(emitted) - 1) and base.EOS_ID not in drafts:
      drafts.append(student.greedy(STUDENT_SOURCE[b], emitted + drafts))
    q, p = [], []  # without PAD, which is token 0 and has no probability
    for i in range(len(drafts)):
      prefix = emitted + drafts[:i]
      q.append(softmax(student.logits[student.state(STUDENT_SOURCE[b], prefix)])[1:])
      p.append(softmax(teacher.logits[teacher.state(SOURCE[b], prefix)])[1:])
    kept = keeps(q, p, [v - 1 for v in drafts])
    calls += 1
    accepted = (*kept, False).index(False)
    forgiven += sum(p[i].argmax() != drafts[i] - 1 for i in range(accepted))
    emitted, written = emitted + drafts[:accepted], written + [False] * accepted
    if base.EOS_ID not in emitted:
      emitted.append(teacher.greedy(SOURCE[b], emitted))
      written.append(True)
  return emitted, written, calls, forgiven


RULES = {
    "fly": (mismatches_forgiven, "entropy"),
    "relaxed": (among_the_likeliest, "delta"),
    "accept_single": (above_single, "single"),
    "mentored": (choice_of_mentored, "divergence"),
}
CASES = [
    ("fly", 0.0, {"k": 25, "window": 1}),
    ("fly", 0.7, {"k": 8, "window": 1}),
    ("fly", 0.3, {"k": 4, "window": 2}),
    ("relaxed", 0.3, {"k": 4, "top": 2}),
    ("relaxed", 1.0, {"k": 6, "top": 3}),
    ("accept_single", 0.1, {"k": 4}),
    ("accept_single", 0.25, {"k": 7}),
    ("mentored", 0.05, {"k": 4}),
    ("mentored", 0.4, {"k": 8}),
]


@pytest.mark.parametrize("name,dial,fields", CASES, ids=str)
def test_greedy_decoding_equals_the_reference(name, dial, fields):
  rule, field = RULES[name]
  settings = {field: dial} | {x: value for x, value in fields.items() if x != "k"}

  def keeps(q, p, drafts):
    return rule(q, p, drafts, **settings)

  out = run(make_policy(name, dial, **fields))
  tokens, written, calls, forgiven = zip(
      *[reference(b, fields["k"], keeps) for b in range(B)], strict=True
  )
  np.testing.assert_array_equal(out.tokens, padded(tokens, T))
  np.testing.assert_array_equal(out.written_by_teacher, padded(written, T).astype(bool))
  np.testing.assert_array_equal(out.teacher_calls, calls)
  assert sum(forgiven) > 0


def test_a_mismatch_at_the_end_of_a_draft_is_rejected():
  """Also where stale drafts of an earlier round follow it: the window must lie in this draft."""
  logits = jnp.log(jnp.asarray([[[0.1, 0.4, 0.5], [0.1, 0.6, 0.3], [0.1, 0.3, 0.6]]]))
  tokens, policy = jnp.asarray([[1, 1, 2]]), make_policy("fly", 0.3, k=3, window=1)
  for num_real, expected in ((3, [True, True, True]), (1, [False, False, False])):
    drafts = decoding.Drafts(tokens, None, logits, jnp.arange(3)[None] < num_real)
    np.testing.assert_array_equal(policy.stays(drafts, None, decoding.Sampling())[0], expected)


# Mentored decoding: the distribution it aims at ---------------------------------------------------


def test_two_tokens_by_hand():
  """P = (½, ½): KL(p ‖ (x, 1 − x)) = −½ log 4x(1 − x) = D, so x = ½ + ½ √(1 − exp(−2 D))."""
  p, q = jnp.asarray([0.5, 0.5]), jnp.asarray([0.9, 0.1])
  pi = mentored.mentor(p, q, jnp.asarray([0.5 * np.log(4 / 3)]))
  np.testing.assert_allclose(pi, [0.75, 0.25], atol=1e-3)


def random_pairs(rows, width, seed):
  draws = np.random.default_rng(seed).normal(size=(2, rows, width)) * 2
  return (np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True) for x in draws)


def divergence(p, pi):
  return np.sum(p * np.log(p / pi), axis=-1)


@pytest.mark.parametrize("budget", [0.01, 0.2, 1.0])
def test_mentor_equals_root_finding_and_keeps_its_budget(budget):
  p, q = random_pairs(40, 50, seed=0)
  pi = np.asarray(mentored.mentor(jnp.asarray(p), jnp.asarray(q), jnp.full((40, 1), budget)))
  expected = np.stack([mentored_by_roots(*pair, budget) for pair in zip(p, q, strict=True)])
  np.testing.assert_allclose(pi, expected, atol=1e-3)  # log α is found to 0.002
  np.testing.assert_allclose(pi.sum(axis=-1), 1, atol=1e-5)
  assert (divergence(p, pi) <= budget + 1e-5).all()
  assert (divergence(p, q) > budget).any()


def test_no_distribution_within_the_budget_keeps_more_drafts():
  p, q = (next(x) for x in map(iter, random_pairs(1, 6, seed=3)))
  pi = np.asarray(mentored.mentor(jnp.asarray(p), jnp.asarray(q), jnp.asarray([0.2])))
  assert divergence(p, q) > 0.2
  rng = np.random.default_rng(0)
  scale = np.exp(rng.uniform(-8, 1, size=(20_000, 1)))
  others = np.concatenate([pi * np.exp(scale * rng.normal(size=(20_000, 6))), [q, p]])
  others /= others.sum(axis=-1, keepdims=True)
  others = others[divergence(p, others) <= 0.2]
  assert len(others) > 1000
  assert np.minimum(q, others).sum(axis=-1).max() <= np.minimum(q, pi).sum() + 1e-3


def test_a_token_that_one_model_excludes():
  """Nothing that the teacher excludes is written; what the student excludes is written anew."""
  p, q = jnp.asarray([0.0, 0.7, 0.3, 0.0]), jnp.asarray([0.5, 0.5, 0.0, 0.0])
  pi = mentored.mentor(p, q, jnp.asarray([0.1]))
  assert pi[0] == 0 and pi[2] > 0 and pi[3] == 0
  np.testing.assert_allclose(jnp.sum(pi), 1, atol=1e-5)


# Drawn tokens -------------------------------------------------------------------------------------


def of_mentored(budget):
  def pi(q, p):
    return np.append(0.0, mentored_by_roots(p[1:], q[1:], budget))

  return pi


def of_relaxed(delta, top):
  def pi(q, p):
    keep = np.array(
        [among_the_likeliest([q], [p], [v], delta=delta, top=top) for v in range(len(q))]
    )
    kept = q * keep[:, 0]
    return kept + p * (1 - kept.sum())

  return pi


def of_accept(single, acc):
  def pi(q, p):
    found = np.zeros_like(p)
    for u in range(1, len(q)):
      kept = 1.0 if p[u] >= single else min(1.0, p[u] / acc)
      others = np.where(np.arange(len(p)) == u, 0.0, p)
      found += q[u] * (kept * np.eye(len(p))[u] + (1 - kept) * others / others.sum())
    return found

  return pi


@pytest.mark.parametrize(
    "name,dial,fields,chain",
    [
        ("fly", 1.2, {"k": 2, "window": 1}, of_teacher),
        ("fly", 0.0, {"k": 2, "window": 2}, of_teacher),
        ("accept_single", 1.0, {"k": 2}, of_teacher),
        ("accept_single", 0.2, {"k": 2}, of_accept(0.2, 1.0)),
        ("accept_acc", 0.4, {"k": 2}, of_accept(1.0, 0.4)),
        ("relaxed", 0.3, {"k": 2, "top": 2}, of_relaxed(0.3, 2)),
        ("mentored", 0.0, {"k": 2}, of_teacher),
        ("mentored", 0.15, {"k": 2}, of_mentored(0.15)),
    ],
    ids=lambda x: str(x)[:24],
)
def test_drawn_outputs_follow_the_stated_distribution(name, dial, fields, chain):
  """Of three tokens the last is never drafted, so it is the teacher's."""
  assert_drawn_from(joint(chain, SHORT, last=of_teacher), make_policy(name, dial, **fields))


def test_what_fly_draws_depends_on_the_draft_that_follows():
  """θ = 0, k = 2, w = 1: a rejected first draft stays if exact speculation keeps the second."""
  expected = {}

  def add(tokens, weight):
    expected[tokens] = expected.get(tokens, 0.0) + weight

  q, p = probs([])
  residual = np.maximum(p - q, 0) / np.maximum(p - q, 0).sum()
  rejected = 0.0
  for v in range(1, len(q)):
    if v == base.EOS_ID:
      add((v,), min(q[v], p[v]))
      rejected += max(q[v] - p[v], 0.0)
      continue
    next_q, next_p = probs([v])
    for u in range(1, len(q)):
      add((v, u), min(q[v], p[v]) * next_p[u] + max(q[v] - p[v], 0.0) * min(next_q[u], next_p[u]))
    rejected += max(q[v] - p[v], 0.0) * np.maximum(next_q - next_p, 0).sum()
  for v in range(1, len(q)):
    if v == base.EOS_ID:
      add((v,), rejected * residual[v])
    else:
      for u in range(1, len(q)):
        add((v, u), rejected * residual[v] * probs([v])[1][u])
  full = {}
  for tokens, weight in expected.items():
    ended = base.EOS_ID in tokens
    for last, chance in enumerate([1.0] if ended else probs(list(tokens))[1]):
      full[tokens if ended else (*tokens, last)] = weight * chance
  full = {tokens: weight for tokens, weight in full.items() if weight > 0}
  assert_drawn_from(full, make_policy("fly", 0.0, k=2, window=1))
