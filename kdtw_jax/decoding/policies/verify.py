"""Asks that check as well as write, including the Big-Little decoder.

Shape letters: B batch, V vocabulary; k drafts.
"""

import math
from typing import ClassVar

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from kdtw_jax.decoding.policies import registry
from kdtw_jax.decoding.policies.drafter import Drafter, Drafts, gaps, of_draft
from kdtw_jax.decoding.policies.policy import Dial, Observation, Policy, per_row, static
from kdtw_jax.decoding.policies.registry import register
from kdtw_jax.decoding.sampling import Key, Sampling


@register(
    "big_little",
    "Big-Little decoder",
    dials=(0.05, 0.1, 0.2, 0.35, 0.5),
    source="arXiv 2302.07863",
    rule="max_prob",
    measure="surprisal",
    k=10,
    end=False,
)
@register(
    "verify_end",
    "Check at the end alone",
    dial_name="tolerance",
    dials=(6.0, 4.0, 2.0, 1.0, 0.4),
    rule="prefix",
    dial=0.0,
    k=24,
)
@register(
    "verify_margin_end",
    "Margin ask that checks, end too",
    dials=(0.01, 0.03, 0.06, 0.1, 0.15),
    rule="margin",
)
@register(
    "verify_max_prob_end",
    "Max-prob ask that checks, end too",
    dials=(0.02, 0.05, 0.1, 0.2, 0.3),
    rule="max_prob",
)
@register(
    "verify_max_prob",
    "Max-prob ask that checks",
    dials=(0.02, 0.05, 0.1, 0.2, 0.3),
    rule="max_prob",
    end=False,
)
@register(
    "handover_checked", "Handover that checks", dial_name="tolerance", family="handover", dial=0.0
)
@register("verify", "Ask that checks")
@flax.struct.dataclass
class Verify(Drafter):
  """A policy whose asks check as well as write.

      draft until the rule asks, or k tokens
      gap   keep v iff log max p − log p(v) <= ρ
      surprisal   keep v iff −log p(v) <= ρ

  The student drafts until its rule asks. The teacher pass of the ask also scores all tokens since
  the last one. If any of them exceeds the tolerance, the first such token is taken back and the
  teacher writes there. Otherwise the teacher writes the token that was asked for.

  With the rule max_prob and the measure surprisal it is the Big-Little decoder (Kim et al. 2023,
  arXiv 2302.07863), `dial` its fallback and `tolerance` its rollback threshold. With a rule that
  never asks, it is lenient speculative decoding.

  Attributes:
    dial: the rule's dial.
    tolerance: ρ in nats; infinity only writes.
    rule: name of a policy that asks token by token, static.
    k: most tokens that the teacher may leave unchecked at a time, static.
    end: True if the teacher must see the end of the sentence before it counts; static.
    measure: "gap" or "surprisal", static.
  """

  k: int = static(16)
  dial: Dial = 0.0
  tolerance: Dial = 2.0
  rule: str = static("handover")
  end: bool = static(True)
  measure: str = static("gap")

  dial_range: ClassVar[tuple[float, float]] = (0.0, math.inf)
  dial_name: ClassVar[str | None] = "dial"
  student: ClassVar[str] = "max_prob"
  source: ClassVar[str] = "ours"

  def __post_init__(self):
    super().__post_init__()
    if self.measure not in ("gap", "surprisal"):
      raise ValueError(f"measure={self.measure!r}: must be 'gap' or 'surprisal'")

  @property
  def _asker(self) -> Policy:
    return registry.asking_rule(self.rule, self.dial)

  @property
  def draws(self) -> bool:
    """True if the rule draws."""
    return self._asker.draws

  def at_end(self, seen: Observation) -> Float[Array, " B"]:
    """Returns ∞ if the teacher must see the end, else −∞."""
    return jnp.full(seen.length.shape, jnp.inf if self.end else -jnp.inf)

  def silenced(self, budget: Float[Array, " B"]) -> Bool[Array, " B"] | None:
    """Returns the rows in which the rule never asks; they are not checked either."""
    return self._asker.silenced(budget)

  def score(self, seen: Observation, key: Key) -> Float[Array, " B"]:
    """Returns the rule's score."""
    return self._asker.score(seen, key)

  def stays(self, drafts: Drafts, key: Key, sampling: Sampling) -> Bool[Array, "B k"]:
    """Keeps the drafts within the tolerance."""
    tolerance = per_row(self.tolerance, drafts.tokens)[:, None]
    if self.measure == "gap":
      return gaps(drafts) <= tolerance
    logits = drafts.teacher_logits
    return jax.nn.logsumexp(logits, axis=-1) - of_draft(logits, drafts.tokens) <= tolerance
