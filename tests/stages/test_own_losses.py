"""A loss of one's own: a module outside of the package, its name in a config, no other file."""

import sys
import uuid

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdtw_jax import config as config_lib
from kdtw_jax import losses, plugins
from kdtw_jax.stages import distillation, rollouts, warm_start, wheels
from kdtw_jax.training import step
from tests import tiny

MODULE = '''
"""Total variation between the two distributions."""

import jax
import jax.numpy as jnp

from kdtw_jax import losses


@losses.register_loss("total_variation")
def total_variation(teacher_logits, student_logits, tokens, *, scale=1.0):
  p, q = (jax.nn.softmax(logits, axis=-1) for logits in (teacher_logits, student_logits))
  return scale * 0.5 * jnp.sum(jnp.abs(p - q), axis=-1)
'''


@pytest.fixture
def config(tmp_path, monkeypatch):
  """A config that names the module and weighs its loss in every stage that has losses."""
  name = f"own_{uuid.uuid4().hex}"
  (tmp_path / f"{name}.py").write_text(MODULE, encoding="utf-8")
  monkeypatch.syspath_prepend(tmp_path)
  made = config_lib.defaults()
  with made.unlocked():
    made.plugins = (name,)
    for stage in (made.warm_start, made.distillation, made.wheels):
      stage.losses.total_variation = {"weight": 1.0, "scale": 2.0}
  yield made
  losses.LOSSES.pop("total_variation", None)
  sys.modules.pop(name, None)


def test_a_loss_of_ones_own_is_one_file_and_its_name_in_a_config(config):
  config_lib.validate(config)
  with pytest.raises(ValueError, match="losses.total_variation: unknown loss"):
    losses.weighted_losses(config.warm_start.losses.to_dict())
  plugins.load_plugins(config.plugins)
  models, (params, teacher_params) = tiny.models(), tiny.params()
  batch = tiny.batch()
  references = jax.tree.map(jnp.asarray, rollouts.from_references(batch))
  duals = np.asarray([3.0, 1.0, 0.2], np.float32)
  for objective, data in (
      (warm_start.distribution_matching(models, config.warm_start), batch),
      (distillation.path_consistency(models, config.distillation), references),
      (wheels.constrained_path_consistency(models, config.wheels, knots=tiny.KNOTS), references),
  ):
    loss, metrics = jax.jit(step.loss_of(objective))(
        params, teacher_params, data, jax.random.key(0), duals
    )
    found = metrics.get("total_variation", metrics.get("loss_total_variation"))
    assert 0.0 < found <= 2.0 and np.isfinite(loss)  # twice a distance of at most 1


def test_a_module_that_is_not_there_is_named():
  with pytest.raises(ValueError, match="plugin 'no_such_module': cannot be imported .*PYTHONPATH"):
    plugins.load_plugins(("no_such_module",))
