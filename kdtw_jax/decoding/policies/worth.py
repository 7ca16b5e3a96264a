"""Help for the outputs where it is worth its calls: a draft is checked until it is clean, or not.

The student drafts to the end. A call checks the whole draft: the teacher takes back the first token
that falls short and writes there, and the student drafts on. Checks go on while they are worth it.
`Worth` decides by what the student expects of help; `Route` by one number of the first draft.

Under greedy decoding with ρ = 0 an output that is helped to its end is the teacher's own. Under
sampling an output follows neither model: drafts that stay are draws of the student, corrections are
draws of the teacher, and whether a draft is checked depends on what was drawn.

Shape letters: B batch, V vocabulary; k drafts.
"""

import math
from typing import ClassVar

import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from kdtw_jax.decoding import signals
from kdtw_jax.decoding.policies.drafter import Drafter, Drafts, gaps
from kdtw_jax.decoding.policies.policy import Dial, Observation, per_row, present, static
from kdtw_jax.decoding.policies.registry import register
from kdtw_jax.decoding.sampling import Key, Sampling

_WHOLE = 1 << 16  # drafts run to the end of the output


@flax.struct.dataclass
class UntilClean(Drafter):
  """Base of the policies that check whole drafts.

      keep v iff log max p − log p(v) <= ρ

  Attributes:
    k: most drafts in a round, static.
    tolerance: ρ in nats; 0 keeps only what the teacher would write.
  """

  k: int = static(_WHOLE)
  tolerance: Dial = 0.5

  decides_end: ClassVar[bool] = True
  student: ClassVar[str] = "handover"  # whose gate predicts gaps
  source: ClassVar[str] = "ours"

  @property
  def reads_signals(self) -> bool:
    """True, because a draft is judged by its signals."""
    return True

  def stays(self, drafts: Drafts, key: Key, sampling: Sampling) -> Bool[Array, "B k"]:
    """Keeps the drafts within the tolerance."""
    return gaps(drafts) <= per_row(self.tolerance, drafts.tokens)[:, None]


@register("worth", "Help that is worth its calls", family="worth", dials=(8.0, 4.0, 2.0, 1.0, 0.5))
@flax.struct.dataclass
class Worth(UntilClean):
  """A policy that checks a draft while the expected gain exceeds the price of the expected calls.

      check iff G(s) − λ C(s) > 0

  G is the expected gain of checking from here until the draft is clean, in the unit that the head
  has learned (points of the task's score, or nats of log μ), and C the expected number of calls.
  The student's head `worth` predicts both from the draft. The rule is
  asked after the first draft (does this output get help at all), before each further check (is
  anything left to mend), and with a patience while drafting.

  Attributes:
    price: λ, gain per call.
    patience: sum of predicted gaps, nats, at which a draft that is worth a call stops before its
      end, to save student steps; infinity always drafts to the end.
  """

  price: Dial = 1.0
  patience: Dial = math.inf

  dial_range: ClassVar[tuple[float, float]] = (0.0, math.inf)
  dial_name: ClassVar[str | None] = "price"

  @property
  def reads_worth(self) -> bool:
    """True: it reads G and C."""
    return True

  def at_end(self, seen: Observation) -> Float[Array, " B"]:
    """Returns G − λ C, in units of G."""
    return present(seen.gain) - per_row(self.price, seen.length) * present(seen.expected_calls)

  def score(self, seen: Observation, key: Key) -> Float[Array, " B"]:
    """Returns G − λ C where the draft has outlived its patience, else −∞."""
    risk = signals.column(present(seen.signals), "gap")
    return jnp.where(risk > per_row(self.patience, risk), self.at_end(seen), -jnp.inf)


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
