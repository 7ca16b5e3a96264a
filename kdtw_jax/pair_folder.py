"""Where a pair lies. Not here: what its files hold (`pair.py`, `pair_checks.py`).

    DIR/pair.json, DIR/student/, DIR/teacher/    what a run saves; DIR is the `pair/` of its workdir
    DIR/pair.json, DIR/config.json, DIR/teacher/ an export: transformers reads DIR as the student

An export may be a model of the hub. Of its files only data are downloaded.
"""

import os
from pathlib import Path

from kdtw_jax import published

_DATA = ("*.json", "*.safetensors", "*.model")  # in every folder of an export


def locate(name: str | os.PathLike) -> Path:
  """Finds the folder of a pair, which holds pair.json.

  Args:
    name: the folder, a workdir with a `pair/`, or the hub id of an export. What begins with a
      folder that is here is never taken for an id.

  Returns:
    The folder; one of the hub is downloaded once and cached.

  Raises:
    FileNotFoundError: if there is none, or the hub cannot be reached; says what to give.
  """
  directory = Path(name)
  if (directory / "pair").is_dir():
    directory = directory / "pair"
  on_hub = not directory.exists() and published.is_id(str(name), with_owner=True)
  if on_hub and not Path(directory.parts[0]).exists():
    directory = published.download(str(name), _DATA)
  if (directory / "pair.json").is_file():
    return directory
  if (directory / "kdtw.json").is_file():
    raise FileNotFoundError(
        f"{name}: a student without its teacher (pair.json is missing): export the pair again with "
        "--teacher, or give the workdir of its run"
    )
  raise FileNotFoundError(
      f"{directory}: no trained pair (pair.json is missing): give the "
      "workdir of a finished run, or train one: python -m kdtw_jax.main"
  )


def student_of(directory: Path) -> Path:
  """Returns the folder of the student in the folder of a pair."""
  is_export = (directory / "config.json").is_file() and not (directory / "student").is_dir()
  return directory if is_export else directory / "student"
