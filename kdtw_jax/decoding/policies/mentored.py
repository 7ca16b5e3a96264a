"""Mentored decoding: the most drafts that a divergence from the teacher allows.

    π = argmax_π Σ_v min(q(v), π(v))   subject to   KL(p ‖ π) <= D
      = clip(q, p/β, p/α)   with   0 <= α <= 1 <= β   and   Σ_v π(v) = 1

π is the student's q where that lies between p/β and p/α; what is cut off above is what is added
below. D = 0 gives p (α = β = 1), D >= KL(p ‖ q) gives q. Tran-Thien 2023, "An optimal lossy variant
of speculative decoding"; Tran-Thien and Nock 2026, arXiv 2609.30474.

Shape letters: B batch, V vocabulary; k drafts.
"""

import math
from typing import ClassVar

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from kdtw_jax.decoding import sampling as sampling_lib
from kdtw_jax.decoding.policies.drafter import Drafter, Drafts, coin, draw_residual, of_draft
from kdtw_jax.decoding.policies.policy import Dial, per_row, present, static
from kdtw_jax.decoding.policies.registry import register
from kdtw_jax.decoding.sampling import Key, Sampling

Probs = Float[Array, "*batch V"]
_STEPS = 14  # halvings of log α, which lies between _LOG_LEAST and 0
_LOG_LEAST = -24.0  # a token that the student overrates by more than e²⁴ may lose all its excess


def _total(values: Probs) -> Float[Array, "*batch 1"]:
  return jnp.sum(values, axis=-1, keepdims=True)


def divergence(p: Probs, pi: Probs) -> Float[Array, "*batch 1"]:
  """Returns KL(p ‖ π) in nats, infinite where π excludes a token of p."""
  return _total(jnp.where(p > 0, p * (jnp.log(p) - jnp.log(pi)), 0.0))


def clipped(
    p: Probs, q: Probs, log_alpha: Float[Array, "*batch 1"], raise_by: Float[Array, "*batch 1"]
) -> tuple[Probs, Float[Array, "*batch 1"]]:
  """Returns π of one α, and 1/β: the factor of p up to which the least likely tokens are raised.

  1/β solves `Σ_v max(0, p(v)/β − q(v)) = Σ_v max(0, q(v) − p(v)/α)`. Its left side is convex and
  piecewise linear in 1/β, so Newton's steps come down to the solution from above.

  Args:
    p: the teacher's probabilities.
    q: the student's.
    log_alpha: log α.
    raise_by: a value of 1/β at or above the solution, e.g. 1 or the solution of a larger α.
  """
  capped = jnp.minimum(q, p * jnp.exp(-log_alpha))
  cut = _total(q - capped)
  for _ in range(2):  # each α starts where a larger one has arrived
    raised = p * raise_by > q
    mass = _total(jnp.where(raised, p, 0.0))
    level = (cut + _total(jnp.where(raised, q, 0.0))) / jnp.where(mass > 0, mass, 1.0)
    raise_by = jnp.where(mass > 0, level, raise_by)
  added = jnp.maximum(p * raise_by - q, 0.0)
  total = _total(added)  # `cut`, if Newton has arrived; π sums to 1 in any case
  return capped + added * (cut / jnp.where(total > 0, total, 1.0)), raise_by


def mentor(p: Probs, q: Probs, budget: Float[Array, "*batch 1"]) -> Probs:
  """Returns the distribution within a divergence of p that keeps most of the drafts from q.

  Args:
    p: the teacher's probabilities.
    q: the student's.
    budget: D in nats; KL(p ‖ π) does not exceed it.

  Returns:
    π.
  """

  def halve(step: Int[Array, ""], found: tuple[Array, ...]) -> tuple[Array, ...]:
    del step
    low, high, raise_by = found
    middle = 0.5 * (low + high)
    pi, level = clipped(p, q, middle, raise_by)
    fits = divergence(p, pi) <= budget
    return (
        jnp.where(fits, low, middle),
        jnp.where(fits, middle, high),
        jnp.where(fits, level, raise_by),
    )

  zero = jnp.zeros_like(budget)
  _, log_alpha, raise_by = jax.lax.fori_loop(
      0, _STEPS, halve, (zero + _LOG_LEAST, zero, zero + 1.0)
  )
  pi, _ = clipped(p, q, log_alpha, raise_by)
  return jnp.where(divergence(p, q) <= budget, q, pi)


@register("mentored_24", "Mentored decoding, k = 24", k=24, dials=(0.15, 0.4, 0.8, 1.4, 2.0))
@register("mentored", "Mentored decoding, k = 8")
@flax.struct.dataclass
class Mentored(Drafter):
  """Speculation towards the distribution π nearest to the student's within D of the teacher's.

      π = clip(q̃, p̃/β, p̃/α) with KL(p̃ ‖ π) <= D
      drawn   keep v with probability min(1, π(v)/q̃(v)), else draw from norm(max(0, π − q̃))
      greedy   keep v iff v = argmax π, of p and q

  Drawn, every drafted token is distributed as π and the token after a whole draft as p̃, as in the
  paper. Greedy decoding, which the paper does not treat, takes p and q before any temperature, and
  the teacher's choice replaces a rejected draft. Tran-Thien 2023; Tran-Thien and Nock 2026, arXiv
  2609.30474.

  Attributes:
    k: most drafts in a round, static.
    divergence: D, nats per token; 0 is exact.
  """

  k: int = static(8)
  divergence: Dial = 0.2

  dial_range: ClassVar[tuple[float, float]] = (0.0, math.inf)
  dial_name: ClassVar[str | None] = "divergence"
  dials: ClassVar[tuple[float, ...]] = (0.05, 0.15, 0.4, 0.7, 1.0)
  source: ClassVar[str] = "Tran-Thien 2023, arXiv 2609.30474"

  def needs_student_logits(self, sampling: Sampling) -> bool:
    """Returns True: π always needs them."""
    return True

  def _probs(self, student_logits: Array, teacher_logits: Array, sampling: Sampling):
    """Returns (q, p), both `[B, ..., V]`; tempered if tokens are drawn."""
    if sampling.greedy:
      return jax.nn.softmax(student_logits, axis=-1), jax.nn.softmax(teacher_logits, axis=-1)
    draw = sampling_lib.distribution
    return draw(student_logits, sampling), draw(teacher_logits, sampling)

  def stays(self, drafts: Drafts, key: Key, sampling: Sampling) -> Bool[Array, "B k"]:
    """Keeps each draft with probability min(1, π/q), or the greedy choice of π.

    What exact speculation keeps, π keeps too. So π is computed only for the first other draft of
    each row, then, if that stays, for the next: seldom more than a few times.
    """
    v = drafts.tokens
    q, p = self._probs(present(drafts.student_logits), drafts.teacher_logits, sampling)
    bar = coin(key, v) * of_draft(q, v)
    sure = v == jnp.argmax(p, axis=-1) if sampling.greedy else bar < of_draft(p, v)
    budget = per_row(self.divergence, v)[:, None]

    def open_rows(kept: Bool[Array, "B k"], refused: Bool[Array, " B"]) -> Bool[Array, " B"]:
      return ~refused & ~jnp.all(kept, axis=1)

    def judge(found: tuple[Array, Array]) -> tuple[Array, Array]:
      kept, refused = found
      place = jnp.argmin(kept, axis=1)[:, None]
      here_p, here_q = (jnp.take_along_axis(x, place[..., None], axis=1)[:, 0] for x in (p, q))
      here_v, here_bar = (jnp.take_along_axis(x, place, axis=1) for x in (v, bar))
      pi = mentor(here_p, here_q, budget)
      if sampling.greedy:
        stays = here_v == jnp.argmax(pi, axis=-1, keepdims=True)
      else:
        stays = here_bar < jnp.take_along_axis(pi, here_v, axis=1)
      here = jnp.arange(v.shape[1])[None, :] == place
      return kept | (here & stays), refused | ~stays[:, 0]

    start = (sure | ~drafts.real, jnp.zeros(v.shape[:1], bool))
    return jax.lax.while_loop(lambda found: jnp.any(open_rows(*found)), judge, start)[0]

  def correct(self, teacher_logits, student_logits, refused, key, sampling):
    """Draws from the residual towards π; from the teacher if no draft was rejected."""
    if sampling.greedy:
      return sampling_lib.choose_token(teacher_logits, key, sampling)
    q, p = self._probs(present(student_logits), teacher_logits, sampling)
    pi = mentor(p, q, per_row(self.divergence, p)[:, None])
    return draw_residual(jnp.where(refused[:, None] >= 0, pi, p), q, refused, key, sampling)
