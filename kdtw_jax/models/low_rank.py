"""Frozen kernels with a trained change of low rank (LoRA).

    x W + c · (x A) B,    c = α / r,    A [I, r] random,  B [r, *O] zero at first

Hu et al. 2021, https://arxiv.org/abs/2106.09685. Every kernel of a layer gets a change; stacked
kernels, such as that of queries, keys and values, share A. Embeddings, norms, biases and the
readout stay as they are, and heads train whole. A model computes with a `LowRank` wherever it has a
kernel (`layers.project`), so that the backward pass makes no gradient of W, and the optimizer keeps
no state of it. What training leaves is merged: W + c A B.
Letters: B batch, C positions, I and O widths, r rank.
"""

from collections.abc import Callable, Collection
import dataclasses
import functools
from typing import Any

from flax import traverse_util
import jax
import jax.numpy as jnp
from jaxtyping import Array

from kdtw_jax.base import Params, PRNGKey

KERNELS = ("q", "kv", "qkv", "out", "wi", "wo")  # names of kernels in layers
_CHANGES = "changes"  # of the trained part


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=("kernel", "down", "up"), meta_fields=("scale",)
)
@dataclasses.dataclass(frozen=True)
class LowRank:
  """A frozen kernel W with its change c A B; stands in params where a kernel is.

  Attributes:
    kernel: W, `[I, *O]`.
    down: A, `[I, r]`.
    up: B, `[r, *O]`.
    scale: c.
  """

  kernel: Any
  down: Any
  up: Any
  scale: float

  def __getitem__(self, whole: Any) -> "LowRank":
    """Returns itself, as `kernel[...]` of an array does."""
    return self


def draw(params: Params, key: PRNGKey, *, whole: Collection[str], rank: int) -> Params:
  """Makes what trains: a change of each kernel that changes nothing yet, and the heads.

  Args:
    params: of a model.
    key: draws A, of std I^-0.5.
    whole: names of the model's heads, which train as they are.
    rank: r; at most the width of the narrowest kernel makes sense.

  Returns:
    The changes, and the heads by their names.
  """
  changes, kernels = {}, traverse_util.flatten_dict(frozen_of(params, whole=whole))
  for number, (path, kernel) in enumerate(sorted(kernels.items())):
    if path[-1] in KERNELS:
      width, *out = kernel.shape
      down = jax.random.normal(jax.random.fold_in(key, number), (width, rank)) * width**-0.5
      changes[path] = {"down": down, "up": jnp.zeros((rank, *out))}
  heads = {name: head for name, head in params.items() if name in whole}
  return {**heads, _CHANGES: traverse_util.unflatten_dict(changes)}


def frozen_of(params: Params, *, whole: Collection[str]) -> Params:
  """Returns the parameters that stay as they are: all but the heads."""
  return {name: part for name, part in params.items() if name not in whole}


def combined(trained: Params, frozen: Params, *, scale: float) -> Params:
  """Puts both parts together to params with a `LowRank` for each kernel; computes nothing.

  Args:
    trained: from `draw`, or as training left it.
    frozen: from `frozen_of`.
    scale: c.
  """
  return _together(trained, frozen, lambda w, a, b: LowRank(w, a, b, scale))


def merged(trained: Params, frozen: Params, *, scale: float) -> Params:
  """Returns ordinary params, with each kernel as W + c A B; see `combined`."""
  return _together(
      trained, frozen, lambda w, a, b: (w + scale * jnp.tensordot(a, b, axes=1)).astype(w.dtype)
  )


def _together(
    trained: Params, frozen: Params, change: Callable[[Array, Array, Array], Any]
) -> Params:
  """Makes params of both parts; each kernel becomes what `change` makes of W, A and B."""
  flat: dict[tuple[str, ...], Any] = dict(traverse_util.flatten_dict(frozen))
  changes: dict[tuple[str, ...], Any] = dict(traverse_util.flatten_dict(trained[_CHANGES]))
  for *path, name in changes:
    if name == "down":
      kernel = tuple(path)
      flat[kernel] = change(flat[kernel], changes[*path, "down"], changes[*path, "up"])
  heads = {name: part for name, part in trained.items() if name != _CHANGES}
  return {**traverse_util.unflatten_dict(flat), **heads}
