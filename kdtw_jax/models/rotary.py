"""Rotary positions: pairs of a head's entries, turned by an angle that grows with the position.

Su et al. 2021, https://arxiv.org/abs/2104.09864. The pairs are entry i and entry i + H / 2, as
transformers has them. Letters: B batch, C positions, N heads, H head size.
"""

from collections.abc import Sequence
import math
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np


class Rotation(NamedTuple):
  """Cosine and sine, float32, of each position's angles."""

  cos: Float[Array, "#B C 1 H/2"]
  sin: Float[Array, "#B C 1 H/2"]

  def __call__(self, x: Float[Array, "B C N H"]) -> Float[Array, "B C N H"]:
    """Turns queries or keys, in float32; keeps their dtype."""
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = (first * self.cos - second * self.sin, second * self.cos + first * self.sin)
    return jnp.concatenate(turned, axis=-1).astype(x.dtype)


def rotation(positions: Int[Array, "#B C"], frequencies: Float[np.ndarray, " half"]) -> Rotation:
  """Computes the rotation of each position."""
  angles = positions[..., None].astype(jnp.float32) * jnp.asarray(frequencies)[None, None]
  return Rotation(jnp.cos(angles)[:, :, None], jnp.sin(angles)[:, :, None])


def frequencies(
    head_size: int, theta: float, scaling: Sequence[str | float] = ()
) -> Float[np.ndarray, " half"]:
  """Returns radians per position of each pair: `θ^(-2 i / H)`, scaled.

  Args:
    head_size: H.
    theta: θ.
    scaling: as in `ModelConfig.rope_scaling`. 'linear' divides all by the factor. 'llama3' divides
      those whose wavelength exceeds length / low, keeps those below length / high, and goes from
      one to the other between them (Llama 3.1, https://arxiv.org/abs/2407.21783).
  """
  plain = theta ** -(np.arange(0, head_size, 2) / head_size)
  if not scaling:
    return plain.astype(np.float32)
  kind, *numbers = scaling
  if kind == "linear":
    return (plain / float(numbers[0])).astype(np.float32)
  factor, low, high, length = map(float, numbers)
  turns = length * plain / (2 * math.pi)  # within the original length
  kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
  return (plain * (kept + (1.0 - kept) / factor)).astype(np.float32)
