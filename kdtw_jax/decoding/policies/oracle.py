"""Asking where the teacher disagrees: an upper bound, not a usable method.

Shape letters: B batch.
"""

import math
from typing import ClassVar

import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdtw_jax import distributions
from kdtw_jax.decoding.policies.policy import Dial, Never, Observation, Policy, per_row, present
from kdtw_jax.decoding.policies.registry import register
from kdtw_jax.decoding.sampling import Key

_LEAST = 1e-6  # nats: where the best tokens differ at a gap of 0, it still asks at θ = 0


@register("oracle", "Oracle (teacher's gap)", dials=(4.0, 2.0, 1.0, 0.3, 0.0))
@flax.struct.dataclass
class Oracle(Policy):
  """A policy that asks where the teacher disagrees: an upper bound for any gate.

      ask iff argmax p ≠ argmax q and log max p − log p(argmax q) >= θ

  The teacher runs at every step. Its calls and passes are counted as such, separately from the
  asks.

  Attributes:
    threshold: θ, nats; 0 asks wherever the best tokens differ, so that the output is the teacher's.
  """

  threshold: Dial = 0.0

  dial_range: ClassVar[tuple[float, float]] = (0.0, math.inf)
  dial_name: ClassVar[str | None] = "threshold"
  never: ClassVar[Never] = math.inf
  teacher_every_step: ClassVar[bool] = True

  def score(self, seen: Observation, key: Key) -> Float[Array, " B"]:
    """Returns the gap where it counts, −∞ where the teacher would write the student's token."""
    teacher_logits = present(seen.teacher_logits)
    gap = distributions.log_prob_gap(teacher_logits, seen.logits)
    differs = jnp.argmax(teacher_logits, axis=-1) != jnp.argmax(seen.logits, axis=-1)
    reached = differs & (gap >= per_row(self.threshold, gap))
    return jnp.where(reached, jnp.maximum(gap, _LEAST), -jnp.inf)
