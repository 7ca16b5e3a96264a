"""Sums and means over tokens: the one reduction at the end of every loss.

Not here: the losses themselves, which return one float per token.

Means are weighted by tokens, not by rows: a short sentence counts less than a long one.

Shape letters: B batch, T target length.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from kdtw_jax.base import ArrayLike


def token_sum(
    values: Float[ArrayLike, "*shape"], mask: Bool[ArrayLike, "*shape"] | Float[ArrayLike, "*shape"]
) -> Float[Array, ""]:
  """Sums the values of unmasked tokens.

      Σ_t m_t x_t

  Args:
    values: one value per token, of any shape; may be NaN where masked.
    mask: True where the token counts, or a weight >= 0 per token.

  Returns:
    A float32 scalar.
  """
  weights = jnp.asarray(mask).astype(jnp.float32)
  # Masked values are replaced, not multiplied, because 0 * NaN is NaN.
  kept = jnp.where(weights > 0, jnp.asarray(values).astype(jnp.float32), 0.0)
  return jnp.sum(weights * kept)


def token_count(mask: Bool[ArrayLike, "*shape"] | Float[ArrayLike, "*shape"]) -> Float[Array, ""]:
  """Counts the unmasked tokens, or sums their weights.

      Σ_t m_t

  Args:
    mask: True where the token counts, or a weight >= 0 per token, of any shape.

  Returns:
    A float32 scalar.
  """
  return jnp.sum(jnp.asarray(mask).astype(jnp.float32))


def token_mean(
    values: Float[ArrayLike, "*shape"], mask: Bool[ArrayLike, "*shape"] | Float[ArrayLike, "*shape"]
) -> Float[Array, ""]:
  """Averages over unmasked tokens; zero if there are none.

      Σ_t m_t x_t / Σ_t m_t

  Example:
    >>> import jax.numpy as jnp
    >>> values, mask = jnp.array([[1.0, 5.0], [3.0, 9.0]]), jnp.array([[True, True], [True, False]])
    >>> float(token_mean(values, mask))  # (1 + 5 + 3) / 3
    3.0

  Args:
    values: one value per token, of any shape; may be NaN where masked.
    mask: True where the token counts, or a weight >= 0 per token.

  Returns:
    A float32 scalar.
  """
  total, count = token_sum(values, mask), token_count(mask)
  return jnp.where(count > 0, total / jnp.where(count > 0, count, 1.0), 0.0)
