"""Optimizers with warm-up and cosine decay, and a rate of its own for the heads.

AdamW; Muon, for training from scratch; Adafactor, whose steps are relative to a parameter's size
and whose state is small, for large published models (Shazeer and Stern 2018,
https://arxiv.org/abs/1804.04235).

Muon orthogonalises the momentum of each matrix of the layers; everything else (embeddings,
norms, heads) stays with Adam. Its update is scaled to the size of Adam's, so both take the same
learning rates. Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; Liu et al. 2025,
https://arxiv.org/abs/2502.16982.

The heads (value, cost value, gate, price) train at their own rate. During `value_warmup_steps` the
rest of the student stands still: path consistency with an untrained value pushes every sampled
token down, whatever its merit.

    heads  rise over the first tenth of the value warm-up, stay at their rate to its end, then decay
    trunk  stands still, then warms up and decays over the steps that are left
"""

from collections.abc import Callable
from typing import Any

import jax
import ml_collections
import optax

from kdtw_jax.models import HEADS

ADAM_RMS = 0.2  # root mean square of Adam's updates, in learning rates


def _cosine(peak: float, stage: ml_collections.ConfigDict, *, warmup: int, steps: int) -> Callable:
  """A linear rise over `warmup` steps, then a cosine down to the final rate at step `steps`."""
  return optax.warmup_cosine_decay_schedule(
      init_value=0.0,
      peak_value=peak,
      warmup_steps=warmup,
      decay_steps=max(steps, warmup + 1),
      end_value=peak * stage.final_learning_rate / stage.learning_rate,
  )


def trunk_schedule(stage: ml_collections.ConfigDict) -> Callable:
  """The learning rate by step of everything but the heads."""
  waiting = stage.get("value_warmup_steps", 0)
  schedule = _cosine(
      stage.learning_rate, stage, warmup=stage.warmup_steps, steps=stage.steps - waiting
  )
  if not waiting:
    return schedule
  return optax.join_schedules([optax.constant_schedule(0.0), schedule], [waiting])


def heads_schedule(stage: ml_collections.ConfigDict) -> Callable:
  """The learning rate by step of the heads, for a stage that has one for them."""
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
  return optax.contrib.muon(
      schedule,
      consistent_rms=ADAM_RMS,
      weight_decay=stage.weight_decay,
      adam_b1=0.9,
      adam_b2=0.98,
      adam_weight_decay=stage.weight_decay,
      muon_weight_dimension_numbers=_layer_matrices,
  )


def _adafactor(
    schedule: Callable, stage: ml_collections.ConfigDict
) -> optax.GradientTransformation:
  del stage  # its weight decay is 0, see config/rules.py
  return optax.adafactor(schedule)


def _layer_matrices(params: Any) -> Any:
  """How Muon sees each leaf: matrices `[in, ..., out]`, one per index between; None for Adam."""

  def dimensions(path, x):
    in_layer = any(name.startswith("layer_") for name in _names(path))
    return optax.contrib.MuonDimensionNumbers(0, x.ndim - 1) if in_layer and x.ndim > 1 else None

  return jax.tree_util.tree_map_with_path(dimensions, params)


def _names(path) -> list[str]:
  return [str(getattr(k, "key", getattr(k, "name", k))) for k in path]


def labels(names: tuple[str, ...]) -> Callable:
  """A function that labels each leaf of a pytree True where one of the names is on its path."""

  def label(path, _):
    return not set(_names(path)).isdisjoint(names)

  return lambda params: jax.tree_util.tree_map_with_path(label, params)


def make_optimizer(stage: ml_collections.ConfigDict) -> optax.GradientTransformation:
  """The optimizer of one stage.

  Args:
    stage: a training section of the config: `optimizer`, `learning_rate`, `warmup_steps`, `steps`,
      `weight_decay`, `max_grad_norm`; and, for path consistency, `head_learning_rate` and
      `value_warmup_steps`.

  Returns:
    An optax transformation: clipping by global norm, then the one named; the heads with AdamW at
    their own rate where they have one, the trunk starting after the value warm-up.
  """
  make = {"adamw": _adamw, "muon": _muon, "adafactor": _adafactor}[stage.optimizer]
  clip = optax.clip_by_global_norm(stage.max_grad_norm)
  trunk = make(trunk_schedule(stage), stage)
  if "head_learning_rate" not in stage:
    return optax.chain(clip, trunk)
  heads = _adamw(heads_schedule(stage), stage)
  return optax.chain(clip, optax.partition({False: trunk, True: heads}, labels(HEADS)))
