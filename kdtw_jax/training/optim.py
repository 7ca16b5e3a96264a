"""Optimizers with warm-up and cosine decay, and a separate learning rate for the heads.

AdamW is the default. Muon is for training from scratch. Adafactor, whose steps are relative to a
parameter's size and whose state is small, is for large published models (Shazeer and Stern 2018,
https://arxiv.org/abs/1804.04235).

Muon orthogonalises the momentum of each layer matrix; Adam updates everything else (embeddings,
norms, heads). Muon's update is scaled to the size of Adam's, so both use the same learning rates.
Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; Liu et al. 2025,
https://arxiv.org/abs/2502.16982.

The heads (value, cost value, gate, price) have their own learning rate. During `value_warmup_steps`
the rest of the student (the trunk) is frozen, because path consistency with an untrained value
pushes every sampled token down, whatever its merit.

    heads  warm up over the first tenth of the value warm-up, hold their rate to its end, then decay
    trunk  frozen during the value warm-up, then warms up and decays over the remaining steps
"""

from collections.abc import Callable
from typing import Any

import jax
import ml_collections
import optax

from kdtw_jax.models import HEADS

ADAM_RMS = 0.2  # root mean square of Adam's updates, in units of the learning rate


def _cosine(peak: float, stage: ml_collections.ConfigDict, *, warmup: int, steps: int) -> Callable:
  """Makes a linear warm-up to step `warmup`, then a cosine decay to the final rate at `steps`."""
  return optax.warmup_cosine_decay_schedule(
      init_value=0.0,
      peak_value=peak,
      warmup_steps=warmup,
      decay_steps=max(steps, warmup + 1),
      end_value=peak * stage.final_learning_rate / stage.learning_rate,
  )


def trunk_schedule(stage: ml_collections.ConfigDict) -> Callable:
  """Returns the learning-rate schedule of everything but the heads."""
  waiting = stage.get("value_warmup_steps", 0)
  schedule = _cosine(
      stage.learning_rate, stage, warmup=stage.warmup_steps, steps=stage.steps - waiting
  )
  if not waiting:
    return schedule
  return optax.join_schedules([optax.constant_schedule(0.0), schedule], [waiting])


def heads_schedule(stage: ml_collections.ConfigDict) -> Callable:
  """Returns the learning-rate schedule of the heads, for a stage that has one."""
  peak, alone = stage.head_learning_rate, stage.value_warmup_steps
  if not alone:
    return _cosine(peak, stage, warmup=stage.warmup_steps, steps=stage.steps)
  rise = optax.linear_schedule(0.0, peak, max(alone // 10, 1))
  return optax.join_schedules(
      [rise, _cosine(peak, stage, warmup=0, steps=stage.steps - alone)], [alone]
  )


def _adamw(schedule: Callable, stage: ml_collections.ConfigDict) -> optax.GradientTransformation:
  return optax.adamw(
      schedule,
      b1=0.9,
      b2=0.98,
      eps=1e-9,
      weight_decay=stage.weight_decay,
      mask=lambda params: jax.tree.map(lambda x: x.ndim > 1, params),
  )


def _muon(schedule: Callable, stage: ml_collections.ConfigDict) -> optax.GradientTransformation:
  del stage  # its weight decay is 0, see config/rules.py
  return optax.contrib.muon(
      schedule,
      consistent_rms=ADAM_RMS,
      adam_b1=0.9,
      adam_b2=0.98,
      muon_weight_dimension_numbers=_layer_matrices,
  )


def _adafactor(
    schedule: Callable, stage: ml_collections.ConfigDict
) -> optax.GradientTransformation:
  del stage  # its weight decay is 0, see config/rules.py
  return optax.adafactor(schedule)


def _layer_matrices(params: Any) -> Any:
  """Tells Muon the axes of each leaf `[in, ..., out]`, a stack of matrices; None for Adam."""

  def dimensions(path, x):
    in_layer = any(name.startswith("layer_") for name in _names(path))
    return optax.contrib.MuonDimensionNumbers(0, x.ndim - 1) if in_layer and x.ndim > 1 else None

  return jax.tree_util.tree_map_with_path(dimensions, params)


def _names(path) -> list[str]:
  return [str(getattr(k, "key", getattr(k, "name", k))) for k in path]


def labels(names: tuple[str, ...]) -> Callable:
  """Returns a function that labels a pytree's leaves True if one of the names is on their path."""

  def label(path, _):
    return not set(_names(path)).isdisjoint(names)

  return lambda params: jax.tree_util.tree_map_with_path(label, params)


def make_optimizer(stage: ml_collections.ConfigDict) -> optax.GradientTransformation:
  """Makes the optimizer of one stage.

  Args:
    stage: a training section of the config: `optimizer`, `learning_rate`, `warmup_steps`, `steps`,
      `weight_decay`, `max_grad_norm`; and, for path consistency, `head_learning_rate` and
      `value_warmup_steps`.

  Returns:
    An optax transformation that clips by global norm, then applies the named optimizer. If the
    heads have their own rate, they use AdamW and the trunk starts after the value warm-up.
  """
  make = {"adamw": _adamw, "muon": _muon, "adafactor": _adafactor}[stage.optimizer]
  clip = optax.clip_by_global_norm(stage.max_grad_norm)
  trunk = make(trunk_schedule(stage), stage)
  if "head_learning_rate" not in stage:
    return optax.chain(clip, trunk)
  heads = _adamw(heads_schedule(stage), stage)
  return optax.chain(clip, optax.partition({False: trunk, True: heads}, labels(HEADS)))
