"""Where arrays live: the device mesh, and shardings of parameters and batches over it.

Batches are split over the mesh axis `data`. A parameter is split over the axis `model` along its
largest dimension that divides evenly, and whole on every device otherwise; optimizer state follows
the same rule, so it lies with its parameter. `jit` inserts the collectives.
"""

from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
import numpy as np

MIN_SHARDED_SIZE = 2**12  # elements; smaller arrays are cheaper to copy than to gather


def make_mesh(data: int, model: int) -> Mesh:
  """A mesh of `data` x `model` devices.

  Args:
    data: devices along the batch; -1 for all that `model` leaves.
    model: devices along parameters.

  Returns:
    The mesh, axes named `data` and `model`.

  Raises:
    ValueError: when the devices at hand do not fill the mesh.
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
  """The sharding of one parameter: its largest evenly divisible dimension over `model`."""
  parts = mesh.shape["model"]
  divisible = [i for i, size in enumerate(shape) if size % parts == 0]
  if parts == 1 or not divisible or np.prod(shape) < MIN_SHARDED_SIZE:
    return NamedSharding(mesh, PartitionSpec())
  split = max(divisible, key=lambda i: shape[i])
  return NamedSharding(
      mesh, PartitionSpec(*("model" if i == split else None for i in range(len(shape))))
  )


def shard_params(mesh: Mesh, params: Any) -> Any:
  """Puts a pytree of parameters (or of optimizer state) onto the mesh."""
  return jax.tree.map(lambda x: jax.device_put(x, param_sharding(mesh, np.shape(x))), params)


def placed(mesh: Mesh, shapes: Any) -> Any:
  """A pytree of `jax.ShapeDtypeStruct` with the sharding that `shard_params` would give."""
  return jax.tree.map(
      lambda leaf: jax.ShapeDtypeStruct(
          leaf.shape, leaf.dtype, sharding=param_sharding(mesh, leaf.shape)
      ),
      shapes,
  )


def shard_batch(mesh: Mesh, batch: Any) -> Any:
  """Puts a batch of host arrays onto the mesh, split along its first axis.

  Every process passes its own slice of the global batch.
  """
  sharding = NamedSharding(mesh, PartitionSpec("data"))
  return jax.tree.map(
      lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), batch
  )
