"""Speculative decoding: the student drafts, and the teacher keeps what it could have written.

Exact, lenient and by typical acceptance. Shape letters: B batch, V vocabulary; k drafts.
"""

from typing import ClassVar

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from kdtw_jax import distributions
from kdtw_jax.decoding import sampling as sampling_lib
from kdtw_jax.decoding.policies.drafter import Drafter, Drafts, coin, draw_residual, of_draft
from kdtw_jax.decoding.policies.policy import Dial, per_row, present
from kdtw_jax.decoding.policies.registry import register
from kdtw_jax.decoding.sampling import Key, Sampling


@register("speculative", "Speculative decoding (exact)", dials=(2.0, 4.0, 6.0, 12.0, 24.0))
@flax.struct.dataclass
class Speculative(Drafter):
  """Exact speculative decoding: the output is distributed as the teacher's own, greedy or drawn.

      keep v with probability min(1, p̃(v)/q̃(v)), else draw from norm(max(0, p̃ − q̃))

  When greedy, it keeps the drafts that the teacher would have written. Leviathan et al. 2023, arXiv
  2211.17192; Chen et al. 2023, arXiv 2302.01318.
  """

  dial_range: ClassVar[tuple[float, float]] = (1.0, 512.0)
  dial_name: ClassVar[str | None] = "k"
  whole_dial: ClassVar[bool] = True
  student: ClassVar[str] = ""
  source: ClassVar[str] = "Leviathan 2023, arXiv 2211.17192"

  def needs_student_logits(self, sampling: Sampling) -> bool:
    """Returns True if tokens are drawn."""
    return not sampling.greedy

  def stays(self, drafts: Drafts, key: Key, sampling: Sampling) -> Bool[Array, "B k"]:
    """Keeps each draft with probability min(1, p/q)."""
    if sampling.greedy:
      return Drafter.stays(self, drafts, key, sampling)
    p = of_draft(sampling_lib.distribution(drafts.teacher_logits, sampling), drafts.tokens)
    q = of_draft(sampling_lib.distribution(present(drafts.student_logits), sampling), drafts.tokens)
    return coin(key, p) * q < p

  def correct(self, teacher_logits, student_logits, refused, key, sampling):
    """Draws from the residual."""
    if sampling.greedy:
      return sampling_lib.choose_token(teacher_logits, key, sampling)
    p = sampling_lib.distribution(teacher_logits, sampling)
    q = sampling_lib.distribution(present(student_logits), sampling)
    return draw_residual(p, q, refused, key, sampling)


@register("lenient_8", "Lenient speculation, k = 8", k=8)
@register("lenient", "Lenient speculation, k = 4")
@flax.struct.dataclass
class Lenient(Speculative):
  """Lenient speculative decoding: no token gets more than 1/l times the teacher's probability.

      drawn   keep v with probability min(1, p̃(v) / (l q̃(v)))
      greedy   keep v iff p(v) >= l max p

  Leviathan et al. 2023, arXiv 2211.17192, appendix A.5.

  Attributes:
    lenience: l, 0..1; 1 is exact, 0 keeps everything.
  """

  lenience: Dial = 1.0

  dial_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
  dial_name: ClassVar[str | None] = "lenience"
  whole_dial: ClassVar[bool] = False
  dials: ClassVar[tuple[float, ...]] = (0.02, 0.05, 0.15, 0.3, 0.6)
  student: ClassVar[str] = "speculative"
  source: ClassVar[str] = "the same, A.5"

  def stays(self, drafts: Drafts, key: Key, sampling: Sampling) -> Bool[Array, "B k"]:
    """Keeps each draft with probability min(1, p/(l q))."""
    lenience = per_row(self.lenience, drafts.tokens)[:, None]
    if sampling.greedy:
      p = of_draft(jax.nn.log_softmax(drafts.teacher_logits, axis=-1), drafts.tokens)
      best = jnp.max(jax.nn.log_softmax(drafts.teacher_logits, axis=-1), axis=-1)
      return p - best >= jnp.log(lenience)
    p = of_draft(sampling_lib.distribution(drafts.teacher_logits, sampling), drafts.tokens)
    q = of_draft(sampling_lib.distribution(present(drafts.student_logits), sampling), drafts.tokens)
    return coin(key, p) * lenience * q < p


@register("typical", "Typical acceptance, k = 4", dials=(0.02, 0.1, 0.3, 0.6, 0.9))
@flax.struct.dataclass
class Typical(Drafter):
  """Typical acceptance: a draft stays if it is likely enough, given how uncertain the teacher is.

      keep v iff p(v) > min(ε, √ε · exp(−H(p)))

  The teacher's own choice follows. Cai et al. 2024 (Medusa), arXiv 2401.10774, with their δ = √ε.

  Attributes:
    epsilon: ε, 0..1; 0 keeps everything.
  """

  epsilon: Dial = 0.09

  dial_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
  dial_name: ClassVar[str | None] = "epsilon"
  source: ClassVar[str] = "Medusa, arXiv 2401.10774"

  def stays(self, drafts: Drafts, key: Key, sampling: Sampling) -> Bool[Array, "B k"]:
    """Keeps drafts above the threshold."""
    epsilon = per_row(self.epsilon, drafts.tokens)[:, None]
    p = of_draft(jax.nn.softmax(drafts.teacher_logits, axis=-1), drafts.tokens)
    entropy = distributions.entropy(drafts.teacher_logits)
    return p > jnp.minimum(epsilon, jnp.sqrt(epsilon) * jnp.exp(-entropy))
