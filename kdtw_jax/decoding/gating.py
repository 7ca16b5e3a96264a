"""The student's confidence in its next token, which thresholds read.

Not here: which rule a policy uses (policies/). Shape letters: B batch, V vocabulary.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def max_prob(logits: Float[Array, "B V"]) -> Float[Array, " B"]:
  """Returns the probability of the most likely token."""
  return jnp.exp(jnp.max(jax.nn.log_softmax(logits, axis=-1), axis=-1))


def margin(logits: Float[Array, "B V"]) -> Float[Array, " B"]:
  """Returns the probability of the best token minus that of the second best."""
  probs = jax.nn.softmax(logits, axis=-1)
  is_best = jnp.arange(probs.shape[-1])[None, :] == jnp.argmax(probs, axis=-1)[:, None]
  return jnp.max(probs, axis=-1) - jnp.max(jnp.where(is_best, 0.0, probs), axis=-1)
