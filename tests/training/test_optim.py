"""The heads' own rate, the value warm-up, and freezing."""

import jax
import jax.numpy as jnp
import numpy as np

from kdtw_jax.training import optim
from tests import tiny


def moved(before, after):
  """Names of the top-level parts that changed."""
  changed = jax.tree.map(lambda a, b: bool(np.any(a != b)), before, after)
  return {name for name, part in changed.items() if any(jax.tree.leaves(part))}


def updates(optimizer, params, steps):
  state, now = optimizer.init(params), params
  ones = jax.tree.map(jnp.ones_like, params)
  for _ in range(steps):
    change, state = optimizer.update(ones, state, now)
    now = jax.tree.map(jnp.add, now, change)
  return now


def test_trunk_stands_still_during_the_value_warm_up():
  params, _ = tiny.params()
  optimizer = optim.make_optimizer(tiny.stage("distillation", value_warmup_steps=3))
  heads = {"gate", "price", "value", "cost_value", "worth"}
  assert moved(params, updates(optimizer, params, 3)) == heads
  assert moved(params, updates(optimizer, params, 5)) == set(params)


def test_schedules_decay_over_what_is_left_after_the_value_warm_up():
  stage = tiny.stage(
      "distillation",
      steps=200,
      warmup_steps=20,
      value_warmup_steps=50,
      learning_rate=1e-3,
      head_learning_rate=1e-2,
      final_learning_rate=1e-4,
  )
  trunk, heads = (
      np.array([float(schedule(step)) for step in range(201)])
      for schedule in (optim.trunk_schedule(stage), optim.heads_schedule(stage))
  )
  assert (trunk[:51] == 0).all() and trunk[70] == trunk.max() == np.float32(1e-3)
  assert heads[:50].mean() > 0.9e-2 and (heads[5:51] == np.float32(1e-2)).all()
  np.testing.assert_allclose([trunk[200], heads[200]], [1e-4, 1e-3], rtol=1e-5)
  assert (np.diff(trunk[70:]) < 0).all() and (np.diff(heads[50:]) < 0).all()


def test_supervised_stages_train_everything_from_the_start():
  params, _ = tiny.params()
  optimizer = optim.make_optimizer(tiny.stage("sft"))
  assert moved(params, updates(optimizer, params, 2)) == set(params)


def test_muon_turns_each_matrix_of_a_layer_and_leaves_the_rest_to_adam():
  """Muon's update has singular values that are alike, and the size of Adam's."""
  params, _ = tiny.params()
  rate = 0.1
  muon, adamw = (
      optim.make_optimizer(tiny.stage("sft", optimizer=name, warmup_steps=0, learning_rate=rate))
      for name in ("muon", "adamw")
  )
  gradients = jax.tree.map(
      lambda x: jax.random.normal(jax.random.key(x.size), x.shape) + 1.0, params
  )
  by_muon, by_adam = (
      optimizer.update(gradients, optimizer.init(params), params)[0] for optimizer in (muon, adamw)
  )
  qkv = np.asarray(by_muon["encoder"]["layer_0"]["self_attention"]["qkv"])
  for part in range(3):
    values = np.linalg.svd(qkv[:, part], compute_uv=False)
    assert values[0] / values[-1] < 2.5
    np.testing.assert_allclose(np.sqrt(np.mean(qkv[:, part] ** 2)), 0.2 * rate, rtol=0.3)
  for name in ("shared", "gate", "value"):  # Adam; with a look ahead, so of other size, in Muon
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(np.sign(a), np.sign(b)),
        by_muon[name],
        by_adam[name],
    )
    jax.tree.map(
        lambda a: np.testing.assert_allclose(np.abs(a), 1.5 * rate, rtol=0.1), by_muon[name]
    )
