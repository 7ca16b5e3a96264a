"""Checkpoints on disk; the only module that imports orbax.

`StageCheckpoints` keeps the last few states of a running stage. They are written in the background
and become visible atomically, so a killed run resumes from the newest complete one.
`save_params` and `load_params` store a finished model. Nothing is ever unpickled.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from kdtw_jax.files import first_line


def _describe(tree: Any) -> Any:
  """Returns the shapes, dtypes and shardings of a pytree, as orbax needs them for a restore."""
  return jax.tree.map(ocp.utils.to_shape_dtype_struct, tree)


class StageCheckpoints:
  """The checkpoints of one training stage: `<directory>/<step>/{state,progress}`."""

  def __init__(self, directory: Path, *, keep: int):
    """Opens the directory, or creates it.

    Args:
      directory: the stage's own folder.
      keep: how many of the newest checkpoints to keep.
    """
    self.directory = Path(directory).absolute()
    self._manager = ocp.CheckpointManager(
        self.directory,
        options=ocp.CheckpointManagerOptions(
            max_to_keep=keep, create=True, enable_async_checkpointing=True
        ),
    )

  def save(self, step: int, state: Any, progress: dict) -> None:
    """Writes a checkpoint in the background; a crash while writing leaves the earlier ones.

    Args:
      step: number of steps taken.
      state: a pytree of arrays; copied on the device first, because the next step donates it.
      progress: JSON values such as the data iterator's state and the seconds spent.
    """
    state = jax.tree.map(jnp.copy, state)
    self._manager.save(
        step,
        args=ocp.args.Composite(
            state=ocp.args.StandardSave(state), progress=ocp.args.JsonSave(progress)
        ),
    )

  def latest_step(self) -> int | None:
    """Returns the step of the newest complete checkpoint, or None if there is none."""
    return self._manager.latest_step()

  def restore(self, like: Any) -> tuple[Any, dict] | None:
    """Reads the newest complete checkpoint.

    Args:
      like: a state with the structure, shapes, dtypes and shardings to restore to.

    Returns:
      `(state, progress)`, or None if there is no checkpoint.

    Raises:
      ValueError: if the checkpoint cannot be read or does not fit; names the folder and the remedy.
    """
    step = self._manager.latest_step()
    if step is None:
      return None
    try:
      found = self._manager.restore(
          step,
          args=ocp.args.Composite(
              state=ocp.args.StandardRestore(_describe(like)), progress=ocp.args.JsonRestore()
          ),
      )
    except Exception as error:
      raise ValueError(
          f"checkpoint {self.directory / str(step)} cannot be read ({first_line(error)}); delete "
          f"that folder to resume from an earlier one (kept: {self._manager.all_steps()})"
      ) from error
    return found.state, found.progress

  def close(self) -> None:
    """Waits for pending writes and closes the directory."""
    self._manager.wait_until_finished()
    self._manager.close()


def reached_preemption(step: int) -> bool:
  """Returns True if this is the step at which all hosts save because one of them is to go."""
  return ocp.multihost.reached_preemption(step)


def save_params(directory: Path, params: Any) -> None:
  """Writes a finished model's parameters atomically, replacing any that are there."""
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(Path(directory).absolute(), params, force=True)


def load_params(directory: Path, like: Any) -> Any:
  """Reads parameters written by `save_params`.

  Args:
    directory: the folder.
    like: a pytree with the structure, shapes, dtypes and shardings to restore to.

  Returns:
    The parameters.

  Raises:
    FileNotFoundError: if there is no such folder.
    ValueError: if the folder cannot be read or holds other shapes.
  """
  directory = Path(directory).absolute()
  if not directory.is_dir():
    raise FileNotFoundError(f"no parameters in {directory}: run the stage that trains them first")
  try:
    with ocp.StandardCheckpointer() as checkpointer:
      params = checkpointer.restore(directory, _describe(like))
  except Exception as error:
    raise ValueError(
        f"parameters in {directory} cannot be read ({first_line(error)}): the folder "
        "is damaged or belongs to another config; delete it and run its stage again"
    ) from error
  wrong = [
      f"{jax.tree_util.keystr(path)} {np.shape(a)} != {np.shape(b)}"
      for (path, a), b in zip(
          jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(like), strict=True
      )
      if np.shape(a) != np.shape(b)
  ]
  if wrong:
    raise ValueError(
        f"parameters in {directory} have other shapes than the config says: "
        f"{'; '.join(wrong[:3])}"
    )
  return params
