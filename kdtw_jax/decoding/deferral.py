"""Deferral rules of speculative cascades: which mixture of student and teacher to aim at.

    π(v) = q̃(v) · keep(v) + p̃(v) · Σ_u q̃(u) · (1 − keep(u))

q, p: next-token probabilities of student and teacher; q̃, p̃: the same as they are drawn from, that
is tempered, or one-hot for greedy. `keep` is the rule: one answer for all tokens of a state (Chow,
Diff, OPT), or a set of tokens (token V1-V3). Narasimhan et al. 2024, arXiv 2405.19261, equations 2
(Chow), 5 (Diff), 10 (OPT), 13-15 (tokens).

With greedy decoding π is one-hot too, so one formula serves both. Not here: how π is drawn from
(drafters.py). Shape letters: V vocabulary.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Probs = Float[Array, "... V"]


def target(keep: Bool[Array, "... V_or_1"], q_drawn: Probs, p_drawn: Probs) -> Probs:
  """The distribution π that a cascade with this rule writes from.

  Args:
    keep: `[..., V]` or `[..., 1]` True where the student's token may stand.
    q_drawn: q̃.
    p_drawn: p̃.

  Returns:
    π; it sums to 1.
  """
  kept = jnp.where(keep, q_drawn, 0.0)
  return kept + (1.0 - jnp.sum(kept, axis=-1, keepdims=True)) * p_drawn


def _most(probs: Probs) -> Float[Array, "... 1"]:
  return jnp.max(probs, axis=-1, keepdims=True)


def chow(q: Probs, p: Probs, distance, lenience) -> Bool[Array, "... 1"]:
  """`max q >= 1 − α`: the student is sure."""
  del p, distance
  return _most(q) >= 1.0 - lenience


def diff(q: Probs, p: Probs, distance, lenience) -> Bool[Array, "... 1"]:
  """`max q >= max p − α`: the student is about as sure as the teacher."""
  del distance
  return _most(q) >= _most(p) - lenience


def opt(q: Probs, p: Probs, distance, lenience) -> Bool[Array, "... 1"]:
  """`max q >= max p − α · D_TV(p̃, q̃)`: optimal where each rejection costs α."""
  return _most(q) >= _most(p) - lenience * distance


def token_v1(q: Probs, p: Probs, distance, lenience) -> Bool[Array, "... V"]:
  """`q(v) >= max p − α`."""
  del distance
  return q >= _most(p) - lenience


def token_v2(q: Probs, p: Probs, distance, lenience) -> Bool[Array, "... V"]:
  """`p(v) >= max p − α`."""
  del q, distance
  return p >= _most(p) - lenience


def token_v3(q: Probs, p: Probs, distance, lenience) -> Bool[Array, "... V"]:
  """`p(v) >= max p · (1 − α)`."""
  del q, distance
  return p >= _most(p) * (1.0 - lenience)


RULES: dict[str, Callable[..., Bool[Array, "... V_or_1"]]] = {
    "chow": chow,
    "diff": diff,
    "opt": opt,
    "token_v1": token_v1,
    "token_v2": token_v2,
    "token_v3": token_v3,
}


def total_variation(q_drawn: Probs, p_drawn: Probs) -> Float[Array, "... 1"]:
  """`D_TV = Σ_v max(0, q̃(v) − p̃(v))`, the rate at which exact speculation rejects."""
  return jnp.sum(jnp.maximum(q_drawn - p_drawn, 0.0), axis=-1, keepdims=True)
