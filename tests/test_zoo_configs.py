"""The zoo's configs: each trains the stage on rows that it has, with the losses of its paper."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import objectives
from kdtw_jax import config as config_lib
from kdtw_jax import losses
from kdtw_jax.stages import distillation, rollouts
from kdtw_jax.training import step
from tests import tiny
from tests.test_config import load


@pytest.mark.parametrize("name", objectives.OBJECTIVES)
def test_each_objective_is_a_valid_config_that_moves_the_student(name):
  config = load("demo", f"smoke,objective={name}")
  config_lib.validate(config)
  stage = config.distillation
  losses.weighted_losses(stage.losses.to_dict())
  models, (params, teacher_params) = tiny.models(), tiny.params()
  rollout = rollouts.make_rollout(models, stage, max_length=99)
  data = rollout(params, teacher_params, tiny.batch(), jax.random.key(0))
  assert jnp.mean(data.on_policy) == stage.on_policy_fraction
  objective = distillation.path_consistency(models, stage)
  fn = jax.jit(jax.grad(step.loss_of(objective), has_aux=True))
  grads, metrics = fn(params, teacher_params, data, jax.random.key(0), None)
  moved = {
      part: any(np.any(leaf != 0) for leaf in jax.tree.leaves(grads[part]))
      for part in ("decoder", "value")
  }
  assert moved == {"decoder": True, "value": stage.path_consistency > 0}
  assert all(np.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize("name", objectives.OBJECTIVES)
def test_an_objective_fits_a_config_that_begins_again_from_the_defaults(name):
  config = load("aeslc", f"scratch,objective={name}")
  config_lib.validate(config)
  assert config.is_locked and config.distillation.is_locked


def test_values_have_steps_of_their_own_wherever_an_objective_reads_them():
  config = load("xsum")
  assert (config.distillation.path_consistency, config.distillation.value_warmup_steps) == (0, 0)
  with config.unlocked():
    objectives.use(config, "average_path_consistency")
    assert config.distillation.value_warmup_steps == config.distillation.steps // 5
    config_lib.validate(config)
    objectives.use(config, "path_consistency")
    assert not config.distillation.average_reward


def test_an_unknown_objective_is_refused_with_the_known_ones():
  with pytest.raises(ValueError, match="objective=gdk: is unknown; there are path_consistency, "):
    load("multi30k", "objective=gdk")


@pytest.mark.parametrize(
    "changes, field",
    [
        ({"on_policy_fraction": 0.0}, "distillation.path_consistency=1.0"),
        (
            {"on_policy_fraction": 1.0, "losses.forward_kl.weight": 1.0},
            "distillation.losses.forward_kl=",
        ),
    ],
)
def test_a_loss_without_rows_is_refused(changes, field):
  config = load("demo", "objective=path_consistency")
  config.distillation.update_from_flattened_dict(changes)
  with pytest.raises(ValueError, match=f"config.{field}.*leaves none: set the weight to 0"):
    config_lib.validate(config)


def test_the_expectation_is_over_own_tokens():
  config = load("demo")
  config.distillation.consistency_rows = "all"
  with pytest.raises(ValueError, match="consistency_rows='all': must be on_policy, or .* sampled"):
    config_lib.validate(config)
  config.distillation.immediate = "sampled"
  config_lib.validate(config)
