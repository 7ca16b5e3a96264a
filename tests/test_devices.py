"""Training over a mesh gives the numbers of one device."""

import jax
import numpy as np
import optax
import pytest

from kdtw_jax import devices
from kdtw_jax.stages import supervised
from kdtw_jax.training import state as state_lib
from kdtw_jax.training import step
from tests import tiny


def test_params_split_along_their_largest_divisible_dimension():
  mesh = devices.make_mesh(4, 2)
  assert devices.param_sharding(mesh, (63, 512)).spec == jax.P(None, "model")
  assert devices.param_sharding(mesh, (512, 65)).spec == jax.P("model", None)
  assert devices.param_sharding(mesh, (511, 511)).spec == jax.P()
  assert devices.param_sharding(mesh, (8, 8)).spec == jax.P()  # too small to be worth it


def test_mesh_that_does_not_fit_is_refused():
  with pytest.raises(ValueError, match=r"mesh=\(data=4, model=4\): needs 16 devices, 8 at hand"):
    devices.make_mesh(4, 4)
  assert devices.make_mesh(-1, 2).shape == {"data": 4, "model": 2}


@pytest.mark.parametrize("gate", ["difficulty_price"])
def test_a_step_on_eight_devices_equals_a_step_on_one(gate, monkeypatch):
  monkeypatch.setattr(devices, "MIN_SHARDED_SIZE", 32)
  student, _ = tiny.models(gate)
  params, _ = tiny.params(gate)
  stage = tiny.stage("sft")
  objective = supervised.cross_entropy(student, stage)
  optimizer = optax.sgd(0.1)

  def run(data, model):
    mesh = devices.make_mesh(data, model)
    state = devices.shard_params(mesh, state_lib.create(params, optimizer))
    step_fn = step.make_train_step(objective, optimizer)
    state, metrics = step_fn(
        state, None, devices.shard_batch(mesh, tiny.batch()), jax.random.key(0)
    )
    return state.params, metrics["loss"]

  one, loss_one = run(1, 1)
  many, loss_many = run(4, 2)
  kernels = [leaf for leaf in jax.tree.leaves(many) if not leaf.sharding.is_fully_replicated]
  assert kernels  # something really was split
  np.testing.assert_allclose(loss_one, loss_many, rtol=1e-5)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6), one, many)
