"""The folder of a run: the results of each stage, and the config and data that they belong to.

    stages/<name>/made_by.json   the fields of the config and the data that make the stage
    stages/<name>/checkpoints/   while it runs
    stages/<name>/params/, summary.json   when it is done; the summary is written last
    data/train/                  its tokens; made again if it is deleted, see data/token_cache.py
    pair/, metrics.json, report.html, ...
    run.lock                     locked while a run writes here; names its process

A workdir belongs to a config stage by stage. A stage that has results or checkpoints continues only
under a config that would make the same stage from the same data. Everything else may change.
"""

from collections.abc import Collection, Iterator
import contextlib
import fcntl
import os
from pathlib import Path
import shutil
import socket
import sys
from typing import Any

import ml_collections

from kdtw_jax import config as config_lib
from kdtw_jax import processes
from kdtw_jax.files import read_json_object, write_json

# Fields that change how a stage is run, logged or read, but not its result.
_FREE = {
    "data.path",
    "data.tfds_data_dir",
    "data.num_validation",
    "data.num_test",
    "data.test_split",
    "scores.path",
    "scores.batch_size",
    "scores.readout_chunk",
}
_FREE_ENDS = (".log_every", ".checkpoint_every", ".sharding")
_MODELS = ("teacher.pretrained", "teacher.checkpoint", "student.pretrained")
_TEXT = (
    "source",
    "source_field",
    "target_field",
    "task",
    "subset",
    "tfds_name",
    "train_split",
    "num_train",
    "join",
    "held_out",
)
_TOKENIZER = ("seed", "tokenizer", "data.seed", *(f"data.{name}" for name in _TEXT), *_MODELS)
_TEACHER = ("seed", "tokenizer", "data", *_MODELS, "teacher.model", "teacher.train")
_PAIR = (
    *_TEACHER,
    "teacher.int8",
    "student",
    "budgets.knots",
    "budgets.train",
    "scores",
    "warm_start",
)
MADE_BY = {
    "tokenizer": _TOKENIZER,
    "teacher": _TEACHER,
    "sft": ("seed", "tokenizer", "data", *_MODELS, "student", "budgets.knots", "sft"),
    "warm_start": _PAIR,
    "distillation": (*_PAIR, "distillation", "decode.max_length"),
    "wheels": (*_PAIR, "distillation", "wheels", "calibration", "decode.max_length"),
    "worth": (
        *_PAIR,
        "distillation",
        "wheels",
        "calibration",
        "worth",
        "decode.max_length",
        "evaluation.metric",
    ),
}


class Workdir:
  """The folder of a run. Nothing is written before `held` and `begin`.

  Attributes:
    path: the folder.
    is_held: True while this run holds it, and may write.
  """

  def __init__(self, path: str | Path, config: ml_collections.ConfigDict):
    """Checks the path of the folder.

    Args:
      path: the folder, made when a run holds it.
      config: the run's config.

    Raises:
      ValueError: if the path is empty, or not on this machine's file system.
    """
    if not str(path).strip():
      raise ValueError("--workdir='': name a folder for the run, e.g. --workdir=runs/demo")
    if "://" in str(path):
      raise ValueError(
          f"--workdir={path}: only folders of the file system are written; mount the bucket, e.g. "
          "with gcsfuse, and give the folder"
      )
    self.path, self.is_held = Path(path), False
    self._config = config

  @contextlib.contextmanager
  def held(self) -> Iterator[None]:
    """Holds the folder for this run while the block runs: the first of its processes does.

    The lock is advisory (`flock`). The kernel releases it when the process ends, however it ends.
    A file system without such locks is used unlocked, after a warning. One that locks for each
    machine alone, as some network file systems do, refuses a second run on the same machine only.

    Raises:
      ValueError: if another run holds it, it cannot be written, or not all processes see it.
    """
    with contextlib.ExitStack() as stack:
      line = processes.first_alone(lambda: stack.enter_context(self._locked()))
      if processes.count() > 1:
        with processes.together():
          self._check_shared(line)
      self.is_held = True
      try:
        yield
      finally:
        self.is_held = False

  def _check_shared(self, line: str) -> None:
    """Waits until the lock says what the first process wrote; raises ValueError if it does not."""
    path = self.path / "run.lock"
    if not processes.awaited(lambda: path.is_file() and path.read_text("utf-8") == line, path):
      raise ValueError(
          f"--workdir={self.path}: process {processes.index()} does not see what process 0 writes"
          " there; give a folder on a file system that all machines share"
      )

  @contextlib.contextmanager
  def _locked(self) -> Iterator[str]:
    """Locks the folder for this process, and yields the line by which the lock names it."""
    try:
      self.path.mkdir(parents=True, exist_ok=True)
      file = (self.path / "run.lock").open("a+", encoding="utf-8")
    except OSError as error:
      raise self._not_writable(error) from error
    with file:
      try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except BlockingIOError as error:
        file.seek(0)
        raise ValueError(
            f"--workdir={self.path}: a run is in it, {file.read(200).strip()}; wait until it ends, "
            "end it, or choose another --workdir"
        ) from error
      except OSError as error:
        print(
            f"warning: --workdir={self.path}: cannot be locked ({error.strerror}); start no second"
            " run in it",
            file=sys.stderr,
        )
      file.truncate(0)
      line = f"process {os.getpid()} on {socket.gethostname()}\n"
      file.write(line)
      file.flush()
      with contextlib.suppress(OSError):
        os.fsync(file.fileno())  # else a network file system shows it to others when it is closed
      yield line

  def folder(self, stage: str) -> Path:
    """Returns a stage's folder; a teacher of another run is in that run's workdir."""
    if stage == "teacher" and self._config.teacher.checkpoint:
      return Path(self._config.teacher.checkpoint) / "stages" / stage
    return self.path / "stages" / stage

  def summary(self, stage: str) -> dict[str, Any] | None:
    """Returns the summary of a finished stage; None if it is not done.

    Raises:
      ValueError: if it is damaged.
    """
    return self.summary_of(self.folder(stage))

  def summary_of(self, folder: Path) -> dict[str, Any] | None:
    """Returns the summary in a folder; None if there is none."""
    path = folder / "summary.json"
    remedy = f"delete {folder} to make it again"
    return read_json_object(path, remedy=remedy) if path.is_file() else None

  def begun(self, stage: str) -> bool:
    """Returns True if a stage of this folder has a result or a checkpoint to lose."""
    folder = self.path / "stages" / stage
    checkpoints = folder / "checkpoints"
    return (folder / "summary.json").exists() or (
        checkpoints.is_dir() and any(child.name.isdigit() for child in checkpoints.iterdir())
    )

  def check(self) -> None:
    """Rejects a config that would not make what the folder holds.

    Raises:
      ValueError: if a stage differs; names the stage, the fields that differ, and the remedy.
    """
    for stage in MADE_BY:
      if self.begun(stage):
        self._check_fields(stage)

  def begin(self, stage: str, *, data: dict[str, str]) -> Path:
    """Claims a stage for this config and data.

    Args:
      stage: its name.
      data: fingerprint, by split, of the data that it reads.

    Returns:
      The stage's folder.

    Raises:
      ValueError: if the stage, or another that has begun, was made from other data, or the folder
        cannot be written.
    """
    for other in MADE_BY:
      seen = self._read_made_by(other).get("data", {}) if self.begun(other) else {}
      changed = [split for split in data if seen.get(split, data[split]) != data[split]]
      if changed:
        raise ValueError(
            f"workdir {self.path}: stage {other!r} was made from other data (split"
            f" {changed[0]!r} has changed since). Choose another --workdir, or delete its stages"
        )
    folder = self.folder(stage)
    whole, made_by = config_lib.to_json(self._config), self.made_by(stage, data=data)

    def write() -> None:
      try:
        write_json(self.path / "config.json", whole)
        write_json(folder / "made_by.json", made_by)
      except OSError as error:
        raise self._not_writable(error) from error

    processes.first_alone(write, makes=folder / "made_by.json")
    return folder

  def made_by(self, stage: str, *, data: dict[str, str] | None = None) -> dict[str, Any]:
    """Returns the content of a stage's `made_by.json` under this config."""
    return {"config": self._fields(stage), "data": data or {}}

  def adopt(
      self, stage: str, base: Path, *, apart_from: Collection[str] = ("teacher.checkpoint",)
  ) -> None:
    """Takes a finished stage from another workdir, if this config makes the same one.

    Args:
      stage: its name; nothing happens if it is done here.
      base: the other workdir.
      apart_from: fields in which the two configs may differ.

    Raises:
      ValueError: if the stage is not finished there, was made by another config, or is damaged;
        names the fields that differ, and the remedy.
    """
    if self.summary(stage) is not None:
      return
    other = Workdir(base, self._config)
    if other.summary(stage) is None:
      raise ValueError(
          f"workdir {base}: has no finished stage {stage!r}; finish that run, or name another"
      )
    made_by = other._read_made_by(stage)
    lines = [
        line
        for line in config_lib.differences(made_by.get("config"), self._fields(stage))
        if line.partition(": ")[0].removeprefix("config.") not in apart_from
    ]
    if lines:
      raise ValueError(
          f"workdir {base}: its stage {stage!r} was made by another config (there != here)"
          f" {'; '.join(lines[:5])}. Give the config of that run, or the workdir of another"
      )
    folder, source = self.begin(stage, data=made_by.get("data", {})), base / "stages" / stage
    shutil.copytree(source / "params", folder / "params", dirs_exist_ok=True)
    shutil.copyfile(source / "summary.json", folder / "summary.json")  # last, as it is written

  def finish(self, stage: str, summary: dict[str, Any]) -> None:
    """Marks a stage as done."""
    path = self.folder(stage) / "summary.json"
    processes.first_alone(lambda: str(write_json(path, summary)), makes=path)

  def _not_writable(self, error: OSError) -> ValueError:
    return ValueError(
        f"--workdir={self.path}: cannot be written ({error.strerror}); choose a folder with free "
        "space and write permission"
    )

  def _read_made_by(self, stage: str) -> dict[str, Any]:
    path = self.path / "stages" / stage / "made_by.json"
    if not path.is_file():
      raise ValueError(
          f"{path}: missing: the stage was made by another version; choose another --workdir, or"
          f" delete {path.parent} to run the stage again"
      )
    return read_json_object(path, remedy=f"delete {path.parent} to run the stage again")

  def _check_fields(self, stage: str) -> None:
    found = self._read_made_by(stage).get("config")
    lines = config_lib.differences(found, self._fields(stage))
    if lines:
      raise ValueError(
          f"workdir {self.path} belongs to a run with another config: stage {stage!r} was made by"
          f" (there != here) {'; '.join(lines[:5])}. Choose another --workdir, or delete the stage"
          f" ({self.path / 'stages' / stage}) and those made after it"
      )

  def _fields(self, stage: str) -> dict[str, Any]:
    """Returns the part of the config that makes a stage, nested as in the config."""
    whole, kept = config_lib.to_json(self._config), {}
    for field in MADE_BY[stage]:
      value, into = whole, kept
      *sections, name = field.split(".")
      for section in sections:
        value, into = value[section], into.setdefault(section, {})
      into[name] = _without_free(value[name], field)
    return kept


def _without_free(value: Any, field: str) -> Any:
  if not isinstance(value, dict):
    return value
  parts = {name: f"{field}.{name}" for name in value}
  return {
      name: _without_free(value[name], part)
      for name, part in parts.items()
      if part not in _FREE and not part.endswith(_FREE_ENDS)
  }
