"""Sums and means over tokens: the one reduction at the end of every loss.

Not here: the losses themselves, which return one float per token.

Means are weighted by tokens, not by rows: a short sentence counts less than a long one. A batch may
therefore be split in any way (gradient accumulation, devices) if the parts share one denominator:
`token_mean(values, mask, count=token_count(whole_mask))` of the parts adds up to the mean of the
whole batch.

Shape letters: B batch, T target length.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, ScalarLike

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
    values: Float[ArrayLike, "*shape"],
    mask: Bool[ArrayLike, "*shape"] | Float[ArrayLike, "*shape"],
    *,
    count: ScalarLike | None = None,
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
    count: denominator to use instead of the mask's own count: the count of the whole batch, if
      these values are a part of it.

  Returns:
    A float32 scalar.
  """
  total = token_sum(values, mask)
  denominator = token_count(mask) if count is None else jnp.asarray(count, jnp.float32)
  return jnp.where(denominator > 0, total / jnp.where(denominator > 0, denominator, 1.0), 0.0)
