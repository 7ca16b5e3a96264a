"""The device mesh, and the shardings of parameters and batches over it.

Batches are split over the mesh axis `data`. A parameter is split over the axis `model` along its
largest dimension that divides evenly; if none does, every device holds a full copy. Optimizer state
follows the same rule, so it lives beside its parameter. `jit` inserts the collectives.
"""

import os
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
import numpy as np

MIN_SHARDED_SIZE = 2**12  # elements; smaller arrays are cheaper to replicate than to gather


def make_mesh(data: int, model: int) -> Mesh:
  """Makes a mesh of `data` x `model` devices.

  Args:
    data: number of devices along the batch; -1 for all that `model` leaves.
    model: number of devices along the parameters.

  Returns:
    The mesh, with axes named `data` and `model`.

  Raises:
    ValueError: if there are too few devices for the mesh.
  """
  num_devices = jax.device_count()
  if data == -1:
    data = num_devices // model
  if data < 1 or model < 1 or data * model > num_devices:
    raise ValueError(
        f"config.mesh=(data={data}, model={model}): needs {data * model} devices, "
        f"{num_devices} at hand; set mesh.data=-1 and a smaller mesh.model"
    )
  return jax.make_mesh(
      (data, model),
      ("data", "model"),
      axis_types=(AxisType.Auto, AxisType.Auto),
      devices=jax.devices()[: data * model],
  )


def param_sharding(mesh: Mesh, shape: tuple[int, ...]) -> NamedSharding:
  """Returns a parameter's sharding: its largest evenly divisible dimension over `model`."""
  parts = mesh.shape["model"]
  divisible = [i for i, size in enumerate(shape) if size % parts == 0]
  if parts == 1 or not divisible or np.prod(shape) < MIN_SHARDED_SIZE:
    return NamedSharding(mesh, PartitionSpec())
  split = max(divisible, key=lambda i: shape[i])
  return NamedSharding(
      mesh, PartitionSpec(*("model" if i == split else None for i in range(len(shape))))
  )


def shard_params(mesh: Mesh, params: Any) -> Any:
  """Puts a pytree of parameters or optimizer state on the mesh."""
  return jax.tree.map(lambda x: jax.device_put(x, param_sharding(mesh, np.shape(x))), params)


def placed(mesh: Mesh, shapes: Any) -> Any:
  """Returns each array's `jax.ShapeDtypeStruct` with the sharding `shard_params` would give it."""
  return jax.tree.map(
      lambda leaf: jax.ShapeDtypeStruct(
          leaf.shape, leaf.dtype, sharding=param_sharding(mesh, leaf.shape)
      ),
      shapes,
  )


def shard_batch(mesh: Mesh, batch: Any) -> Any:
  """Puts a batch of host arrays on the mesh, split along its first axis.

  Every process passes its own slice of the global batch.
  """
  sharding = NamedSharding(mesh, PartitionSpec("data"))
  return jax.tree.map(
      lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), batch
  )


def replicated(mesh: Mesh, tree: Any) -> Any:
  """Puts a pytree of arrays on the mesh, the whole on every device."""
  return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


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
