"""Sums and means over tokens: the one reduction at the end of every loss.

Not here: the losses themselves, which return one float per token.

Means are weighted by tokens, never by rows: a short sentence does not count as much as a long one.
Hence a batch may be split in any way (gradient accumulation, devices) if the parts share one
denominator: `token_mean(values, mask, count=token_count(whole_mask))` of the parts adds up to the
mean of the whole.

Shape letters: B batch, T target length.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, ScalarLike

from kdtw_jax.base import ArrayLike


def token_sum(
    values: Float[ArrayLike, "*shape"], mask: Bool[ArrayLike, "*shape"] | Float[ArrayLike, "*shape"]
) -> Float[Array, ""]:
  """Sum of the values of unmasked tokens.

      Σ_t m_t x_t

  Args:
    values: `[B, T]` (or any shape) one value per token; may be NaN where masked.
    mask: the same shape: True where the token counts, or a weight >= 0 per token.

  Returns:
    Scalar float32.
  """
  weights = jnp.asarray(mask).astype(jnp.float32)
  # A masked value is replaced, not multiplied: 0 * NaN is NaN.
  kept = jnp.where(weights > 0, jnp.asarray(values).astype(jnp.float32), 0.0)
  return jnp.sum(weights * kept)


def token_count(mask: Bool[ArrayLike, "*shape"] | Float[ArrayLike, "*shape"]) -> Float[Array, ""]:
  """Number (or total weight) of the tokens that count.

      Σ_t m_t

  Args:
    mask: `[B, T]` (or any shape) True where the token counts, or a weight >= 0 per token.

  Returns:
    Scalar float32.
  """
  return jnp.sum(jnp.asarray(mask).astype(jnp.float32))


def token_mean(
    values: Float[ArrayLike, "*shape"],
    mask: Bool[ArrayLike, "*shape"] | Float[ArrayLike, "*shape"],
    *,
    count: ScalarLike | None = None,
) -> Float[Array, ""]:
  """Mean over unmasked tokens; zero when there is none.

      Σ_t m_t x_t / Σ_t m_t

  Example:
    >>> import jax.numpy as jnp
    >>> values, mask = jnp.array([[1.0, 5.0], [3.0, 9.0]]), jnp.array([[True, True], [True, False]])
    >>> float(token_mean(values, mask))  # (1 + 5 + 3) / 3
    3.0

  Args:
    values: `[B, T]` (or any shape) one value per token; may be NaN where masked.
    mask: the same shape: True where the token counts, or a weight >= 0 per token.
    count: denominator in place of the mask's own count: that of the whole batch, when this is a
      part of it.

  Returns:
    Scalar float32.
  """
  total = token_sum(values, mask)
  denominator = token_count(mask) if count is None else jnp.asarray(count, jnp.float32)
  return jnp.where(denominator > 0, total / jnp.where(denominator > 0, denominator, 1.0), 0.0)
