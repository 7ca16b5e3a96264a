"""Speculative cascades: exact speculation towards a mixture that a deferral rule defines.

    π(v) = q̃(v) · keep(v) + p̃(v) · Σ_u q̃(u) · (1 − keep(u))

q and p are the next-token probabilities of student and teacher. q̃ and p̃ are the distributions
that tokens are drawn from: tempered, or one-hot when greedy. `keep` is the rule. It gives one
answer for all tokens of a state (Chow, Diff, OPT) or selects tokens (token V1-V3). Narasimhan et
al. 2024, arXiv 2405.19261, equations 2 (Chow), 5 (Diff), 10 (OPT), 13-15 (tokens). With greedy
decoding π is one-hot too, so the same formula applies.

Shape letters: B batch, V vocabulary; k drafts.
"""

from collections.abc import Callable
from typing import ClassVar, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from kdtw_jax.decoding import sampling as sampling_lib
from kdtw_jax.decoding.policies.drafter import Drafter, Drafts, coin, draw_residual, of_draft
from kdtw_jax.decoding.policies.policy import Dial, per_row, present, static
from kdtw_jax.decoding.policies.registry import register
from kdtw_jax.decoding.sampling import Key, Sampling

Probs = Float[Array, "... V"]


class Rule(NamedTuple):
  """A deferral rule.

  Attributes:
    title: its display name.
    equation: the condition under which the student's token is kept.
    keep: that condition from q, p, D_TV(p̃, q̃) `[..., 1]` and α; `[..., V]` or `[..., 1]`.
    dials: values of α that a sweep takes by default.
  """

  title: str
  equation: str
  keep: Callable[[Probs, Probs, Array, Array], Bool[Array, "... V_or_1"]]
  dials: tuple[float, ...]


def _most(probs: Probs) -> Float[Array, "... 1"]:
  return jnp.max(probs, axis=-1, keepdims=True)


# When the student's token is kept. Chow: the student is confident. Diff: about as confident as the
# teacher. OPT: the optimal rule if a rejection costs α.
RULES = {
    "chow": Rule(
        "Chow",
        "`max q >= 1 − α`",
        lambda q, p, distance, a: _most(q) >= 1.0 - a,
        (0.2, 0.3, 0.45, 0.6, 0.8),
    ),
    "diff": Rule(
        "Diff",
        "`max q >= max p − α`",
        lambda q, p, distance, a: _most(q) >= _most(p) - a,
        (0.0, 0.1, 0.2, 0.3, 0.4),
    ),
    "opt": Rule(
        "OPT",
        "`max q >= max p − α D_TV(p̃, q̃)`",
        lambda q, p, distance, a: _most(q) >= _most(p) - a * distance,
        (0.1, 0.2, 0.3, 0.45, 0.6),
    ),
    "token_v1": Rule(
        "token V1",
        "`q(v) >= max p − α`",
        lambda q, p, distance, a: q >= _most(p) - a,
        (0.2, 0.35, 0.5, 0.65, 0.8),
    ),
    "token_v2": Rule(
        "token V2",
        "`p(v) >= max p − α`",
        lambda q, p, distance, a: p >= _most(p) - a,
        (0.2, 0.3, 0.4, 0.55, 0.7),
    ),
    "token_v3": Rule(
        "token V3",
        "`p(v) >= (1 − α) max p`",
        lambda q, p, distance, a: p >= _most(p) * (1.0 - a),
        (0.4, 0.55, 0.7, 0.8, 0.9),
    ),
}


def mixture(keep: Bool[Array, "... V_or_1"], q_drawn: Probs, p_drawn: Probs) -> Probs:
  """Returns the distribution π of a cascade: q̃ where the student's token is kept, else p̃."""
  kept = jnp.where(keep, q_drawn, 0.0)
  return kept + (1.0 - jnp.sum(kept, axis=-1, keepdims=True)) * p_drawn


def total_variation(q_drawn: Probs, p_drawn: Probs) -> Float[Array, "... 1"]:
  """Returns `D_TV = Σ_v max(0, q̃(v) − p̃(v))`, the rejection rate of exact speculation."""
  return jnp.sum(jnp.maximum(q_drawn - p_drawn, 0.0), axis=-1, keepdims=True)


@flax.struct.dataclass
class Cascade(Drafter):
  """Exact speculation towards π, the mixture that a deferral rule defines.

      keep v with probability min(1, π(v)/q̃(v)), else draw from norm(max(0, π − q̃))

  All k inputs of a pass verify a draft, because a bonus token would come from the teacher and not
  from π.

  Attributes:
    lenience: α; 0 defers whenever the rule allows it, larger values keep more of the student's
      tokens.
    rule: a name in RULES, static.
  """

  lenience: Dial = 0.0
  rule: str = static("opt")

  dial_range: ClassVar[tuple[float, float]] = (0.0, 100.0)
  dial_name: ClassVar[str | None] = "lenience"
  bonus: ClassVar[bool] = False
  source: ClassVar[str] = "arXiv 2405.19261"

  def __post_init__(self):
    super().__post_init__()
    if self.rule not in RULES:
      raise ValueError(f"rule={self.rule!r}: must be one of {', '.join(RULES)}")

  def needs_student_logits(self, sampling: Sampling) -> bool:
    """Returns True: a cascade always needs them."""
    return True

  def _mixture(self, student_logits: Array, teacher_logits: Array, sampling: Sampling):
    """Returns (π, q̃), both `[B, ..., V]`."""
    q_drawn = sampling_lib.distribution(student_logits, sampling)
    p_drawn = sampling_lib.distribution(teacher_logits, sampling)
    lenience = per_row(self.lenience, q_drawn).reshape(-1, *(1,) * (q_drawn.ndim - 1))
    keep = RULES[self.rule].keep(
        jax.nn.softmax(student_logits, axis=-1),
        jax.nn.softmax(teacher_logits, axis=-1),
        total_variation(q_drawn, p_drawn),
        lenience,
    )
    return mixture(keep, q_drawn, p_drawn), q_drawn

  def stays(self, drafts: Drafts, key: Key, sampling: Sampling) -> Bool[Array, "B k"]:
    """Keeps each draft with probability min(1, π/q̃)."""
    wanted, q = self._mixture(present(drafts.student_logits), drafts.teacher_logits, sampling)
    return coin(key, drafts.tokens) * of_draft(q, drafts.tokens) < of_draft(wanted, drafts.tokens)

  def correct(self, teacher_logits, student_logits, refused, key, sampling):
    """Draws from the residual towards π."""
    wanted, q = self._mixture(present(student_logits), teacher_logits, sampling)
    return draw_residual(wanted, q, refused, key, sampling)


for _name, _rule in RULES.items():
  register(
      f"cascade_{_name}",
      f"Speculative cascade, {_rule.title}",
      dials=_rule.dials,
      equation=f"towards π: keep q̃ where {_rule.equation}, else p̃",
      rule=_name,
  )(Cascade)
