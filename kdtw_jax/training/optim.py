"""Optimizers: AdamW with warm-up and cosine decay, and a rate of its own for the heads.

The heads (value, cost value, gate, price) train at their own rate. During `value_warmup_steps` the
rest of the student stands still: path consistency with an untrained value pushes every sampled
token down, whatever its merit.
"""

from collections.abc import Callable

import jax
import ml_collections
import optax

HEADS = ("gate", "price", "value", "cost_value")


def _schedule(peak: float, stage: ml_collections.ConfigDict) -> Callable:
  return optax.warmup_cosine_decay_schedule(
      init_value=0.0, peak_value=peak, warmup_steps=stage.warmup_steps,
      decay_steps=max(stage.steps, stage.warmup_steps + 1),
      end_value=peak * stage.final_learning_rate / stage.learning_rate)


def _delayed(schedule: Callable, steps: int) -> Callable:
  return optax.join_schedules([optax.constant_schedule(0.0), schedule], [steps])


def _adamw(schedule: Callable, stage: ml_collections.ConfigDict) -> optax.GradientTransformation:
  return optax.adamw(schedule, b1=0.9, b2=0.98, eps=1e-9, weight_decay=stage.weight_decay,
                     mask=lambda params: jax.tree.map(lambda x: x.ndim > 1, params))


def labels(names: tuple[str, ...]) -> Callable:
  """A function that labels each leaf of a pytree True where one of the names is on its path."""
  def label(path, _):
    return not {str(getattr(k, "key", getattr(k, "name", k))) for k in path}.isdisjoint(names)
  return lambda params: jax.tree_util.tree_map_with_path(label, params)


def make_optimizer(stage: ml_collections.ConfigDict) -> optax.GradientTransformation:
  """The optimizer of one stage.

  Args:
    stage: a training section of the config: `learning_rate`, `warmup_steps`, `steps`,
      `weight_decay`, `max_grad_norm`; and, for path consistency, `head_learning_rate` and
      `value_warmup_steps`.

  Returns:
    An optax transformation: clipping by global norm, then AdamW (two of them where the heads have
    their own rate; the trunk's starts after the value warm-up).
  """
  clip = optax.clip_by_global_norm(stage.max_grad_norm)
  trunk = _schedule(stage.learning_rate, stage)
  if "head_learning_rate" not in stage:
    return optax.chain(clip, _adamw(trunk, stage))
  heads = _schedule(stage.head_learning_rate, stage)
  return optax.chain(clip, optax.partition(
      {False: _adamw(_delayed(trunk, stage.value_warmup_steps), stage), True: _adamw(heads, stage)},
      labels(HEADS)))


def only(
    names: tuple[str, ...], learning_rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
  """Adam on the parameters under the given names; every other parameter stands still."""
  return optax.partition({True: optax.adam(learning_rate), False: optax.set_to_zero()},
                         labels(names))
