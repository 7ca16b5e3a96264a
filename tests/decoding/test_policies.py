"""One contract for all policies: what the loop, the sweeps and the counters rely on."""

import jax
import jax.numpy as jnp
import numpy as np
from prefix_models import FNS, MODULUS, NumpyModel, greedy_decode, make_params, padded, sources
import pytest

from kdtw_jax import base
from kdtw_jax.decoding import POLICIES, deferral, make_decoder, make_policy
from kdtw_jax.decoding.askers import RULES

B, L = 4, 20
STUDENT = make_params(1, noise=0.7, eos_bias=-1.0)
TEACHER = make_params(2, noise=0.7, eos_bias=-1.0)
SOURCE = sources(B, seed=3)
STUDENT_SOURCE = np.concatenate([np.array([[MODULUS - 9, 9]] * B, np.int32), SOURCE], axis=1)
DECODER = make_decoder(FNS, FNS, max_length=L, chunk=3)

# (a middling dial, a dial that never asks, a dial that always asks); None where there is none.
DIALS = {
    "student": None,
    "teacher": None,
    "handover": (-0.3, -1e9, 1e9),
    "random": (0.4, 0.0, 1.0),
    "max_prob": (0.5, 0.0, 1.1),
    "entropy": (1.2, 99.0, -1.0),
    "margin": (0.3, 0.0, 1.1),
    "oracle": (0.7, 1e9, None),
    "mixture": (0.4, 0.0, 1.0),
    "periodic": (0.3, 0.0, 1.0),
    "prefix": (2, 0, L),
}
DIALS |= {f"span_{rule}": DIALS[rule] for rule in RULES}
# Policies that draft and check: a middling dial.
DRAFTERS = {
    "speculative": 3,
    "prompt_lookup": 3,
    "lenient": 0.3,
    "typical": 0.3,
    "big_little": 0.5,
    **{f"cascade_{rule}": 0.3 for rule in deferral.RULES},
    **{f"verify_{rule}": DIALS[rule][0] for rule in RULES},
}
EXTRA = {"mixture": {"offset": -1e9}}  # the gate silent: the coin alone asks


def policy_of(name, dial=None):
  return make_policy(name, dial, **EXTRA.get(name, {}))


def run(policy):
  args = (STUDENT, TEACHER, STUDENT_SOURCE, SOURCE, np.zeros((B,), np.float32), jax.random.key(0))
  return jax.tree.map(np.asarray, DECODER(*args, policy))


def middling(name):
  if name in DRAFTERS:
    return policy_of(name, DRAFTERS[name])
  return policy_of(name, DIALS[name][0] if DIALS[name] else None)


def test_every_policy_is_under_contract():
  assert {*DIALS, *DRAFTERS} == set(POLICIES)


def test_no_two_policies_share_a_compiled_program():
  """Jit tells its programs apart by tree structure: each policy must have its own."""
  structures = [jax.tree.structure(middling(name)) for name in POLICIES]
  structures += [jax.tree.structure(make_policy("handover", 0.0, sampled=True))]
  structures += [jax.tree.structure(make_policy("speculative", k)) for k in (2, 4)]
  for i, one in enumerate(structures):
    assert all(one != other for other in structures[i + 1 :]), one


@pytest.mark.parametrize("name", POLICIES)
def test_output_and_counters_are_consistent(name):
  policy = middling(name)
  out = run(policy)
  position = np.arange(L)[None, :]
  valid = position < out.length[:, None]
  assert (out.length >= 1).all() and (out.length <= L).all()
  np.testing.assert_array_equal(out.tokens != base.PAD_ID, valid)
  assert not (out.asked & ~valid).any() and not (out.written_by_teacher & ~valid).any()
  np.testing.assert_array_equal(out.asks, out.asked.sum(axis=1))
  is_last = position == out.length[:, None] - 1
  np.testing.assert_array_equal((out.tokens == base.EOS_ID).any(axis=1), out.ended)
  assert not ((out.tokens == base.EOS_ID) & ~is_last).any()
  np.testing.assert_array_equal(out.length[~out.ended], L)
  assert (out.teacher_calls <= out.teacher_row_passes).all()
  assert (out.teacher_row_passes <= out.teacher_tokens).all()
  # Rows that lag read on in passes that others pay for: alone a row may need more than the batch.
  own = out.asks if policy.catches_up else out.teacher_row_passes
  assert own.max() <= out.teacher_passes <= out.teacher_row_passes.sum()
  assert out.student_row_steps.max() <= out.student_steps <= out.student_row_steps.sum()
  assert (out.written_by_teacher.sum(axis=1) <= out.teacher_calls).all()


@pytest.mark.parametrize("name", POLICIES)
def test_static_structure_says_which_models_run(name):
  policy = middling(name)
  assert policy.name == name
  out = run(policy)
  assert (out.student_steps > 0) == policy.needs_student
  assert (out.teacher_passes > 0) == policy.needs_teacher
  if policy.teacher_every_step:
    np.testing.assert_array_equal(out.teacher_calls, out.length)
  assert policy.drafts == (name in DRAFTERS)
  if not policy.drafts:
    np.testing.assert_array_equal(out.asked, out.written_by_teacher)


@pytest.mark.parametrize("name", POLICIES)
def test_every_token_is_its_writers_choice(name):
  """Greedy: each token is the argmax of the model that provenance names, given those before it."""
  out = run(middling(name))
  student, teacher = NumpyModel(STUDENT, L), NumpyModel(TEACHER, L)
  for b in range(B):
    tokens = out.tokens[b, : out.length[b]].tolist()
    for t, token in enumerate(tokens):
      if out.written_by_teacher[b, t]:
        assert token == teacher.greedy(SOURCE[b], tokens[:t])
      elif name == "prompt_lookup":  # exact, whoever proposed the token
        assert token == teacher.greedy(SOURCE[b], tokens[:t])
      else:
        assert token == student.greedy(STUDENT_SOURCE[b], tokens[:t])


@pytest.mark.parametrize("name", [name for name, dials in DIALS.items() if dials])
def test_the_dial_is_a_traced_leaf_that_runs_from_never_to_always(name):
  middle, never, always = DIALS[name]
  policy = policy_of(name, middle)
  assert policy.dial_name is not None
  leaf = getattr(policy, policy.dial_name)
  assert leaf.dtype == jnp.float32 and any(leaf is x for x in jax.tree.leaves(policy))
  assert jax.tree.structure(policy) == jax.tree.structure(policy_of(name, never))
  model, source = NumpyModel(STUDENT, L), STUDENT_SOURCE
  expected = padded([greedy_decode(model, row, L) for row in source], L)
  silent = run(policy_of(name, never))
  np.testing.assert_array_equal(silent.tokens, expected)
  assert not silent.asks.any()
  some = run(policy)
  assert 0 < some.asks.sum() < some.length.sum()
  if always is not None:
    eager = run(policy_of(name, always))
    np.testing.assert_array_equal(eager.asks, eager.length)


@pytest.mark.parametrize("name", ["handover", "max_prob", "entropy", "margin", "oracle"])
def test_a_dial_by_row_is_the_scalar_dial_of_each_row(name):
  middle, never, _ = DIALS[name]
  mixed = run(policy_of(name, np.array([middle, never] * (B // 2))))
  for row, dial in ((0, middle), (1, never), (2, middle)):
    np.testing.assert_array_equal(mixed.tokens[row], run(policy_of(name, dial)).tokens[row])


def test_unknown_names_and_needless_dials_are_refused():
  with pytest.raises(ValueError, match="policy='gate': unknown; choose one of student, teacher"):
    make_policy("gate")
  with pytest.raises(ValueError, match=r"dial=0\.5: policy 'student' has no dial"):
    make_policy("student", 0.5)
