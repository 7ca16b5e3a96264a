"""The learned gate as a policy, alone or, for rollouts, with random asks added.

Shape letters: B batch.
"""

import math
from typing import ClassVar

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

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


def _gate_score(seen: Observation, offset: Dial, key: Key, *, sampled: bool) -> Float[Array, " B"]:
  """Returns the gate's log-odds; a logistic draw makes it positive with probability σ(log-odds)."""
  score = seen.gate_logits + per_row(offset, seen.gate_logits)
  return score + jax.random.logistic(present(key), score.shape) if sampled else score


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

  def score(self, seen: Observation, key: Key) -> Float[Array, " B"]:
    """Returns the gate's log-odds where the budget allows any ask, else −∞."""
    by_gate = _gate_score(seen, self.offset, key, sampled=self.sampled)
    return jnp.where(self.silenced(seen.budget), -jnp.inf, by_gate)


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

  def score(self, seen: Observation, key: Key) -> Float[Array, " B"]:
    """Returns the gate's log-odds, or ∞ where the coin asks."""
    gate_key, coin_key = jax.random.split(present(key))
    by_gate = _gate_score(seen, self.offset, gate_key, sampled=self.sampled)
    by_coin = jax.random.bernoulli(coin_key, per_row(self.explore, seen.gate_logits))
    return jnp.where(by_coin, jnp.inf, by_gate)
