"""Checkpoints on disk; the only module that imports orbax.

`StageCheckpoints` keeps the last few states of a running stage. They are written in the background
and become visible atomically, so a killed run resumes from the newest complete one.
`save_params` and `load_params` store a finished model. Nothing is ever unpickled.

orbax sees only damage that its formats cannot hold, and loads wrong numbers for many a flipped bit.
So `checksums.json` lists the CRC-32 of every file of a checkpoint's state and progress.
"""

from collections.abc import Iterator
import contextlib
from pathlib import Path
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from kdtw_jax import processes
from kdtw_jax.files import damaged_file, first_line, not_written, system_code, write_checksums

_ITEMS = ("state", "progress")


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
    self._saving: int | None = None
    self._unreadable: list[int] = []
    self._manager = ocp.CheckpointManager(
        self.directory,
        options=ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            create=True,
            enable_async_checkpointing=True,
            cleanup_tmp_directories=True,
            async_options=ocp.AsyncOptions(post_finalization_callback=self._add_checksums),
        ),
    )

  def save(self, step: int, state: Any, progress: dict) -> None:
    """Writes a checkpoint in the background; a crash while writing leaves the earlier ones.

    Args:
      step: number of steps taken.
      state: a pytree of arrays; copied on the device first, because the next step donates it.
      progress: JSON values such as the data iterator's state and the seconds spent.

    Raises:
      OSError: if this checkpoint or the one before it cannot be written.
    """
    with self._named_write_errors():
      self._manager.wait_until_finished()
    self._saving = step
    state = jax.tree.map(jnp.copy, state)
    with self._named_write_errors():
      for passed in [unreadable for unreadable in self._unreadable if unreadable <= step]:
        self._manager.delete(passed)
        self._unreadable.remove(passed)
      self._manager.save(
          step,
          args=ocp.args.Composite(
              state=ocp.args.StandardSave(state), progress=ocp.args.JsonSave(progress)
          ),
          force=True,  # an unreadable checkpoint of a later step may lie there
      )

  def _add_checksums(self) -> None:
    """Lists the files of a checkpoint that is written, before it becomes visible."""
    folder = self.directory / f"{self._saving}.orbax-checkpoint-tmp"  # as orbax names it
    files = [file for item in _ITEMS for file in (folder / item).rglob("*") if file.is_file()]
    if not files:
      raise FileNotFoundError(f"{folder}: holds no files of a checkpoint")
    write_checksums(folder, files)

  @contextlib.contextmanager
  def _named_write_errors(self) -> Iterator[None]:
    try:
      yield
    except Exception as error:
      if system_code(error) is None:  # no matter of the disk
        raise
      raise not_written(
          f"checkpoint {self.directory / str(self._saving)}",
          error,
          remedy="The same command goes on from the checkpoint before it",
      ) from error

  def restore(self, like: Any) -> tuple[Any, dict] | None:
    """Reads the newest checkpoint that is whole, and warns of newer ones that are not.

    One that cannot be read stays where it is until the run saves its step, or a later one.

    Args:
      like: a state with the structure, shapes, dtypes and shardings to restore to.

    Returns:
      `(state, progress)`, or None if there is no checkpoint.

    Raises:
      ValueError: if there are checkpoints, and none can be read or fits; names the remedy.
    """
    steps = processes.of_first(sorted(self._manager.all_steps(), reverse=True))
    failures: list[Exception] = []
    for step in steps:
      try:
        _check_files(self.directory / str(step))
        with processes.together():
          found = self._read(step, like)
      except Exception as error:
        failures.append(error)
        continue
      if failures:
        self._unreadable = steps[: len(failures)]
      if failures and processes.is_first():
        print(
            f"warning: checkpoint {self.directory / str(steps[0])} cannot be read "
            f"({first_line(failures[0])}): going on from step {step}, not {steps[0]}",
            file=sys.stderr,
        )
      return found
    if failures:
      raise ValueError(
          f"checkpoint {self.directory / str(steps[0])} cannot be read ({first_line(failures[0])}),"
          f" nor can an earlier one (kept: {steps[::-1]}); delete {self.directory} to begin the "
          "stage again"
      ) from failures[0]
    return None

  def _read(self, step: int, like: Any) -> tuple[Any, dict]:
    found = self._manager.restore(
        step,
        args=ocp.args.Composite(
            state=ocp.args.StandardRestore(_describe(like)), progress=ocp.args.JsonRestore()
        ),
    )
    return found.state, found.progress

  def close(self) -> None:
    """Waits for pending writes and closes the directory; raises OSError if they fail."""
    with self._named_write_errors():
      try:
        self._manager.wait_until_finished()
      finally:
        self._manager.close()


def _check_files(folder: Path) -> None:
  """Raises ValueError if a file is damaged; all processes go by what the first one reads."""
  name = processes.first_alone(lambda: damaged_file(folder))
  if name is not None:
    raise ValueError(f"{name} is damaged or missing")


def save_params(directory: Path, params: Any) -> None:
  """Writes a finished model's parameters atomically, replacing any that are there.

  Raises:
    OSError: if they cannot be written.
  """
  directory = Path(directory).absolute()
  try:
    with ocp.StandardCheckpointer() as checkpointer:
      checkpointer.save(directory, params, force=True)
    processes.first_alone(
        lambda: write_checksums(directory, [f for f in directory.rglob("*") if f.is_file()])
    )
  except Exception as error:
    if system_code(error) is None:
      raise
    raise not_written(
        f"parameters {directory}", error, remedy="The same command trains no step twice"
    ) from error


def load_params(directory: Path, like: Any) -> Any:
  """Reads parameters written by `save_params`.

  Args:
    directory: the folder.
    like: a pytree with the structure, shapes, dtypes and shardings to restore to.

  Returns:
    The parameters.

  Raises:
    FileNotFoundError: if there is no such folder.
    ValueError: if the folder cannot be read, is damaged or holds other shapes.
  """
  directory = Path(directory).absolute()
  if not directory.is_dir():
    raise FileNotFoundError(f"no parameters in {directory}: run the stage that trains them first")
  try:
    _check_files(directory)
    with ocp.StandardCheckpointer() as checkpointer:
      params = checkpointer.restore(directory, _describe(like))
  except Exception as error:
    raise ValueError(
        f"parameters in {directory} cannot be read ({first_line(error)}): damaged, or of "
        f"another config; delete {directory.parent} and run its stage again"
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
