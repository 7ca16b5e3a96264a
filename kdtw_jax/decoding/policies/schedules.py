"""Asking by schedule or by coin, whatever the state, and asks that bring several tokens.

Shape letters: B batch.
"""

import math
from typing import ClassVar

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from kdtw_jax.decoding.policies import registry
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

_ROUNDING = 1e-4  # float32 rounds some products of rate and position down


@register("random", "Random asking", dials=(0.05, 0.1, 0.2, 0.3, 0.5))
@flax.struct.dataclass
class RandomAsk(Policy):
  """A baseline that asks with the same probability everywhere.

      ask with probability r

  Attributes:
    probability: r, 0..1.
  """

  probability: Dial

  dial_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
  dial_name: ClassVar[str | None] = "probability"
  never: ClassVar[Never] = 0.0

  @property
  def draws(self) -> bool:
    """True, because every decision is drawn."""
    return True

  def score(self, seen: Observation, key: Key) -> Float[Array, " B"]:
    """Returns r − u, with u drawn from 0..1."""
    drawn = jax.random.uniform(present(key), seen.length.shape)
    return per_row(self.probability, seen.gate_logits) - drawn


@register("periodic", "Periodic asking", dials=(0.05, 0.1, 0.2, 0.3, 0.5))
@flax.struct.dataclass
class Periodic(Policy):
  """A policy that asks at a steady rate.

      ask iff ⌊r (t + 1)⌋ > ⌊r t⌋

  With rate 1 and the hard cap it spends a budget as early as possible: a budget without a gate.

  Attributes:
    rate: r, asks per token, 0..1.
  """

  rate: Dial

  dial_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
  dial_name: ClassVar[str | None] = "rate"
  never: ClassVar[Never] = 0.0
  student: ClassVar[str] = "max_prob"

  def score(self, seen: Observation, key: Key) -> Float[Array, " B"]:
    """Returns 1 where rate times position passes a whole number, else −1."""
    rate, t = per_row(self.rate, seen.gate_logits), seen.length.astype(jnp.float32)
    passes = jnp.floor(rate * (t + 1) + _ROUNDING) > jnp.floor(rate * t + _ROUNDING)
    return jnp.where(passes, 1.0, -1.0)


@register("prefix", "Prefix asking", dials=(1.0, 2.0, 3.0, 5.0, 8.0))
@flax.struct.dataclass
class Prefix(Policy):
  """A policy that asks for the first n tokens only, so that the teacher begins the sentence.

      ask iff t < n

  Attributes:
    tokens: n >= 0.
  """

  tokens: Dial

  dial_range: ClassVar[tuple[float, float]] = (0.0, math.inf)
  dial_name: ClassVar[str | None] = "tokens"
  never: ClassVar[Never] = 0.0
  student: ClassVar[str] = "max_prob"

  def score(self, seen: Observation, key: Key) -> Float[Array, " B"]:
    """Returns n − t."""
    return per_row(self.tokens, seen.gate_logits) - seen.length.astype(jnp.float32)


@register(
    "relay",
    "Relay of n tokens",
    dial_name="span",
    dials=(1.0, 2.0, 4.0, 8.0, 16.0),
    never=0.0,
    source="RelayLLM, arXiv 2601.05167",
    rule="max_prob",
    dial=0.3,
)
@register(
    "span_max_prob",
    "Max-prob threshold, spans of 3",
    dials=(0.05, 0.1, 0.15, 0.2, 0.3),
    never=0.0,
    rule="max_prob",
    span=3.0,
)
@register("span", "Handover, spans of 3")
@flax.struct.dataclass
class Span(Policy):
  """A policy in which each ask brings several tokens: the teacher writes until its span is full.

      ask iff the rule does, and on until the span of n tokens is full

  Each token of the span is an ask of its own: one pass and one unit of budget. The calls of
  RelayLLM (Huang et al. 2026, arXiv 2601.05167) are such spans, with two differences. Its student
  is trained to call and to choose n at each call, as text that it goes on to see; here a rule calls
  and n is set from outside, for all calls of a row.

  Attributes:
    dial: the rule's dial.
    rule: name of a policy that asks token by token, static.
    span: n, number of tokens that each ask of the rule brings, rounded up; 0 never asks.
  """

  dial: Dial
  rule: str = static("handover")
  span: Dial = 3.0

  dial_range: ClassVar[tuple[float, float]] = (0.0, math.inf)
  dial_name: ClassVar[str | None] = "dial"
  student: ClassVar[str] = "max_prob"

  @property
  def _rule(self) -> Policy:
    return registry.asking_rule(self.rule, self.dial)

  @property
  def draws(self) -> bool:
    """True if the rule draws."""
    return self._rule.draws

  def silenced(self, budget: Float[Array, " B"]) -> Bool[Array, " B"] | None:
    """Returns the rows in which the rule never asks."""
    return self._rule.silenced(budget)

  def score(self, seen: Observation, key: Key) -> Float[Array, " B"]:
    """Returns ∞ within a span, else the rule's score; −∞ if spans have no token."""
    span = jnp.ceil(per_row(self.span, seen.gate_logits))
    within = seen.run.astype(jnp.float32) % jnp.maximum(span, 1.0) != 0
    score = jnp.where(span > 0, self._rule.score(seen, key), -jnp.inf)
    return jnp.where(within, jnp.inf, score)
