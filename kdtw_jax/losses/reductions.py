"""Sums and means over tokens: the one reduction at the end of every loss.

Not here: the losses themselves, which return one float per token.

Means are weighted by tokens, not by rows: a short sentence counts less than a long one. A mean is
kept as its sum and its weight, so that the parts of a batch add up to the mean of the whole.

Shape letters: B batch, T target length.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from kdtw_jax.base import ArrayLike


class Mean(NamedTuple):
  """A mean over tokens or rows, as the two sums that it is made of.

  Attributes:
    total: Σ m x, a float32 scalar.
    count: Σ m, a float32 scalar; depends on the data alone, never on parameters.
  """

  total: Float[Array, ""]
  count: Float[Array, ""]

  def value(self) -> Float[Array, ""]:
    """Returns Σ m x / Σ m; zero if nothing counts."""
    return jnp.where(self.count > 0, self.total / jnp.where(self.count > 0, self.count, 1.0), 0.0)


class RootMean(Mean):
  """A mean whose value is its square root."""

  def value(self) -> Float[Array, ""]:
    """Returns sqrt(Σ m x / Σ m); zero if nothing counts."""
    return jnp.sqrt(super().value())


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
) -> Mean:
  """Averages over unmasked tokens.

      Σ_t m_t x_t / Σ_t m_t

  Example:
    >>> import jax.numpy as jnp
    >>> values, mask = jnp.array([[1.0, 5.0], [3.0, 9.0]]), jnp.array([[True, True], [True, False]])
    >>> float(token_mean(values, mask).value())  # (1 + 5 + 3) / 3
    3.0

  Args:
    values: one value per token, of any shape; may be NaN where masked.
    mask: True where the token counts, or a weight >= 0 per token.

  Returns:
    The mean, whose `value` is a float32 scalar: zero if no token counts.
  """
  return Mean(token_sum(values, mask), token_count(mask))
