"""A run of several JAX processes: who they are, and what they tell each other.

Every process runs the same program on the same values, and what one of them alone knows is told to
all before it decides anything: clocks, signals, what lies on a disk. The first process writes the
workdir; the others wait, and read. A run of one process does none of this, and imports no JAX here.

Not here: how arrays are split over the devices of all processes (devices.py).
"""

from collections.abc import Callable, Iterator
import contextlib
import functools
import json
import os
from pathlib import Path
import sys
import time
from typing import Any, TypeVar

import numpy as np

_Value = TypeVar("_Value")

_CLUSTERS = ("gcetpu", "gketpu", "slurm", "ompi")  # as JAX names those that it finds by itself
_MEETING = 300  # seconds in which all processes must have started
_HEARTBEAT = 30  # seconds without one after which a process counts as lost, and all others end
_LEAVING = 8  # seconds for which a process that ends waits for the others
_SEEN_WITHIN = 90  # seconds; network file systems remember for a while that a file was not there
_AT_ONCE = 2**26  # bytes that are gathered together
_SMALLEST = 1024  # bytes of a message, so that few sizes compile

_alone = False  # while the first process acts and the others wait for it


def start(coordinator: str | None, number: int | None, which: int | None) -> None:
  """Joins the other processes of the run; before any use of a device.

  Args:
    coordinator: HOST:PORT at which the first process listens; None to find the processes of a Cloud
      TPU slice, of a Slurm step or of Open MPI, if there is more than one.
    number: number of processes; None likewise.
    which: number of this process, from 0; None likewise.

  Raises:
    OSError: if the processes do not find each other.
    ValueError: if some of the three are given and others not, or they are impossible.
  """
  given = {"--coordinator": coordinator, "--processes": number, "--process": which}
  said = " ".join(f"{flag}={value}" for flag, value in given.items() if value is not None)
  missing = [flag for flag, value in given.items() if value is None]
  if len(missing) == len(given):
    if (cluster := _cluster()) is not None:
      _initialize(f"the processes of {cluster!r}", cluster_detection_method=cluster)
    return
  if missing:
    raise ValueError(f"{said}: {' and '.join(missing)} missing: give all three flags, or none")
  assert coordinator is not None and number is not None and which is not None
  host, _, port = coordinator.rpartition(":")
  if not host or not port.isdigit():
    raise ValueError(f"--coordinator={coordinator}: must be HOST:PORT of process 0")
  if not 0 <= which < number:
    raise ValueError(f"{said}: must be 0 <= --process < --processes")
  if number > 1:
    _initialize(
        said,
        coordinator_address=coordinator,
        num_processes=number,
        process_id=which,
        cluster_detection_method="deactivate",
    )


def _cluster() -> str | None:
  """Returns JAX's name of the cluster that started this process as one of several, if one did."""
  from jax._src.clusters import ClusterEnv  # JAX has no public way to ask without joining

  for env in ClusterEnv._cluster_types:
    with contextlib.suppress(OSError):  # no metadata server: no Cloud TPU
      if env.name in _CLUSTERS and env.is_env_present():
        return env.name if env.get_process_count() > 1 else None
  return None


def _initialize(said: str, **how: Any) -> None:
  import jax

  # JAX's own service would take SIGTERM from `preemption.py`.
  jax.config.update("jax_enable_preemption_service", False)
  try:
    jax.distributed.initialize(
        **how,
        initialization_timeout=_MEETING,
        heartbeat_timeout_seconds=_HEARTBEAT,
        shutdown_timeout_seconds=_LEAVING,
    )
  except RuntimeError as error:
    reason = (str(error).strip().splitlines() or ["no reason given"])[0][:200]
    raise OSError(
        f"{said}: the processes did not find each other ({reason}): start all of them within"
        f" {_MEETING} s, each with a number of its own, and let them reach the first one's port"
    ) from error


def count() -> int:
  """Returns the number of processes of the run."""
  jax = sys.modules.get("jax")
  return jax.process_count() if jax and jax.distributed.is_initialized() else 1


def index() -> int:
  """Returns the number of this process, from 0."""
  return sys.modules["jax"].process_index() if count() > 1 else 0


def is_first() -> bool:
  """Returns True in the process that writes the workdir and speaks on the terminal."""
  return index() == 0


def gathered(value: Any) -> list[Any]:
  """Returns a value of each process, in their order; all processes call it together.

  Args:
    value: this process's, of JSON types.
  """
  if count() == 1:
    return [value]
  from jax.experimental import multihost_utils

  message = json.dumps(value).encode()
  sizes = multihost_utils.process_allgather(np.array(len(message), np.int32))
  room = max(_SMALLEST, 1 << int(max(sizes) - 1).bit_length())
  padded = np.frombuffer(message.ljust(room), np.uint8)
  return [json.loads(row.tobytes()) for row in multihost_utils.process_allgather(padded)]


def of_first(value: _Value) -> _Value:
  """Returns the first process's value, of JSON types, to all that call it together."""
  return value if count() == 1 else gathered(value if is_first() else None)[0]


@contextlib.contextmanager
def together() -> Iterator[None]:
  """Lets an error that one process meets in the block end it on all of them.

  In the block, processes tell each other nothing: one may have left it already.

  Raises:
    ValueError: if another process met an error; names the process, with what it said.
  """
  error = None
  try:
    yield
  except Exception as caught:
    error = caught
  found = gathered(None if error is None else str(error) or type(error).__name__)
  if error is not None:
    raise error
  for number, said in enumerate(found):
    if said is not None:
      raise ValueError(f"process {number}: {said}")


def first_alone(action: Callable[[], _Value], *, makes: Path | None = None) -> _Value:
  """Lets the first process act, and the others wait for it.

  Args:
    action: what to do. It may itself call this, and nothing else that needs the other processes.
    makes: a file that exists afterwards; the others wait until their file system shows it.

  Returns:
    What `action` returned, to all processes; of JSON types, if there are several.

  Raises:
    ValueError: if it failed in the first process, or `makes` is not seen by another one.
  """
  global _alone
  if count() == 1 or _alone:
    return action()
  value, error = None, None
  if is_first():
    _alone = True
    try:
      value = action()
    except Exception as caught:
      error = caught
    finally:
      _alone = False
  value, said = of_first((value, None if error is None else str(error) or type(error).__name__))
  if error is not None:
    raise error
  if said is not None:
    raise ValueError(f"process 0: {said}")
  if makes is not None:
    with together():
      if not awaited(makes.exists, makes):
        raise ValueError(
            f"{makes}: process 0 has written it, and process {index()} does not see it: give a"
            " --workdir on a file system that all machines share"
        )
  return value  # pyright: ignore[reportReturnType]  of the action


def awaited(seen: Callable[[], bool], path: Path) -> bool:
  """Waits until this process's file system shows what the first one wrote.

  Args:
    seen: looks.
    path: where it looks.

  Returns:
    False if it was not seen in time.
  """
  end = time.monotonic() + _SEEN_WITHIN
  while not seen():
    if time.monotonic() > end:
      return False
    time.sleep(0.2)
    with contextlib.suppress(OSError):
      os.listdir(path.parent)  # lets a network file system look again
  return True


def whole(tree: Any) -> Any:
  """Fetches a pytree of arrays to every process, whatever devices hold their parts.

  Args:
    tree: arrays on the devices of all processes; all processes call it together.

  Returns:
    The same tree of numpy arrays.
  """
  import jax

  return jax.device_get(tree) if count() == 1 else _fetched(tree, keep=True)


def to_first(tree: Any) -> Any:
  """Fetches a pytree of arrays to the first process; all call it together.

  Args:
    tree: as for `whole`, and as large as host memory.

  Returns:
    In the first process the same tree of numpy arrays, in the others a tree of None. The tree as it
    is, in a run of one process.
  """
  return tree if count() == 1 else _fetched(tree, keep=is_first())


def _fetched(tree: Any, *, keep: bool) -> Any:
  """Returns a tree of numpy arrays, or of None for a process that keeps none."""
  import jax

  leaves, structure = jax.tree.flatten(tree)
  some: list[int] = []
  for number, leaf in enumerate(leaves):
    if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable or leaf.is_fully_replicated:
      leaves[number] = jax.device_get(leaf) if keep else None
      continue
    some.append(number)
    if sum(leaves[i].nbytes for i in some) > _AT_ONCE:
      _gather(leaves, some, keep=keep)
      some = []
  if some:
    _gather(leaves, some, keep=keep)
  return structure.unflatten(leaves)


def _gather(leaves: list[Any], some: list[int], *, keep: bool) -> None:
  """Fetches some arrays in place: one message for all, since each takes its time."""
  import jax

  arrays = [leaves[number] for number in some]
  places = [jax.NamedSharding(array.sharding.mesh, jax.P()) for array in arrays]
  for number, array in zip(some, _replicate(tuple(places))(arrays), strict=True):
    leaves[number] = np.asarray(array) if keep else None


@functools.cache
def _replicate(places: tuple[Any, ...]) -> Callable[[list[Any]], list[Any]]:
  import jax

  return jax.jit(lambda arrays: arrays, out_shardings=list(places))
