"""Rollouts: who wrote what, and which rows are whose."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdtw_jax.base import EOS_ID, PAD_ID
from kdtw_jax.models import with_duals
from kdtw_jax.stages import rollouts
from tests import tiny


@functools.cache
def rollout(wheels, max_length, **overrides):
  stage = tiny.stage("wheels" if wheels else "distillation", **overrides)
  return rollouts.make_rollout(tiny.models(), stage, max_length=max_length, may_ask=wheels)


def run(wheels, batch, duals=(3.0, 1.0, 0.2), max_length=99, **overrides):
  fn = rollout(wheels, max_length, **overrides)
  student_params, teacher_params = tiny.params()
  student_params = with_duals(student_params, jnp.asarray(duals))
  return jax.tree.map(np.asarray, fn(student_params, teacher_params, batch, jax.random.key(3)))


def teacher_greedy(trajectory):
  """The teacher's best token after each prefix of the trajectories, `[B, T]`."""
  _, teacher = tiny.models()
  params = tiny.params()[1]
  inputs = jnp.pad(trajectory.tokens[:, :-1], ((0, 0), (1, 0)))
  hidden = teacher.hidden(params, teacher.encode(params, trajectory.teacher_source), inputs)
  logits = teacher.logits(params, hidden)
  return np.asarray(jnp.argmax(logits.at[..., PAD_ID].set(-1e9), axis=-1))


def test_references_are_off_policy_and_ask_nothing():
  batch = tiny.batch()
  trajectory = rollouts.from_references(batch)
  np.testing.assert_array_equal(trajectory.tokens, batch.target)
  assert not (trajectory.asked.any() | trajectory.on_policy.any() | trajectory.own_gate.any())
  np.testing.assert_array_equal(trajectory.ended, (batch.target == EOS_ID).any(axis=1))


def test_rows_are_mixed_as_asked_for():
  batch = tiny.batch()
  t = run(True, batch, on_policy_fraction=0.75, explore=1.0, rollout_temperature=0.0)
  np.testing.assert_array_equal(t.on_policy, np.arange(8) < 6)
  np.testing.assert_array_equal(t.own_gate, [True, False] * 3 + [False] * 2)
  np.testing.assert_array_equal(t.tokens[6:], batch.target[6:])
  np.testing.assert_array_equal(t.example_id, batch.example_id)


def test_exploring_rows_ask_and_the_teacher_writes_there():
  t = run(True, tiny.batch(), on_policy_fraction=0.75, explore=1.0, rollout_temperature=0.0)
  written = t.tokens != PAD_ID
  exploring = t.on_policy & ~t.own_gate
  assert (t.asked[exploring] == written[exploring]).all() and t.asked[exploring].any()
  np.testing.assert_array_equal(t.tokens[t.asked], teacher_greedy(t)[t.asked])
  assert not t.asked[~t.on_policy].any()


def test_without_wheels_nobody_asks():
  t = run(False, tiny.batch(), on_policy_fraction=0.5, rollout_temperature=1.0)
  assert not t.asked.any() and not t.own_gate.any()
  assert t.on_policy.sum() == 4


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_pure_mixtures_are_possible(share):
  t = run(False, tiny.batch(), on_policy_fraction=share, rollout_temperature=1.0)
  assert t.on_policy.mean() == share


def test_off_policy_rows_can_come_from_the_teacher():
  t = run(
      False, tiny.batch(), on_policy_fraction=0.0, off_policy="teacher", rollout_temperature=0.0
  )
  written = t.tokens != PAD_ID
  np.testing.assert_array_equal(t.tokens[written], teacher_greedy(t)[written])
  assert not t.on_policy.any()


def test_the_teacher_writes_its_share_of_own_rows():
  batch = jax.tree.map(lambda x: jnp.concatenate([x] * 8), tiny.batch())
  t = run(False, batch, on_policy_fraction=1.0, teacher_mixing=0.3, rollout_temperature=1.0)
  written = t.tokens != PAD_ID
  share, n = t.asked[written].mean(), written.sum()
  assert abs(share - 0.3) < 4 * (0.3 * 0.7 / n) ** 0.5  # four standard errors
  assert not t.own_gate.any()


def test_what_a_batch_cuts_goes_on_and_what_the_decoder_cuts_has_ended():
  batch = tiny.batch()
  length = batch.target.shape[1]
  for max_length, all_ended in ((length + 1, False), (length, True)):
    t = run(False, batch, max_length=max_length, on_policy_fraction=0.5, rollout_temperature=1.0)
    has_end = (t.tokens == EOS_ID).any(axis=1)
    assert not has_end[t.on_policy].all()  # or the test would show nothing
    np.testing.assert_array_equal(t.ended, has_end | (t.on_policy & all_ended))


@pytest.mark.parametrize("price, share", [(50.0, 0.0), (-50.0, 1.0)])
def test_the_gate_decides_at_the_price_of_the_duals(price, share):
  t = run(
      True,
      tiny.batch(),
      duals=(price,) * 3,
      on_policy_fraction=1.0,
      explore=0.0,
      rollout_temperature=0.0,
  )
  assert t.asked[t.tokens != PAD_ID].mean() == share
