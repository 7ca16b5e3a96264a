"""Frozen kernels in eight bits: a weight is an integer, in a unit of its output's own.

    W[i, o] ≈ s[o] q[i, o],    s[o] = max_i |W[i, o]| / 127,    q an integer from -127 to 127

x W is then s (x q): the products are those of ordinary kernels, of integers that bfloat16 holds
exactly, and no other number is rounded (absmax quantization of weights alone; Dettmers et al. 2022,
https://arxiv.org/abs/2208.07339, has it with more for outliers). Embeddings, norms, biases, heads
and the readout stay as they are. Letters: I and O widths.
"""

import dataclasses
import functools
from typing import Any

from flax import traverse_util
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdtw_jax.base import Params
from kdtw_jax.models.low_rank import KERNELS

LARGEST = 127.0


@functools.partial(jax.tree_util.register_dataclass, data_fields=("values", "unit"), meta_fields=())
@dataclasses.dataclass(frozen=True)
class Int8:
  """A kernel in eight bits; stands in params where a kernel is.

  Attributes:
    values: q, `[I, *O]` int8.
    unit: s, `[*O]` float32.
  """

  values: Any
  unit: Any

  def __getitem__(self, whole: Any) -> "Int8":
    """Returns itself, as `kernel[...]` of an array does."""
    return self


@jax.jit
def rounded(kernel: Float[Array, "I *O"]) -> Int8:  # noqa: F821  reads I * O
  """Returns a kernel in eight bits, each weight within half a unit; zeros stay zeros."""
  kernel = kernel.astype(jnp.float32)
  unit = jnp.max(jnp.abs(kernel), axis=0) / LARGEST
  safe = jnp.broadcast_to(jnp.where(unit == 0.0, 1.0, unit), kernel.shape)
  return Int8(jnp.round(kernel / safe).astype(jnp.int8), unit)


def with_int8(params: Params) -> Params:
  """Returns params with every kernel of a layer in eight bits, split over devices as it was."""
  flat: dict[tuple[str, ...], Any] = dict(traverse_util.flatten_dict(params))
  del params  # so that a kernel is freed once it is rounded, unless the caller keeps it
  for path in flat:
    if path[-1] in KERNELS:
      flat[path] = rounded(flat[path])
  return traverse_util.unflatten_dict(flat)
