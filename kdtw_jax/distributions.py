"""Functions of next-token logits that losses and decoding share: entropy and the teacher's gap.

They compute in float32. Entries at MASKED_LOGIT have probability 0 and contribute 0, never NaN.

Shape letters: V vocabulary.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdtw_jax.base import MASKED_LOGIT, ArrayLike


def log_softmax(logits: Float[ArrayLike, "*batch V"]) -> Float[Array, "*batch V"]:
  """Returns log-probabilities of at least MASKED_LOGIT, so that 0 log 0 is 0, in gradients too."""
  log_probs = jax.nn.log_softmax(jnp.asarray(logits).astype(jnp.float32), axis=-1)
  return jnp.maximum(log_probs, MASKED_LOGIT)


def entropy(logits: Float[ArrayLike, "*batch V"]) -> Float[Array, "*batch"]:
  """Returns the entropy of each distribution.

      H = −Σ_v p_v log p_v

  Args:
    logits: logits of the distributions.

  Returns:
    Nats, >= 0.
  """
  log_probs = log_softmax(logits)
  return -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)


def log_prob_gap(
    teacher_logits: Float[ArrayLike, "*batch V"], student_logits: Float[ArrayLike, "*batch V"]
) -> Float[Array, "*batch"]:
  """Returns how much log-probability the teacher loses if the student picks the token greedily.

      log max_v μ_v − log μ(argmax_v π_v)

  This is a difficulty for the gate, not a loss: it has no gradient for the student.

  Args:
    teacher_logits: logits of μ.
    student_logits: logits of π.

  Returns:
    Nats, >= 0; zero if both pick the same token.
  """
  teacher = jnp.asarray(teacher_logits).astype(jnp.float32)
  choice = jnp.argmax(jnp.asarray(student_logits), axis=-1)[..., None]
  chosen = jnp.take_along_axis(teacher, choice, axis=-1)[..., 0]
  return jnp.max(teacher, axis=-1) - chosen  # the normaliser cancels
