"""Objectives: the right parts learn, from the right rows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdtw_jax.models import Models
from kdtw_jax.stages import distillation, rollouts, scoring, warm_start, wheels
from kdtw_jax.training import step
from tests import tiny


@functools.cache
def trajectory():
  """Half on-policy by a gate that sometimes asks, half references."""
  batch = tiny.batch()
  t = jax.tree.map(jnp.asarray, rollouts.from_references(batch))
  rows = jnp.arange(8) < 4
  asked = rows[:, None] & (jnp.arange(7)[None] % 2 == 0) & (t.tokens != 0)
  return t._replace(on_policy=rows, own_gate=rows, asked=asked)


def evaluate(knots, gate="difficulty_price", data=None, **overrides):
  models = tiny.models(gate)
  params, teacher_params = tiny.params(gate)
  stage = tiny.stage("wheels" if knots else "distillation", **overrides)
  stage.losses.forward_kl.weight = 0.0
  objective = (
      wheels.constrained_path_consistency(models, stage, knots=knots)
      if knots
      else distillation.path_consistency(models, stage)
  )
  duals = jnp.asarray([3.0, 1.0, 0.2]) if knots else None
  fn = jax.jit(jax.value_and_grad(step.loss_of(objective), has_aux=True))
  (loss, metrics), grads = fn(
      params, teacher_params, data or trajectory(), jax.random.key(0), duals
  )
  return (
      loss,
      metrics,
      {
          name: any(np.any(leaf != 0) for leaf in jax.tree.leaves(part))
          for name, part in grads.items()
      },
  )


ONLY_PCL = dict(gate_loss=0.0, budget_loss=0.0, cost_value_loss=0.0)


def test_distillation_moves_trunk_and_value_and_no_gate():
  loss, metrics, moved = evaluate(None, budget_loss=0.0)
  assert np.isfinite(loss) and metrics["residual"] > 0
  assert moved["decoder"] and moved["encoder"] and moved["value"]
  assert not moved["gate"] and not moved["price"] and not moved["cost_value"]


def test_the_budget_is_read_in_every_stage():
  alone = dict(path_consistency=0.0, gate_loss=0.0, cost_value_loss=0.0)
  for knots in (None, tiny.KNOTS):
    _, metrics, moved = evaluate(knots, **alone)
    assert moved["price"] and moved["encoder"] and not moved["gate"] and not moved["decoder"]
    assert metrics["loss_budget_loss"] > 0


@pytest.mark.parametrize(
    "credit, by_consistency", [("sampled", True), ("expected_gap", False), ("expected_kl", False)]
)
def test_the_gate_is_credited_by_samples_or_by_expectation(credit, by_consistency):
  _, _, moved = evaluate(tiny.KNOTS, gate_credit=credit, **ONLY_PCL)
  assert moved["gate"] == by_consistency


@pytest.mark.parametrize("gate", ["token", "mlp", "difficulty_price"])
@pytest.mark.parametrize("regression", ["advantage", "probability"])
def test_every_gate_learns_from_computed_credit(gate, regression):
  loss, metrics, moved = evaluate(
      tiny.KNOTS, gate, gate_regression=regression, path_consistency=0.0
  )
  assert np.isfinite(loss) and moved["gate"] and moved["cost_value"]
  assert ("loss_budget_loss" in metrics) == (gate == "difficulty_price")
  assert 0.0 < metrics["asked"] < 1.0


@pytest.mark.parametrize("value", ["head", "logsumexp"])
@pytest.mark.parametrize("knots", [None, tiny.KNOTS])
def test_both_values_give_finite_losses(value, knots):
  loss, _, moved = evaluate(knots, value=value, **ONLY_PCL)
  assert np.isfinite(loss) and moved["value"] == (value == "head")


@pytest.mark.parametrize("immediate, average", [("sampled", False), ("expected", True)])
@pytest.mark.parametrize("rows, kept", [("on_policy", range(4)), ("off_policy", range(4, 8))])
def test_losses_take_their_rows_alone(rows, kept, immediate, average):
  models, (params, teacher_params) = tiny.models(), tiny.params()

  def terms(data, rows):
    stage = tiny.stage(
        "distillation", consistency_rows=rows, immediate=immediate, average_reward=average
    )
    stage.losses.forward_kl.update(weight=1.0, rows=rows)
    objective = jax.jit(step.loss_of(distillation.path_consistency(models, stage)))
    return objective(params, teacher_params, data, jax.random.key(0), None)[1]

  both = trajectory()
  number = jnp.arange(8)
  alone = both._replace(example_id=jnp.where(jnp.isin(number, jnp.asarray(kept)), number, -1))
  got, want, other = terms(both, rows), terms(alone, "all"), terms(both, "all")
  for name in ("loss_path_consistency", "loss_forward_kl"):
    np.testing.assert_allclose(got[name], want[name], rtol=1e-5)
    assert abs(got[name] - other[name]) > 1e-4


@pytest.mark.parametrize("immediate", ["sampled", "expected"])
def test_on_average_rewards_nothing_depends_on_what_all_tokens_share(immediate):
  """V is that of the differences: constants in log μ would only pay for length."""
  models, (params, teacher_params) = tiny.models(), tiny.params()
  stage, trajectories = tiny.stage("distillation", immediate=immediate), trajectory()
  scores = jax.jit(functools.partial(scoring.score, models, stage))(
      params, teacher_params, trajectories
  )

  def loss_of(average, shift):
    stage.average_reward = average
    terms, _ = scoring.consistency_terms(
        stage,
        scores._replace(expected_rewards=scores.expected_rewards + shift),
        trajectories,
        rewards=scores.teacher_log_probs + shift,
        entropies=scores.log_probs,
        asked=jnp.zeros_like(scores.mask),
    )
    loss = terms["path_consistency"].value()
    return loss + stage.alpha * shift if immediate == "expected" else loss  # the immediate term

  np.testing.assert_allclose(loss_of(True, 0.0), loss_of(True, -2.0), rtol=1e-4)
  assert abs(loss_of(False, 0.0) - loss_of(False, -2.0)) > 0.1


def test_padding_rows_change_nothing():
  t = trajectory()
  padded = jax.tree.map(lambda x: jnp.concatenate([x, jnp.zeros((3, *x.shape[1:]), x.dtype)]), t)
  padded = padded._replace(example_id=padded.example_id.at[8:].set(-1))
  for knots in (None, tiny.KNOTS):
    np.testing.assert_allclose(evaluate(knots)[0], evaluate(knots, data=padded)[0], rtol=1e-5)


def test_readout_chunks_change_nothing():
  np.testing.assert_allclose(
      evaluate(tiny.KNOTS)[0], evaluate(tiny.KNOTS, readout_chunk=3)[0], rtol=1e-5
  )


def test_the_dual_step_counts_own_gate_rows_only():
  update = wheels.dual_step(tiny.stage("wheels", dual_learning_rate=1.0), (0.0, 1.0))
  t = trajectory()._replace(budget=jnp.zeros(8))
  used = float(t.asked[:4].sum() / (t.tokens[:4] != 0).sum())
  np.testing.assert_allclose(update(jnp.asarray([1.0, 1.0]), t), [1.0 + used, 1.0], rtol=1e-6)
  np.testing.assert_array_equal(
      update(jnp.asarray([1.0, 1.0]), t._replace(own_gate=jnp.zeros(8, bool))), [1.0, 1.0]
  )


def test_divergences_vanish_for_a_student_that_is_the_teacher():
  _, teacher = tiny.models()
  params = tiny.params()[1]
  stage = tiny.stage("warm_start", budget_loss=0.0)
  for name in ("reverse_kl", "generalized_jsd"):
    stage.losses[name].weight = 1.0
  batch = tiny.batch()
  batch = batch._replace(student_source=batch.teacher_source)
  objective = warm_start.distribution_matching(Models(teacher, teacher), stage)
  loss, means = step.loss_of(objective)(params, params, batch, jax.random.key(0), None)
  np.testing.assert_allclose(loss, 0.0, atol=1e-5)
  assert set(means) == {"forward_kl", "reverse_kl", "generalized_jsd"}
