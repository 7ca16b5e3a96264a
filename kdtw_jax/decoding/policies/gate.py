"""The learned gate as a policy, alone or, for rollouts, with random asks added.

Shape letters: B batch.
"""

import math
from typing import ClassVar

import flax.struct
import jax
from jaxtyping import Array, Bool, Float

from kdtw_jax.decoding import gating
from kdtw_jax.decoding.policies.policy import (
    Dial,
    Never,
    Observation,
    Policy,
    per_row,
    present,
    static,
)
from kdtw_jax.decoding.policies.registry import register
from kdtw_jax.decoding.sampling import Key


def _gate_asks(seen: Observation, offset: Dial, key: Key, *, sampled: bool) -> Bool[Array, " B"]:
  offset = per_row(offset, seen.gate_logits)
  if sampled:
    return gating.gate_sampled(seen.gate_logits, offset, present(key))
  return gating.gate_greedy(seen.gate_logits, offset)


@register("handover", "Handover (learned gate)", family="handover")
@flax.struct.dataclass
class Handover(Policy):
  """A policy in which the learned gate asks, greedily or at random, but never with a budget of 0.

      greedy   ask iff z_g(s) + offset > 0 and B > 0
      drawn   ask with probability σ(z_g(s) + offset) where B > 0

  "Knowledge Distillation with Training Wheels", arXiv 2502.17717.

  Attributes:
    offset: added to the gate's log-odds; 0 is the policy as trained, larger values ask more.
    sampled: True draws the asks, False is greedy; static.
  """

  offset: Dial = 0.0
  sampled: bool = static(False)

  dial_name: ClassVar[str | None] = "offset"
  never: ClassVar[Never] = -math.inf
  source: ClassVar[str] = "arXiv 2502.17717"

  @property
  def draws(self) -> bool:
    """True if the gate is sampled."""
    return self.sampled

  def silenced(self, budget: Float[Array, " B"]) -> Bool[Array, " B"]:
    """Returns the rows with a budget of 0, which allows no call."""
    return budget <= 0.0

  def ask(self, seen: Observation, key: Key) -> Bool[Array, " B"]:
    """Asks where the gate does and the budget allows any ask."""
    by_gate = _gate_asks(seen, self.offset, key, sampled=self.sampled)
    return by_gate & ~self.silenced(seen.budget)


@register("mixture", "Gate and coin")
@flax.struct.dataclass
class Mixture(Policy):
  """A policy in which the gate or a coin asks: training rollouts must visit states the gate avoids.

      ask iff the gate does, under any budget, or a coin of probability r

  While the gate's use is being fitted to the budgets, it must be free to ask at budget 0 too, with
  `explore=0.0`.

  Attributes:
    explore: r, the probability of asking whatever the gate says, 0..1; 0 is the gate alone.
    offset: added to the gate's log-odds.
    sampled: True samples the gate, False follows it greedily; static.
  """

  explore: Dial
  offset: Dial = 0.0
  sampled: bool = static(True)

  dial_name: ClassVar[str | None] = "explore"

  @property
  def draws(self) -> bool:
    """True, because the coin is always drawn."""
    return True

  def ask(self, seen: Observation, key: Key) -> Bool[Array, " B"]:
    """Asks where the gate or the coin does."""
    gate_key, coin_key = jax.random.split(present(key))
    by_gate = _gate_asks(seen, self.offset, gate_key, sampled=self.sampled)
    return by_gate | jax.random.bernoulli(coin_key, per_row(self.explore, seen.gate_logits))
