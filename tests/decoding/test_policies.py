"""One contract for all policies: what the loop, the sweeps and the counters rely on."""

import jax
import jax.numpy as jnp
import numpy as np
from prefix_models import (
    FNS,
    MODULUS,
    VOCABULARY,
    NumpyModel,
    greedy_decode,
    make_params,
    padded,
    sources,
)
import pytest

from kdtw_jax import base
from kdtw_jax.decoding import POLICIES, make_decoder, make_policy
from kdtw_jax.decoding.policies import cascades

B, T = 4, 20
STUDENT = make_params(1, noise=0.7, eos_bias=-1.0)
TEACHER = make_params(2, noise=0.7, eos_bias=-1.0)
SOURCE = sources(B, seed=3)
STUDENT_SOURCE = np.concatenate([np.array([[MODULUS - 9, 9]] * B, np.int32), SOURCE], axis=1)
DECODER = make_decoder(FNS, FNS, max_length=T, chunk=3)
BUDGET = np.full((B,), 0.5, np.float32)  # allows asks

# (a middling dial, a dial that always asks); None where there is none.
RULES = {
    "handover": (-0.3, 1e9),
    "random": (0.4, 1.0),
    "max_prob": (0.5, 1.1),
    "entropy": (1.2, -1.0),
    "margin": (0.3, 1.1),
    "periodic": (0.3, 1.0),
    "prefix": (2, T),
}
DIALS = {
    "student": (None, None),
    "teacher": (None, None),
    "oracle": (0.7, None),
    "mixture": (0.4, 1.0),
    "span": RULES["handover"],
    "span_max_prob": RULES["max_prob"],
    "relay": (2, None),
    **RULES,
}
# Policies that draft and check: a middling dial.
DRAFTERS = {
    "speculative": 3,
    "prompt_lookup": 3,
    "lenient": 0.3,
    "lenient_8": 0.3,
    "typical": 0.3,
    "fly": 0.3,
    "fly_2": 0.3,
    "relaxed": 0.3,
    "relaxed_24": 0.3,
    "accept_single": 0.2,
    "accept_single_24": 0.2,
    "accept_acc": 0.3,
    "mentored": 0.2,
    "mentored_24": 0.2,
    "big_little": 0.5,
    **{f"cascade_{rule}": 0.3 for rule in cascades.RULES},
    "verify": RULES["handover"][0],
    "handover_checked": 1.0,
    "verify_max_prob": 0.5,
    "verify_max_prob_end": 0.5,
    "verify_margin_end": 0.3,
    "verify_end": 1.0,
    "worth": 0.5,
    "route_gap": 5.0,
    "route_gap_skip": 1000.0,
    "route_margin": 6.0,
    "route_margin_hard": 6.0,
    "route_length": 9.0,
    "route_length_hard": 9.0,
    "calls_each": 2.0,
}
EXTRA = {
    "mixture": {"offset": -1e9},  # the gate silent: the coin alone asks
    "route_gap_skip": {"skip": 0.5},  # nats: less than the gaps that the student predicts here
    # advice, of which test_worth.py speaks, was said of an older draft
    "worth": {"advised": False},
    "calls_each": {"advised": False},
}
# Every policy, and those that build on a rule with every rule.
CASES = [(name, None) for name in (*DIALS, *DRAFTERS)]
CASES += [(kind, rule) for kind in ("span", "verify") for rule in RULES]


def policy_of(name, dial=None, rule=None, **fields):
  fields = {**EXTRA.get(name, {}), **fields} | ({"rule": rule} if rule else {})
  return make_policy(name, dial, **fields)


def run(policy, budget=BUDGET):
  args = (STUDENT, TEACHER, STUDENT_SOURCE, SOURCE, budget, jax.random.key(0))
  return jax.tree.map(np.asarray, DECODER(*args, policy))


def middling(name, rule=None):
  if rule:
    return policy_of(name, RULES[rule][0], rule)
  return policy_of(name, DRAFTERS[name] if name in DRAFTERS else DIALS[name][0])


def never_of(name):
  never = POLICIES[name].never
  return never(VOCABULARY) if callable(never) else never


def test_every_policy_is_under_contract():
  assert {*DIALS, *DRAFTERS} == set(POLICIES)


def test_no_two_policies_share_a_compiled_program():
  """Jit tells its programs apart by tree structure: each policy must have its own."""
  structures = [jax.tree.structure(middling(*case)) for case in CASES if case[1] != "handover"]
  structures += [jax.tree.structure(make_policy("handover", 0.0, sampled=True))]
  structures += [jax.tree.structure(make_policy("speculative", k)) for k in (2, 4)]
  structures += [jax.tree.structure(POLICIES[name].policy()) for name in ("student", "teacher")]
  for i, structure in enumerate(structures):
    assert all(structure != other for other in structures[i + 1 :]), structure


@pytest.mark.parametrize("name,rule", CASES)
def test_output_and_counters_are_consistent(name, rule):
  policy = middling(name, rule)
  out = run(policy)
  position = np.arange(T)[None, :]
  valid = position < out.length[:, None]
  assert (out.length >= 1).all() and (out.length <= T).all()
  np.testing.assert_array_equal(out.tokens != base.PAD_ID, valid)
  assert not (out.asked & ~valid).any() and not (out.written_by_teacher & ~valid).any()
  np.testing.assert_array_equal(out.asks, out.asked.sum(axis=1))
  is_last = position == out.length[:, None] - 1
  np.testing.assert_array_equal((out.tokens == base.EOS_ID).any(axis=1), out.ended)
  assert not ((out.tokens == base.EOS_ID) & ~is_last).any()
  np.testing.assert_array_equal(out.length[~out.ended], T)
  assert (out.teacher_calls <= out.teacher_row_passes).all()
  assert (out.teacher_row_passes <= out.teacher_tokens).all()
  # Rows that lag read on in passes that others pay for: alone a row may need more than the batch.
  own = out.asks if policy.catches_up else out.teacher_row_passes
  assert own.max() <= out.teacher_passes <= out.teacher_row_passes.sum()
  assert out.student_row_steps.max() <= out.student_steps <= out.student_row_steps.sum()
  assert (out.written_by_teacher.sum(axis=1) <= out.teacher_calls).all()


@pytest.mark.parametrize("name,rule", CASES)
def test_static_structure_says_which_models_run(name, rule):
  policy, method = middling(name, rule), POLICIES[name]
  assert policy.name == method.name == name
  out = run(policy)
  assert (out.student_steps > 0) == policy.needs_student
  assert (out.teacher_passes > 0) == policy.needs_teacher
  if policy.teacher_every_step:
    np.testing.assert_array_equal(out.teacher_calls, out.length)
  assert policy.drafts == (name in DRAFTERS) == (not method.by_token)
  assert method.bound == (name == "oracle")
  if not policy.drafts:
    np.testing.assert_array_equal(out.asked, out.written_by_teacher)


@pytest.mark.parametrize("name,rule", CASES)
def test_every_token_is_its_writers_choice(name, rule):
  """Greedy: each token is the argmax of the model that provenance names, given those before it."""
  out = run(middling(name, rule))
  student, teacher = NumpyModel(STUDENT, T), NumpyModel(TEACHER, T)
  for b in range(B):
    tokens = out.tokens[b, : out.length[b]].tolist()
    for t, token in enumerate(tokens):
      if out.written_by_teacher[b, t]:
        assert token == teacher.greedy(SOURCE[b], tokens[:t])
      elif name == "prompt_lookup":  # exact, whoever proposed the token
        assert token == teacher.greedy(SOURCE[b], tokens[:t])
      else:
        assert token == student.greedy(STUDENT_SOURCE[b], tokens[:t])


def student_alone():
  model = NumpyModel(STUDENT, T)
  return padded([greedy_decode(model, row, T) for row in STUDENT_SOURCE], T)


@pytest.mark.parametrize("name", [name for name, (dial, _) in DIALS.items() if dial is not None])
def test_the_dial_is_a_traced_leaf_that_runs_from_never_to_always(name):
  middle, always = DIALS[name]
  policy = policy_of(name, middle)
  assert POLICIES[name].dial_name is not None
  leaf = getattr(policy, POLICIES[name].dial_name)
  assert leaf.dtype == jnp.float32 and any(leaf is x for x in jax.tree.leaves(policy))
  assert jax.tree.structure(policy) == jax.tree.structure(policy_of(name, 1.0))
  some = run(policy)
  assert 0 < some.asks.sum() < some.length.sum()
  if always is not None:
    eager = run(policy_of(name, always))
    np.testing.assert_array_equal(eager.asks, eager.length)


@pytest.mark.parametrize("name", [n for n, method in POLICIES.items() if method.never is not None])
def test_the_dial_that_never_asks_never_does(name):
  silent = run(policy_of(name, never_of(name)))
  np.testing.assert_array_equal(silent.tokens, student_alone())
  assert not silent.asks.any()


@pytest.mark.parametrize("name", [n for n, method in POLICIES.items() if method.by_token])
def test_what_asks_token_by_token_has_a_dial_that_never_asks(name):
  """A share below a sweep's least is found from there; a gate that explores has none."""
  method = POLICIES[name]
  assert method.never is not None or not method.dials


@pytest.mark.parametrize("name", ["handover", "max_prob", "entropy", "margin", "oracle"])
def test_a_dial_by_row_is_the_scalar_dial_of_each_row(name):
  middle, never = DIALS[name][0], never_of(name)
  mixed = run(policy_of(name, np.array([middle, never] * (B // 2))))
  for row, dial in ((0, middle), (1, never), (2, middle)):
    np.testing.assert_array_equal(mixed.tokens[row], run(policy_of(name, dial)).tokens[row])


# A budget of 0 ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name,dial,fields",
    [
        ("handover", 1e9, {}),
        ("handover", 2.0, {"sampled": True}),
        ("span", 1e9, {}),
        ("verify", 1e9, {}),
        ("verify", -1e9, {"k": 3}),
        ("verify", 1e9, {"end": False}),
        ("handover_checked", 0.0, {}),
    ],
)
def test_a_gate_with_a_budget_of_0_never_calls(name, dial, fields):
  """Whatever its offset, draws, drafts or end; beside rows that may, and alone."""
  policy, budget = make_policy(name, dial, **fields), np.array([0.0, 0.5, 0.0, 1.0], np.float32)
  out, alone, zero = run(policy, budget), student_alone(), budget == 0
  np.testing.assert_array_equal(out.tokens[zero], alone[zero])
  for count in (out.asks, out.teacher_calls, out.teacher_tokens, out.written_by_teacher):
    assert not count[zero].any()
  assert out.teacher_calls[~zero].all()
  if not fields.get("sampled"):  # rows share one key
    np.testing.assert_array_equal(out.tokens[~zero], run(policy).tokens[~zero])
  nobody = run(policy, np.zeros_like(budget))
  np.testing.assert_array_equal(nobody.tokens, alone)
  assert nobody.teacher_passes == 0


def test_a_gate_that_explores_may_ask_under_a_budget_of_0():
  """Rollouts and calibration fit the gate's use to its budgets, 0 among them."""
  budget = np.zeros((B,), np.float32)
  gate = run(make_policy("mixture", 0.0, offset=-0.3, sampled=False), budget)
  np.testing.assert_array_equal(gate.asked, run(make_policy("handover", -0.3)).asked)
  assert gate.asks.any()


def test_other_rules_do_not_read_the_budget():
  for name, rule in (("max_prob", None), ("verify", "max_prob"), ("speculative", None)):
    policy = middling(name, rule)
    zero = run(policy, np.zeros((B,), np.float32))
    np.testing.assert_array_equal(zero.tokens, run(policy).tokens)
    assert zero.teacher_calls.any()


# Mistakes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name,dial,fields,message",
    [
        ("gate", None, {}, "policy='gate': unknown; choose one of student, teacher"),
        ("student", 0.5, {}, r"dial=0\.5: policy 'student' has no dial"),
        ("speculative", 2.5, {}, r"dial=2\.5: k of policy 'speculative' is a whole number"),
        (
            "prompt_lookup",
            100_000,
            {},
            "k of policy 'prompt_lookup' is a whole number from 1 to 512",
        ),
        (
            "speculative",
            float("inf"),
            {},
            "k of policy 'speculative' is a whole number from 1 to 512",
        ),
        ("fly", 0.3, {"window": 0}, "policy.window=0: at least 1 draft must agree"),
        ("relaxed", 0.3, {"top": 0}, "policy.top=0: at least 1 token must be acceptable"),
        ("verify", 0.0, {"measure": "kl"}, "measure='kl': must be 'gap' or 'surprisal'"),
        ("cascade_opt", 0.0, {"rule": "best"}, "rule='best': must be one of chow, diff, opt"),
    ],
)
def test_impossible_policies_are_refused(name, dial, fields, message):
  with pytest.raises(ValueError, match=message):
    make_policy(name, dial, **fields)


@pytest.mark.parametrize("rule", ["oracle", "speculative", "teacher"])
def test_a_rule_to_build_on_asks_without_a_look(rule):
  with pytest.raises(ValueError, match=f"rule='{rule}': must ask token by token"):
    run(make_policy("verify", 2.0, rule=rule))
