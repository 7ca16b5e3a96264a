"""A batch in parts gives the gradients, the loss and the metrics of the whole."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdtw_jax.stages import distillation, supervised, warm_start, wheels
from kdtw_jax.training import step
from tests import tiny
from tests.stages.test_objectives import trajectory

ROWS = 8


def objective_and_data(stage):
  """(an objective, its data): rows of very different lengths, and padding rows."""
  batch = jax.tree.map(jnp.asarray, tiny.batch(rows=ROWS))
  written = trajectory()._replace(example_id=batch.example_id.at[3].set(-1))
  student, _ = models = tiny.models()
  if stage == "sft":
    section = tiny.stage(stage, label_smoothing=0.1)
    return supervised.cross_entropy(student, section), batch
  section = tiny.stage(stage)
  if stage == "warm_start":
    section.losses.generalized_jsd.weight = 0.5
    return warm_start.distribution_matching(models, section), batch
  section.losses.forward_kl.update(weight=1.0, rows="off_policy")
  if stage == "distillation":
    return distillation.path_consistency(models, section), written
  return wheels.constrained_path_consistency(models, section, knots=tiny.KNOTS), written


@functools.cache
def found(stage, microbatches):
  objective, data = objective_and_data(stage)
  params, teacher_params = tiny.params()
  duals = jnp.asarray([3.0, 1.0, 0.2])
  fn = functools.partial(step.gradients, objective, microbatches=microbatches)
  return jax.jit(fn)(params, teacher_params, data, jax.random.key(0), duals)


@pytest.mark.parametrize(
    "stage, microbatches",
    [("sft", 2), ("sft", ROWS), ("warm_start", 4), ("distillation", 2), ("wheels", 4)],
)
def test_parts_add_up_to_the_whole(stage, microbatches):
  whole, parts = found(stage, 1), found(stage, microbatches)
  jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-6 * (1 + np.abs(a).max())),
      whole,
      parts,
  )


def test_counts_are_taken_without_the_models():
  """The compiled step has the matrix products of one pass over a part, and no more."""
  objective, data = objective_and_data("warm_start")

  def products(microbatches):
    fn = jax.jit(functools.partial(step.gradients, objective, microbatches=microbatches))
    program = fn.lower(*tiny.params(), data, jax.random.key(0), None).compile()
    return len(re.findall(r" dot\(", program.as_text()))

  assert products(2) == products(1) > 10


def test_a_mean_of_the_means_of_parts_would_be_another_loss():
  """What the test above would not see if all parts had as many tokens."""
  objective, data = objective_and_data("sft")
  loss = jax.jit(step.loss_of(objective))
  parts = [jax.tree.map(lambda x, m=m: x[m::4], data) for m in range(4)]
  args = tiny.params()[0], None
  each = [loss(*args, part, jax.random.key(0), None)[0] for part in parts]
  whole = loss(*args, data, jax.random.key(0), None)[0]
  assert abs(np.mean(each) - whole) > 1e-3


def test_dropout_differs_between_parts():
  student, _ = tiny.models()
  model = tiny.with_dropout(student, 0.5)
  objective = supervised.cross_entropy(model, tiny.stage("sft"))
  batch = jax.tree.map(jnp.asarray, tiny.batch(rows=1))
  twice = jax.tree.map(lambda x: jnp.concatenate([x, x]), batch)
  fn = jax.jit(functools.partial(step.gradients, objective, microbatches=2))
  loss = fn(tiny.params()[0], None, twice, jax.random.key(0), None)[1]
  one = jax.jit(functools.partial(step.gradients, objective))
  keys = [jax.random.fold_in(jax.random.key(0), m) for m in range(2)]
  each = [one(tiny.params()[0], None, batch, key, None)[1] for key in keys]
  assert abs(each[0] - each[1]) > 1e-3
  np.testing.assert_allclose(loss, np.mean(each), rtol=1e-5)
