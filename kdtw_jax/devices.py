"""The device mesh, and which axis of an array is split over which of the mesh's axes.

    data    the rows of a batch; every device holds whole parameters
    fsdp    the rows of a batch too, and the width of every parameter, of its optimizer state and of
            its average; a layer's kernels are gathered when it runs
    tensor  attention heads, feed-forward widths and rows of the vocabulary, in parameters, caches
            and activations; each layer's outputs are summed over the devices

Modules name the axes of their parameters where they make them, and `RULES` maps the names to the
mesh. A name with no rule is whole on every device, and so is an axis that does not divide evenly. A
config section says for each model which mesh axes its parameters use (`Layout.sharding`). `jit`
inserts the collectives. How to choose: docs/howto/machines.md.
"""

from collections.abc import Sequence
import dataclasses
import math
import os
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding
from jaxtyping import Array, Shaped
import numpy as np

from kdtw_jax.base import ArrayLike

AXES = ("data", "fsdp", "tensor")
BATCH = ("data", "fsdp")  # over which the rows of a batch are split
# The logical axes of arrays, and the mesh axes over which they are split.
RULES: dict[str, tuple[str, ...]] = {
    "batch": BATCH,
    "replica": ("data",),  # rows of a batch while `fsdp` splits its width
    "embed": ("fsdp",),  # D
    "heads": ("tensor",),  # N, or N * H
    "mlp": ("tensor",),  # F
    "vocab": ("tensor",),  # V
}

Names = Sequence[str | None]  # the logical axis of each axis of an array; None for one never split


def make_mesh(data: int, fsdp: int, tensor: int) -> Mesh:
  """Makes a mesh of `data` x `fsdp` x `tensor` devices.

  Args:
    data: number of devices along the batch.
    fsdp: number of devices along the batch and the parameters' widths.
    tensor: number of devices along heads, feed-forward widths and the vocabulary.

  One of the three may be -1, for all devices that the others leave.

  Returns:
    The mesh, with axes named as the arguments.

  Raises:
    ValueError: if there are too few devices for the mesh, they do not divide, or some of those of
      several processes would be left over.
  """
  sizes, at_hand = {"data": data, "fsdp": fsdp, "tensor": tensor}, jax.device_count()
  said = ", ".join(f"{name}={size}" for name, size in sizes.items())
  open_axes = [name for name, size in sizes.items() if size == -1]
  if len(open_axes) > 1 or any(size < 1 and size != -1 for size in sizes.values()):
    raise ValueError(f"config.mesh=({said}): each must be >= 1, and one of them may be -1")
  known = math.prod(size for size in sizes.values() if size != -1)
  for name in open_axes:
    if known <= at_hand and at_hand % known:
      raise ValueError(
          f"config.mesh=({said}): {at_hand} devices do not divide by {known}; change the other "
          f"sizes, or set mesh.{name} to use fewer devices"
      )
    sizes[name] = max(at_hand // known, 1)
  needed = math.prod(sizes.values())
  if needed < at_hand and jax.process_count() > 1:
    raise ValueError(
        f"config.mesh=({said}): uses {needed} of the {at_hand} devices of {jax.process_count()} "
        "processes; set one of its sizes to -1, or start fewer processes"
    )
  if needed > at_hand:
    raise ValueError(
        f"config.mesh=({said}): needs {needed} devices, {at_hand} at hand; set mesh.data=-1, and "
        "lower mesh.fsdp and mesh.tensor"
    )
  return jax.make_mesh(
      tuple(sizes.values()),
      AXES,
      axis_types=(AxisType.Auto,) * len(AXES),
      devices=jax.devices()[:needed],
  )


def batch_parts(mesh: Mesh) -> int:
  """Returns over how many devices the rows of a batch are split."""
  return math.prod(mesh.shape[axis] for axis in BATCH)


@dataclasses.dataclass(frozen=True)
class Layout:
  """Where the arrays of one model lie.

  Attributes:
    mesh: the devices.
    sharding: mesh axes that may split the parameters: "fsdp+tensor", "fsdp", "tensor", or "whole"
      for none. Batches are split in any case.
  """

  mesh: Mesh
  sharding: str = "fsdp+tensor"

  def spec(self, names: Names, shape: Sequence[int]) -> PartitionSpec:
    """Returns the mesh axes of each axis of an array; an axis that does not divide stays whole."""
    return PartitionSpec(*(self._split(*axis) for axis in zip(names, shape, strict=True)))

  def _split(self, name: str | None, size: int) -> tuple[str, ...] | None:
    """Returns the mesh axes that split one axis of an array; None if it stays whole."""
    axes = RULES.get(name or "", ())
    allowed = name in ("batch", "replica") or set(axes) <= {*self.sharding.split("+")}
    parts = math.prod(self.mesh.shape[axis] for axis in axes)
    return axes if parts > 1 and allowed and size % parts == 0 else None

  def place(self, names: Names, shape: Sequence[int]) -> NamedSharding:
    """Returns the sharding of an array with these logical axes."""
    return NamedSharding(self.mesh, self.spec(names, shape))

  def constrain(self, x: Shaped[Array, "*shape"], *names: str | None) -> Shaped[Array, "*shape"]:
    """Tells the compiler where an activation lies; the identity on one device."""
    if self.mesh.size == 1:
      return x
    return jax.lax.with_sharding_constraint(x, self.place(names, x.shape))


def put(x: ArrayLike, where: Sharding | None) -> Shaped[Array, "..."]:
  """Puts a host array on devices, those of other processes too; None for the first device.

  Every process passes the whole array, and keeps the parts that its own devices hold.
  """
  if where is None:
    return jax.device_put(x)
  whole = np.asarray(x)
  return jax.make_array_from_callback(whole.shape, where, lambda part: whole[part])


def shard_batch(mesh: Mesh, batch: Any) -> Any:
  """Puts a batch of host arrays on the mesh, split along its first axis; see `put`."""
  sharding = NamedSharding(mesh, PartitionSpec(BATCH))
  return jax.tree.map(lambda x: put(x, sharding), batch)


def replicated(mesh: Mesh, tree: Any) -> Any:
  """Puts a pytree of host arrays on the mesh, the whole on every device; see `put`."""
  return jax.tree.map(lambda x: put(x, NamedSharding(mesh, PartitionSpec())), tree)


def keep_programs() -> None:
  """Keeps compiled programs on disk, so that the next process starts without compiling them.

  They lie in `~/.cache/kdtw_jax/programs`, unless JAX_COMPILATION_CACHE_DIR names another folder.
  JAX_ENABLE_COMPILATION_CACHE=false turns this off.
  """
  if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = os.path.join(home, "kdtw_jax", "programs")
    jax.config.update("jax_compilation_cache_dir", folder)
  if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)  # the default is 1
