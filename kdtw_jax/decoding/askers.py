"""Policies that say before each token who writes it: the student, or the teacher by an ask.

A policy is a frozen record. Its dial is a traced leaf, a scalar or one value per row `[B]`, so that
one compiled decoder serves a whole sweep; what changes the compiled program (which models run, how
often) is static. Not here: policies that draft and check (drafters.py), the loop (loop.py).

Shape letters: B batch, V vocabulary.
"""

from typing import Any, ClassVar

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from kdtw_jax.decoding import gating
from kdtw_jax.decoding.policy import Dial, Observation, Policy, per_row, static

_ROUNDING = 1e-4  # rates such as 0.1 are a rounding error below themselves in float32


@flax.struct.dataclass
class StudentAlone(Policy):
  """The student writes everything; no teacher cache exists."""

  name: str = static("student")
  needs_teacher: ClassVar[bool] = False


@flax.struct.dataclass
class TeacherAlone(Policy):
  """The teacher writes everything; no student cache exists."""

  name: str = static("teacher")
  needs_student: ClassVar[bool] = False
  teacher_every_step: ClassVar[bool] = True


@flax.struct.dataclass
class Handover(Policy):
  """The learned gate decides: greedily, or by a draw.

      greedy   ask iff z_g(s) + offset > 0          sampled   ask ~ Bernoulli(σ(z_g(s) + offset))

  "Knowledge Distillation with Training Wheels", arXiv 2502.17717.

  Attributes:
    offset: added to the gate's log-odds; 0 is the policy as trained, larger asks more.
    sampled: static; True draws.
  """

  offset: Dial = 0.0
  sampled: bool = static(False)

  name: str = static("handover")
  dial_name: ClassVar[str | None] = "offset"

  @property
  def draws(self) -> bool:
    """True where the gate is sampled."""
    return self.sampled

  def ask(self, seen: Observation, key: Any) -> Bool[Array, " B"]:
    """Asks by the gate."""
    offset = per_row(self.offset, seen.gate_logits)
    if self.sampled:
      return gating.gate_sampled(seen.gate_logits, offset, key)
    return gating.gate_greedy(seen.gate_logits, offset)


@flax.struct.dataclass
class RandomAsk(Policy):
  """Asks with one probability everywhere: the baseline that knows nothing.

  Attributes:
    probability: P(<τ>), 0..1.
  """

  probability: Dial

  name: str = static("random")
  dial_name: ClassVar[str | None] = "probability"

  @property
  def draws(self) -> bool:
    """Always draws."""
    return True

  def ask(self, seen: Observation, key: Any) -> Bool[Array, " B"]:
    """Asks by a coin."""
    return jax.random.bernoulli(key, per_row(self.probability, seen.gate_logits))


@flax.struct.dataclass
class MaxProb(Policy):
  """Asks where the student's best token has probability below the threshold.

  Attributes:
    threshold: 0 never asks; above 1 always asks.
  """

  threshold: Dial

  name: str = static("max_prob")
  dial_name: ClassVar[str | None] = "threshold"

  def ask(self, seen: Observation, key: Any) -> Bool[Array, " B"]:
    """Asks at low confidence."""
    return gating.max_prob(seen.logits) < per_row(self.threshold, seen.logits)


@flax.struct.dataclass
class Entropy(Policy):
  """Asks where the student's next-token entropy is above the threshold.

  Attributes:
    threshold: nats; log V never asks, below 0 always asks.
  """

  threshold: Dial

  name: str = static("entropy")
  dial_name: ClassVar[str | None] = "threshold"

  def ask(self, seen: Observation, key: Any) -> Bool[Array, " B"]:
    """Asks at high entropy."""
    return gating.entropy(seen.logits) > per_row(self.threshold, seen.logits)


@flax.struct.dataclass
class Margin(Policy):
  """Asks where the student's two best tokens are closer in probability than the threshold.

  Attributes:
    threshold: 0 never asks; above 1 always asks.
  """

  threshold: Dial

  name: str = static("margin")
  dial_name: ClassVar[str | None] = "threshold"

  def ask(self, seen: Observation, key: Any) -> Bool[Array, " B"]:
    """Asks at a small margin."""
    return gating.margin(seen.logits) < per_row(self.threshold, seen.logits)


@flax.struct.dataclass
class Oracle(Policy):
  """Asks where the teacher disagrees: the bound that a gate cannot pass, not a usable method.

      ask iff argmax μ ≠ argmax π  and  log max μ − log μ(argmax π) >= threshold

  The teacher runs at every step; its calls and passes are counted as such, apart from the asks.

  Attributes:
    threshold: nats; 0 asks wherever the best tokens differ: the output is the teacher's.
  """

  threshold: Dial = 0.0

  name: str = static("oracle")
  dial_name: ClassVar[str | None] = "threshold"
  teacher_every_step: ClassVar[bool] = True

  def ask(self, seen: Observation, key: Any) -> Bool[Array, " B"]:
    """Asks where the student's best token falls behind the teacher's."""
    gap = gating.gap(seen.teacher_logits, seen.logits)
    differs = jnp.argmax(seen.teacher_logits, axis=-1) != jnp.argmax(seen.logits, axis=-1)
    return differs & (gap >= per_row(self.threshold, gap))


@flax.struct.dataclass
class Mixture(Policy):
  """The gate or a coin asks: rollouts for training, which must see states that the gate avoids.

  Attributes:
    explore: P(ask whatever the gate says), 0..1; 0 is the handover itself.
    offset: added to the gate's log-odds.
    sampled: static; True draws from the gate, False follows it greedily.
  """

  explore: Dial
  offset: Dial = 0.0
  sampled: bool = static(True)

  name: str = static("mixture")
  dial_name: ClassVar[str | None] = "explore"

  @property
  def draws(self) -> bool:
    """Always draws the coin."""
    return True

  def ask(self, seen: Observation, key: Any) -> Bool[Array, " B"]:
    """Asks by the gate or by a coin."""
    gate_key, coin_key = jax.random.split(key)
    by_gate = Handover(self.offset, self.sampled).ask(seen, gate_key)
    return by_gate | jax.random.bernoulli(coin_key, per_row(self.explore, seen.gate_logits))


@flax.struct.dataclass
class Periodic(Policy):
  """Asks at a steady rate, whatever the state: `⌊r (t + 1)⌋ > ⌊r t⌋`.

  With rate 1 and the hard cap it spends a budget as soon as it may: the budget without a gate.

  Attributes:
    rate: r, asks per token, 0..1.
  """

  rate: Dial

  name: str = static("periodic")
  dial_name: ClassVar[str | None] = "rate"

  def ask(self, seen: Observation, key: Any) -> Bool[Array, " B"]:
    """Asks where the steps of the rate fall."""
    rate, t = per_row(self.rate, seen.gate_logits), seen.length.astype(jnp.float32)
    return jnp.floor(rate * (t + 1) + _ROUNDING) > jnp.floor(rate * t + _ROUNDING)


@flax.struct.dataclass
class Prefix(Policy):
  """Asks for the first n tokens and never again: the teacher sets the sentence going.

  Attributes:
    tokens: n >= 0.
  """

  tokens: Dial

  name: str = static("prefix")
  dial_name: ClassVar[str | None] = "tokens"

  def ask(self, seen: Observation, key: Any) -> Bool[Array, " B"]:
    """Asks at the beginning."""
    return seen.length.astype(jnp.float32) < per_row(self.tokens, seen.gate_logits)


# Asking rules that others (Span, drafters.Verify) build on, by the name of their static field.
RULES: dict[str, type[Policy]] = {
    rule.name: rule for rule in (Handover, RandomAsk, MaxProb, Entropy, Margin, Periodic, Prefix)
}


@flax.struct.dataclass
class Span(Policy):
  """An ask brings several tokens: the teacher writes on until its span is full.

  Each token of the span is an ask of its own, a pass and a unit of budget.

  Attributes:
    dial: the rule's dial.
    rule: static; a name in RULES.
    span: static; tokens that each ask of the rule brings, >= 1.
  """

  dial: Dial
  rule: str = static("handover")
  span: int = static(3)

  name: str = static("span")
  dial_name: ClassVar[str | None] = "dial"

  @property
  def draws(self) -> bool:
    """True where the rule draws."""
    return RULES[self.rule](self.dial).draws

  def ask(self, seen: Observation, key: Any) -> Bool[Array, " B"]:
    """Asks within a span, and where the rule does."""
    inside = seen.run % self.span != 0
    return inside | RULES[self.rule](self.dial).ask(seen, key)
