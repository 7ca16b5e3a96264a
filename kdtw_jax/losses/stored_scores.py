"""The teacher's distribution, completed from the few scores of it that were stored.

Shape letters: B batch, C chunk of positions, V vocabulary.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from kdtw_jax.base import MASKED_LOGIT, ArrayLike
from kdtw_jax.distributions import log_softmax

_LEAST_REST = 1e-7  # probability of all other tokens together, where rounding leaves none


def completed_logits(
    log_probs: Float[ArrayLike, "B C"],
    top_ids: Shaped[ArrayLike, "B C top"],
    top_log_probs: Float[ArrayLike, "B C top"],
    tokens: Shaped[ArrayLike, "B C"],
    student_logits: Float[ArrayLike, "B C V"],
) -> Float[Array, "B C V"]:
  """Makes logits of μ from stored scores; what they leave is spread as the student spreads it.

      μ̂_v = μ_v                          for the top tokens and the token itself, together S
      μ̂_v = (1 − μ(S)) π_v / (1 − π(S))  for all others

  A divergence between μ̂ and π is then the one between μ and π over the events "v" for each v in S,
  and "none of S": never above that over all tokens, zero if π = μ, and it says nothing about the
  tokens outside S among themselves. Its gradient is the one that it has with the student's part of
  μ̂ held fixed, and for KL in both directions and JSD, the exact one.

  Args:
    log_probs: log μ of the tokens, nats.
    top_ids: the most likely tokens; each once, but where the score is of padding.
    top_log_probs: their log μ.
    tokens: the tokens.
    student_logits: logits of π; entries at MASKED_LOGIT stay there.

  Returns:
    Logits of μ̂, float32, without gradient.
  """
  student = jax.lax.stop_gradient(log_softmax(jnp.asarray(student_logits)))
  row, column = jnp.indices(log_probs.shape)
  top = row[..., None], column[..., None], jnp.asarray(top_ids, jnp.int32)
  token = row, column, jnp.asarray(tokens)
  known = jnp.full(student.shape, MASKED_LOGIT).at[top].set(jnp.asarray(top_log_probs, jnp.float32))
  known = known.at[token].set(log_probs)  # which is not rounded, if it is among the top
  is_stored = jnp.zeros(student.shape, bool).at[top].set(True).at[token].set(True)
  rest = jnp.maximum(1.0 - jnp.sum(jnp.exp(known), axis=-1, keepdims=True), _LEAST_REST)
  others = jnp.where(is_stored, MASKED_LOGIT, student)
  spread = student - jax.nn.logsumexp(others, axis=-1, keepdims=True) + jnp.log(rest)
  is_open = ~is_stored & (student > 0.5 * MASKED_LOGIT)
  return jax.lax.stop_gradient(jnp.where(is_open, spread, known))
