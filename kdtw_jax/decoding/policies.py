"""Who writes the next token: the policies that the decoding loop can follow.

A policy is a frozen record. Its dial is a traced leaf, a scalar or one value per row `[B]`, so that
one compiled decoder serves a whole sweep; what changes the compiled program (which models run, how
often, how many tokens are drafted) is static. Not here: the loop itself (loop.py).

`name` is a static field and not a class attribute for a reason: jax compares the tree structures of
registered dataclasses by their static fields alone, not by their type (jax 0.10.2), so that two
policies without a distinguishing field may be served each other's compiled program.

Shape letters: B batch, V vocabulary.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from kdtw_jax.decoding import gating
from kdtw_jax.decoding.policy import Dial, Observation, Policy, per_row


def _static(default: Any) -> Any:
  """A field that is part of the compiled program, not an argument of it."""
  return flax.struct.field(pytree_node=False, default=default)


@flax.struct.dataclass
class StudentAlone(Policy):
  """The student writes everything; no teacher cache exists."""

  name: str = _static("student")
  needs_teacher: ClassVar[bool] = False


@flax.struct.dataclass
class TeacherAlone(Policy):
  """The teacher writes everything; no student cache exists."""

  name: str = _static("teacher")
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
  sampled: bool = _static(False)

  name: str = _static("handover")
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

  name: str = _static("random")
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

  name: str = _static("max_prob")
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

  name: str = _static("entropy")
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

  name: str = _static("margin")
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

  name: str = _static("oracle")
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
  sampled: bool = _static(True)

  name: str = _static("mixture")
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
class Speculative(Policy):
  """Exact greedy speculative decoding: the student drafts k tokens, one teacher pass verifies them.

  The longest prefix that the teacher would have written stays; the teacher writes the token after
  it (the correction, or the bonus after a fully accepted draft). The output is the teacher's greedy
  output. Leviathan et al. 2023, arXiv 2211.17192.

  Attributes:
    k: static draft length, >= 1: each k is its own compiled program.
  """

  k: int = _static(4)

  name: str = _static("speculative")
  drafts: ClassVar[bool] = True
  dial_name: ClassVar[str | None] = "k"

  @property
  def draft_length(self) -> int:
    """The draft length k."""
    return self.k

  def accept(
    self, drafts: Int[Array, "B k"], teacher_logits: Float[Array, "B k_plus_1 V"]
  ) -> Bool[Array, "B k"]:
    """Says which drafts the teacher would have written itself, given the drafts before them.

    Args:
      drafts: `[B, k]` the student's tokens.
      teacher_logits: `[B, k + 1, V]`: position i is μ's for draft i, the last for the bonus.

    Returns:
      `[B, k]` True where draft i may stay if all before it stay.
    """
    return drafts == jnp.argmax(teacher_logits[:, :-1], axis=-1)


POLICIES: dict[str, Callable[..., Policy]] = {
  policy.name: policy
  for policy in (
    StudentAlone,
    TeacherAlone,
    Handover,
    RandomAsk,
    MaxProb,
    Entropy,
    Margin,
    Oracle,
    Mixture,
    Speculative,
  )
}


def make_policy(name: str, dial: Dial = None, **fields: Any) -> Policy:
  """Makes a policy by name, its dials as float32 arrays so that a sweep compiles once.

  Args:
    name: one of POLICIES.
    dial: value of the policy's dial (float or `[B]`; a whole number for 'speculative'); None keeps
      the default.
    **fields: further fields by name, e.g. `sampled=True`.

  Returns:
    The policy.

  Raises:
    ValueError: unknown name, or a dial for a policy without one.

  Example:
    >>> make_policy("speculative", 5)
    Speculative(k=5, name='speculative')
  """
  if name not in POLICIES:
    raise ValueError(f"policy={name!r}: unknown; choose one of {', '.join(POLICIES)}")
  kind = POLICIES[name]
  if dial is not None:
    if kind.dial_name is None:
      raise ValueError(f"dial={dial}: policy {name!r} has no dial; leave it out")
    fields = {kind.dial_name: int(dial) if kind.drafts else dial, **fields}
  return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), kind(**fields))
