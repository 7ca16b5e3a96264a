"""Baselines of worth.py: the first draft decides who gets help to the end, or all get as much.

Shape letters: B batch.
"""

import math
from typing import ClassVar

import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdtw_jax.decoding import signals
from kdtw_jax.decoding.policies.policy import Dial, Observation, per_row, present, static
from kdtw_jax.decoding.policies.registry import register
from kdtw_jax.decoding.policies.worth import UntilClean


@register(
    "route_gap_skip",
    "Help to the least risky, checks only if risky",
    skip=2.0,
    dials=(4.0, 8.0, 12.0, 20.0, 1000.0),
)
@register(
    "route_gap", "Help to the least risky, by predicted gaps", dials=(1.0, 2.0, 4.0, 8.0, 16.0)
)
@register(
    "route_margin", "Help to the surest, by margins", by="margin", dials=(1.0, 2.0, 3.0, 5.0, 8.0)
)
@register(
    "route_margin_hard",
    "Help to the least sure, by margins",
    by="margin",
    easy=False,
    dials=(1.0, 2.0, 3.0, 5.0, 8.0),
)
@register("route_length", "Help to the shortest", by="tokens", dials=(6.0, 9.0, 12.0, 15.0, 20.0))
@register(
    "route_length_hard",
    "Help to the longest",
    by="tokens",
    easy=False,
    dials=(6.0, 9.0, 12.0, 15.0, 20.0),
)
@flax.struct.dataclass
class Route(UntilClean):
  """A policy that helps the outputs whose first draft is on one side of a threshold, to the end.

      help iff Σ x <= θ of the first draft (easy first), or Σ x > θ (hard first)
      check iff helped and Σ d > r since the last check

  Attributes:
    threshold: θ.
    skip: r, nats: a draft whose predicted gaps d sum to no more is left unchecked; below 0 none is.
    by: the signal x, a name in signals.NAMES; static.
    easy: True helps below the threshold, False above it; static.
  """

  threshold: Dial = 4.0
  skip: Dial = -1.0
  by: str = static("gap")
  easy: bool = static(True)

  dial_range: ClassVar[tuple[float, float]] = (0.0, math.inf)
  dial_name: ClassVar[str | None] = "threshold"

  def __post_init__(self):
    super().__post_init__()
    if self.by not in signals.NAMES:
      raise ValueError(f"by={self.by!r}: must be one of {', '.join(signals.NAMES)}")

  def at_end(self, seen: Observation) -> Float[Array, " B"]:
    """Returns how far the first draft is on the right side, ∞ for later ones, −∞ if clean."""
    values = present(seen.signals)
    beyond = signals.column(values, self.by) - per_row(self.threshold, values)
    first = -beyond if self.easy else beyond
    first = jnp.where(first == 0, self.easy * 1e-6, first)  # θ itself is on the easy side
    score = jnp.where(seen.asks > 0, jnp.inf, first)
    clean = signals.column(values, "gap") <= per_row(self.skip, values)
    return jnp.where(clean, -jnp.inf, score)


@register("calls_each", "The same number of checks for all", dials=(1.0, 2.0, 3.0, 4.0, 6.0))
@flax.struct.dataclass
class CallsEach(UntilClean):
  """A policy that checks every output as often, or until it is clean.

      check iff calls < n

  Attributes:
    most: n, most calls of an output.
  """

  most: Dial = 2.0
  advised: bool = static(True)

  dial_range: ClassVar[tuple[float, float]] = (0.0, math.inf)
  dial_name: ClassVar[str | None] = "most"
  student: ClassVar[str] = "max_prob"

  @property
  def reads_signals(self) -> bool:
    """False, because every output is treated alike."""
    return False

  def at_end(self, seen: Observation) -> Float[Array, " B"]:
    """Returns ∞ while calls are left, else −∞."""
    most = per_row(self.most, seen.length)
    return jnp.where(seen.asks.astype(most.dtype) < most, jnp.inf, -jnp.inf)
