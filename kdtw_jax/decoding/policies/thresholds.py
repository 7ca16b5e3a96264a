"""Asking where the student is uncertain: thresholds on its next-token distribution q.

Shape letters: B batch.
"""

import math
from typing import ClassVar

import flax.struct
from jaxtyping import Array, Float

from kdtw_jax import distributions
from kdtw_jax.decoding import gating
from kdtw_jax.decoding.policies.policy import Dial, Never, Observation, Policy, per_row
from kdtw_jax.decoding.policies.registry import register
from kdtw_jax.decoding.sampling import Key


@register("max_prob", "Max-prob threshold", dials=(0.1, 0.2, 0.3, 0.45, 0.65))
@flax.struct.dataclass
class MaxProb(Policy):
  """A policy that asks where the probability of the student's best token is below the threshold.

      ask iff max q < θ

  Attributes:
    threshold: θ; 0 never asks, above 1 always asks.
  """

  threshold: Dial

  dial_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
  dial_name: ClassVar[str | None] = "threshold"
  pace: ClassVar[float] = 0.2  # its scores lie in -1..1
  never: ClassVar[Never] = 0.0

  def score(self, seen: Observation, key: Key) -> Float[Array, " B"]:
    """Returns θ − max q."""
    return per_row(self.threshold, seen.logits) - gating.max_prob(seen.logits)


@register("entropy", "Entropy threshold", dials=(4.0, 3.0, 2.2, 1.5, 0.8))
@flax.struct.dataclass
class Entropy(Policy):
  """A policy that asks where the student's next-token entropy is above the threshold.

      ask iff H(q) > θ

  Attributes:
    threshold: θ, nats; log V never asks, below 0 always asks.
  """

  threshold: Dial

  dial_range: ClassVar[tuple[float, float]] = (0.0, math.inf)
  dial_name: ClassVar[str | None] = "threshold"
  never: ClassVar[Never] = math.log

  def score(self, seen: Observation, key: Key) -> Float[Array, " B"]:
    """Returns H(q) − θ, nats."""
    return distributions.entropy(seen.logits) - per_row(self.threshold, seen.logits)


@register("margin", "Margin threshold", dials=(0.02, 0.06, 0.15, 0.3, 0.5))
@flax.struct.dataclass
class Margin(Policy):
  """A policy that asks where the student's two best tokens differ in probability by less than θ.

      ask iff q₁ − q₂ < θ

  Attributes:
    threshold: θ; 0 never asks, above 1 always asks.
  """

  threshold: Dial

  dial_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
  dial_name: ClassVar[str | None] = "threshold"
  pace: ClassVar[float] = 0.2  # its scores lie in -1..1
  never: ClassVar[Never] = 0.0

  def score(self, seen: Observation, key: Key) -> Float[Array, " B"]:
    """Returns θ − (q₁ − q₂)."""
    return per_row(self.threshold, seen.logits) - gating.margin(seen.logits)
