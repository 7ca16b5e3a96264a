"""What each form of a budget promises, kept whatever the models, the policy and the waiting do."""

from fractions import Fraction
import functools
import math

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
from prefix_models import FNS, MODULUS, make_params, sources
import pytest

from kdtw_jax import base
from kdtw_jax.base import EOS_ID
from kdtw_jax.decoding import Budget, Sampling, budgets, make_decoder, make_policy

B, T = 8, 20
STUDENT = make_params(1, noise=0.7, eos_bias=0.5)
TEACHER = make_params(2, noise=0.7, eos_bias=1.0)
PROMPT = np.array([[MODULUS - 9, 9]] * B, np.int32)
POLICIES = {
    "always": ("handover", 1e6, {}),
    "gate": ("handover", 0.3, {}),
    "coin": ("random", 0.4, {}),
    "checks": ("verify", 0.2, {"rule": "random", "tolerance": 0.0, "k": 5}),
    "speculates": ("lenient", 0.8, {}),
    "never_at_end": ("verify_max_prob", 0.5, {"k": 5}),
    "clean": ("route_gap", 1e3, {"tolerance": 0.0, "advised": True}),
}


@functools.cache
def decoder_of(wait, temperature):
  return make_decoder(
      FNS, FNS, max_length=T, chunk=4, wait=wait, sampling=Sampling(temperature=temperature)
  )


def run(name, budget, *, seed=0, wait=0.5, temperature=0.0):
  source = sources(B, seed=seed)
  policy = make_policy(*POLICIES[name][:2], **POLICIES[name][2])
  args = (STUDENT, TEACHER, np.concatenate([PROMPT, source], axis=1), source, budget)
  out = decoder_of(wait, temperature)(*args, jax.random.key(seed), policy)
  return jax.tree.map(np.asarray, out)


def budget_of(form, shares, **fields):
  calls = np.arange(len(shares)) % 4
  return Budget(
      np.asarray(shares, np.float32),
      form=form,
      pace=np.float32(fields.pop("pace", 0.0)),
      shortest=(jnp.float32(6.0), jnp.float32(0.4)),
      calls=calls.astype(np.int32),
      credit=jnp.int32(fields.pop("credit", 0)),
  )


def spent_of(name, out):
  return out.asks if name in ("always", "gate", "coin") else out.teacher_calls


def test_a_ledger_grants_a_call_to_who_wants_one_whatever_its_score():
  limits = budgets.Limits(budget_of("ledger", [0.5] * 4), np.ones((4, 3), np.int32), T)
  wants = jnp.array([False, False, False, True])
  score = jnp.array([2.0, jnp.inf, -jnp.inf, -jnp.inf])
  granted, credit = limits.grant(wants, score, jnp.int32(budgets.CALL))
  np.testing.assert_array_equal(granted, wants)
  assert credit == 0


@pytest.mark.parametrize("form", budgets.PROMISES)
@pytest.mark.parametrize("name", POLICIES)
@settings(max_examples=6, deadline=None)
@given(hundredths=st.lists(st.integers(0, 100), min_size=B, max_size=B), seed=st.integers(0, 50))
def test_a_promise_is_never_broken(form, name, hundredths, seed):
  """In exact fractions, greedy and drawn, whatever rows wait for: each form and policy has all."""
  number = [*POLICIES].index(name) + budgets.PROMISES.index(form)  # a program less for each pair
  temperature = 1.0 if number % 2 and name != "speculates" else 0.0
  wait = float(number // 2 % 2)
  budget = budget_of(form, [h / 100 for h in hundredths])
  out = run(name, budget, seed=seed, wait=wait, temperature=temperature)
  spent, shares = spent_of(name, out), [Fraction(h, 100) for h in hundredths]
  if form == "calls":
    assert (spent <= budget.calls).all()
  elif form == "ledger":
    assert sum(spent.tolist()) <= sum(
        s * n for s, n in zip(shares, out.length.tolist(), strict=True)
    )
    assert 0 <= out.credit
  else:
    for b in range(B):
      assert spent[b] <= shares[b] * int(out.length[b])
  if form == "prefix" and name in ("always", "gate", "coin"):
    sofar = np.cumsum(out.asked, axis=1)
    for b in range(B):
      assert all(sofar[b, t] <= shares[b] * (t + 1) for t in range(out.length[b]))
  if form != "calls":
    assert not spent[np.array(hundredths) == 0].any()
  lasts = out.tokens[np.arange(B), out.length - 1]
  assert ((lasts == EOS_ID) | (out.length == T)).all()


@pytest.mark.parametrize("name", ["always", "checks"])
def test_by_calls_their_number_alone_is_the_budget(name):
  """Also for a gate that never asks where its share is 0."""
  nothing, much = (run(name, budget_of("calls", [share] * B)) for share in (0.0, 0.7))
  calls = budget_of("calls", [0.0] * B).calls
  np.testing.assert_array_equal(spent_of(name, nothing) > 0, calls > 0)
  for field in nothing._fields:
    np.testing.assert_array_equal(getattr(nothing, field), getattr(much, field), field)


def test_a_hard_budget_is_spent_where_a_prefix_cannot():
  """Asks come before their tokens are written, as far as the output is sure to be long enough."""
  shares = [0.2] * B
  hard, prefix = (run("always", budget_of(form, shares)) for form in ("hard", "prefix"))
  for out in (hard, prefix):
    assert (out.asks <= np.floor(0.2 * out.length + 1e-6)).all()

  def first(out):
    return np.argmax(out.asked, axis=1)[out.asks > 0]

  assert first(hard).min() == 0 and first(prefix).min() >= 4
  assert hard.asks.sum() / (0.2 * hard.length).sum() > 0.6


def test_an_output_goes_on_until_its_calls_are_within_the_budget():
  """The teacher's EOS comes early, the budget of the call that wrote it does not allow it."""
  budget = Budget(
      np.full(B, 0.1, np.float32), form="hard", shortest=(jnp.float32(10), jnp.float32(0))
  )
  out = run("always", budget)
  assert out.asks.all() and (out.length >= 10).all()
  free = run("always", np.full(B, 0.1, np.float32))
  assert (free.length < 10).any()


def test_no_advice_ends_an_output_before_its_calls_are_within_the_budget():
  """A teacher that would end at once says so of every draft; the student would go on for ever."""
  student, teacher = make_params(1, eos_bias=-9.0), make_params(2, eos_bias=9.0)
  source = sources(32)
  policy = make_policy("route_gap", 1e3, tolerance=0.0, advised=True)
  budget = Budget(
      np.full(32, 0.1, np.float32), form="hard", shortest=(jnp.float32(10), jnp.float32(0))
  )
  args = (student, teacher, np.concatenate([np.repeat(PROMPT[:1], 32, 0), source], axis=1), source)
  out = decoder_of(0.5, 0.0)(*args, budget, jax.random.key(0), policy)
  assert np.all(out.teacher_calls >= 1)
  assert np.all(out.length >= 10 * out.teacher_calls)


@pytest.mark.parametrize("name", ["coin", "gate"])
def test_pacing_brings_the_mean_to_the_budget(name):
  for share in (0.1, 0.3):
    paced = [run(name, budget_of("paced", [share] * B, pace=20.0), seed=seed) for seed in range(8)]
    spent = sum(spent_of(name, out).sum() for out in paced)
    tokens = sum(out.length.sum() for out in paced)
    free = [run(name, np.full(B, share, np.float32), seed=seed) for seed in range(8)]
    loose = sum(spent_of(name, out).sum() for out in free) / sum(o.length.sum() for o in free)
    assert abs(spent / tokens - share) < abs(loose - share) / 2


def test_a_ledger_is_kept_over_a_stream_and_lets_short_outputs_ask():
  """Batch after batch; what one saves another spends, up to the last call."""
  credit, asks, allowed = 0, 0, Fraction(0)
  shortest_that_asked = T
  for seed in range(12):
    out = run("always", budget_of("ledger", [0.1] * B, credit=credit), seed=seed)
    credit, asks = int(out.credit), asks + int(out.asks.sum())
    allowed += Fraction(1, 10) * int(out.length.sum())
    assert asks <= allowed and credit == (allowed - asks) * 10_000
    shortest_that_asked = min(shortest_that_asked, *out.length[out.asks > 0].tolist(), T)
  assert allowed - asks < 1 + Fraction(B, 10)
  assert shortest_that_asked < 10


def test_rows_that_score_highest_get_what_a_ledger_has():
  limits = budgets.Limits(budget_of("ledger", [0.5] * 4), None, T)
  wants, score = jnp.array([True, True, False, True]), jnp.array([0.3, 2.0, 9.0, jnp.inf])
  granted, left = limits.grant(wants, score, jnp.int32(2 * 10_000 + 5))
  np.testing.assert_array_equal(granted, [False, True, False, True])
  assert left == 5


@pytest.mark.parametrize("percent", range(0, 101, 5))
def test_a_prefix_equals_exact_fractions(percent):
  """float32 budgets such as 0.35 are not the fraction; the limit decides as the fraction does."""
  length = np.repeat(np.arange(0, 300), 4)
  # asks around the limit: two below to one above
  exact = Fraction(percent, 100)
  asks = np.array([max(0, math.floor(exact * (n + 1)) - 2 + i % 4) for i, n in enumerate(length)])
  expected = [a + 1 <= exact * (int(n) + 1) for a, n in zip(asks.tolist(), length, strict=True)]
  shares = np.full(length.shape, percent / 100, np.float32)
  limits = budgets.Limits(Budget(shares, form="prefix"), None, 1000)
  allowed = limits.allowed(
      jnp.asarray(asks, jnp.int32), jnp.asarray(length, jnp.int32), jnp.int32(0)
  )
  np.testing.assert_array_equal(allowed, expected)


def test_a_pace_is_in_the_unit_of_the_policys_score():
  """By whoever makes the decoder: a threshold's scores are probabilities, a gate's are log-odds."""
  calls, length = jnp.array([3, 0, 1]), jnp.array([4, 9, 4])
  asker = make_policy("margin", 0.5)
  budget = budget_of("paced", [0.2, 0.2, 0.2], pace=2.0)
  of_gate, of_asker = (
      budgets.Limits(budget, None, T, unit=policy.pace).behind(
          calls, length, jnp.int32(0), jnp.ones(3, bool)
      )
      for policy in (make_policy("handover"), asker)
  )
  np.testing.assert_allclose(of_gate, 2 * (calls + 0.5 - 0.2 * (length + 1)), rtol=1e-6)
  np.testing.assert_allclose(of_asker, asker.pace * of_gate, rtol=1e-6)
  assert asker.pace < 1
  source = sources(B)
  args = (STUDENT, TEACHER, np.concatenate([PROMPT, source], axis=1), source)
  strict, scaled = (
      decoder_of(0.5, 0.0)(
          *args, budget_of("paced", [0.2] * B, pace=pace), jax.random.key(0), policy
      )
      for pace, policy in ((1.0, asker), (asker.pace, asker))
  )
  assert (strict.asked != scaled.asked).any()


def test_an_unknown_form_is_refused():
  with pytest.raises(ValueError, match="budget.form='soft': must be one of share, paced, hard"):
    Budget(np.zeros(2), form="soft")


def test_the_shortest_output_is_read_off_the_source():
  source = np.array([[5, 6, 7, 1, 0, 0], [5, 1, 0, 0, 0, 0], [base.PAD_ID] * 6])
  budget = Budget(np.full(3, 0.5), form="hard", shortest=(2.5, 1.0))
  limits = budgets.Limits(budget, source, most=5)
  zero = jnp.zeros(3, jnp.int32)
  allowed = [limits.allowed(zero + n, zero, jnp.int32(0)).tolist() for n in range(3)]
  # 2.5 + 4 is cut at 5 and allows 2 calls; 2.5 + 2 allows 2; 2.5 allows 1
  assert allowed == [[True, True, True], [True, True, False], [False, False, False]]


def test_pacing_comes_to_the_budget_on_a_domain_where_the_asker_asks_too_much():
  """Within a point, over a stream; the offset makes a gate ask for nearly every token."""
  policy, credit, asks, tokens = make_policy("handover", 6.0), 0, 0, 0
  for seed in range(40):
    source = sources(B, seed=seed)
    budget = budget_of("paced", [0.2] * B, pace=2.0, credit=credit)
    args = (STUDENT, TEACHER, np.concatenate([PROMPT, source], axis=1), source, budget)
    out = jax.tree.map(np.asarray, decoder_of(0.5, 0.0)(*args, jax.random.key(0), policy))
    credit, asks, tokens = out.credit, asks + out.asks.sum(), tokens + out.length.sum()
    assert credit == round(10_000 * (0.2 * tokens - asks), -2)
  assert abs(asks / tokens - 0.2) < 0.01
  assert run("gate", np.full(B, 0.2, np.float32)).asks.sum() > 0
