"""Broken promises are found in what was written, and the decoder breaks none."""

import jax
import numpy as np
import pytest

from kdtw_jax import decoding
from kdtw_jax.evaluation.promises import broken, spent
from tests.decoding import prefix_models

T, B = 14, 32


def result(asked, length, calls=None):
  """A result of which only who asked, where it ended and what it cost matters."""
  asked = np.array(asked, bool)
  names = dict.fromkeys(decoding.DecodeResult._fields)
  asks = asked.sum(axis=1)
  return decoding.DecodeResult(
      **{
          **names,
          "asked": asked,
          "written_by_teacher": asked,
          "asks": asks,
          "length": np.array(length),
          "teacher_calls": asks if calls is None else np.array(calls),
      }
  )


ROWS = [[0, 0, 1, 0, 0], [1, 0, 0, 0, 0], [0, 1, 0, 1, 0]]  # who asked, of outputs of 4 tokens
WRITTEN = result(ROWS, [4, 4, 4])


@pytest.mark.parametrize(
    "form, found",
    [
        ("share", [False, False, False]),
        ("paced", [False, False, False]),
        ("hard", [False, False, True]),  # 0.3 of 4 tokens is one call
        ("prefix", [True, True, True]),  # and a call by prefix comes at the fourth token
        ("calls", [False, False, True]),
        ("ledger", [True, True, True]),  # 4 calls, 3.6 allowed
    ],
)
def test_a_broken_promise_is_found(form, found):
  budget = decoding.Budget(
      share=np.full(3, 0.3, np.float32), form=form, calls=np.ones(3, np.int32), credit=0
  )
  policy = decoding.make_policy("handover")
  assert broken(budget, policy, WRITTEN).tolist() == found


def test_what_is_kept_exactly_is_not_broken():
  policy, exact = decoding.make_policy("handover"), result([[0, 0, 0, 1]], [4])
  share = np.array([0.25], np.float32)
  for form in ("hard", "prefix", "ledger"):
    assert not broken(decoding.Budget(share=share, form=form), policy, exact).any()
  more = decoding.Budget(share=np.full(3, 0.3, np.float32), form="ledger", credit=4_000)
  assert not broken(more, policy, WRITTEN).any()  # 3.6 and what was saved up


def test_a_policy_that_checks_pays_for_calls_that_wrote_nothing():
  checked = result([[0, 0, 0, 1]], [4], calls=[2])
  policy = decoding.make_policy("handover_checked")
  assert spent(policy, checked).tolist() == [2]
  budget = decoding.Budget(share=np.array([0.25], np.float32), form="hard")
  assert broken(budget, policy, checked).tolist() == [True]


def written(form, policy, sampling, seeds):
  """Batches under random budgets of a form: (budget, result); a ledger's credit passes on."""
  decoder = decoding.make_decoder(
      prefix_models.FNS, prefix_models.FNS, max_length=T, sampling=sampling, eager=True
  )
  credit = np.int32(0)
  for seed in seeds:
    rng = np.random.default_rng(seed)
    budget = decoding.Budget(
        share=np.float32(np.round(rng.uniform(0, 0.7, B) * (rng.random(B) > 0.1), 4)),
        form=form,
        pace=np.float32(rng.choice([0.0, 2.0])),
        shortest=(np.float32(rng.uniform(0, 6)), np.float32(rng.uniform(0, 1))),
        calls=rng.integers(0, 5, B).astype(np.int32),
        credit=credit,
    )
    source = prefix_models.sources(B, seed=seed)
    params = (prefix_models.make_params(i, seed, eos_bias=1.0 + seed % 2) for i in range(2))
    key = jax.random.key(seed)
    found = decoder(*params, source, source, budget, key, policy)
    credit = found.credit if form == "ledger" else credit
    yield budget, found


@pytest.mark.parametrize("form", decoding.PROMISES)
@pytest.mark.parametrize(
    "name, dial, temperature",
    [("random", 0.7, 1.0), ("handover", None, 0.0), ("verify_max_prob_end", 0.5, 1.0)],
)
def test_no_promise_is_broken(form, name, dial, temperature):
  policy = decoding.make_policy(name, dial)
  sampling = decoding.Sampling(temperature=temperature)
  calls, nothing = 0, 0
  for budget, found in written(form, policy, sampling, range(8)):
    assert not broken(budget, policy, found).any()
    own = spent(policy, found)
    calls += own.sum()
    nothing += own[np.asarray(budget.share) == 0].sum()
  assert calls > 20  # a decoder that never calls keeps every promise
  assert nothing == 0 or form == "calls"


def test_without_a_form_the_same_policies_break_them():
  policy = decoding.make_policy("random", 0.7)
  batches = written("share", policy, decoding.Sampling(temperature=1.0), range(2))
  for budget, found in batches:
    for form in decoding.PROMISES:
      assert broken(budget.replace(form=form), policy, found).any()
