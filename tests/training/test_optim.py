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
  heads = {"gate", "price", "value", "cost_value"}
  assert moved(params, updates(optimizer, params, 3)) == heads
  assert moved(params, updates(optimizer, params, 5)) == set(params)


def test_supervised_stages_train_everything_from_the_start():
  params, _ = tiny.params()
  optimizer = optim.make_optimizer(tiny.stage("sft"))
  assert moved(params, updates(optimizer, params, 2)) == set(params)


def test_only_moves_what_it_names():
  params, _ = tiny.params()
  assert moved(params, updates(optim.only(("price",), 1e-2), params, 1)) == {"price"}
