"""Help for the outputs where it is worth its calls: a draft is checked until it is clean, or not.

The student drafts to the end. A call checks the whole draft: the teacher takes back the first token
that falls short and writes there, and the student drafts on. Checks go on while they are worth it.
`Worth` decides by what the student expects of help. Its baselines, which decide by one number of
the first draft, are in routing.py.

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
    advised: True if greedy drafts heed what the last check said of the old draft: where the student
      would write the same token again at the same position, it writes the teacher's choice.
      Static.
  """

  k: int = static(_WHOLE)
  tolerance: Dial = 0.5
  advised: bool = static(False)

  decides_end: ClassVar[bool] = True
  student: ClassVar[str] = "handover"  # whose gate predicts gaps
  source: ClassVar[str] = "ours"

  @property
  def heeds_advice(self) -> bool:
    """True if it is set to."""
    return self.advised

  @property
  def reads_signals(self) -> bool:
    """True, because a draft is judged by its signals."""
    return True

  def stays(self, drafts: Drafts, key: Key, sampling: Sampling) -> Bool[Array, "B k"]:
    """Keeps the drafts within the tolerance."""
    return gaps(drafts) <= per_row(self.tolerance, drafts.tokens)[:, None]


@register("worth", "Help that is worth its calls", dials=(8.0, 4.0, 2.0, 1.0, 0.5))
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
  advised: bool = static(True)

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
