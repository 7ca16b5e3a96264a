"""Atomic writes of files and folders: a kill or a full disk leaves the old version in place."""

from collections.abc import Iterator
import contextlib
import json
import os
from pathlib import Path
import shutil
from typing import Any


def write_atomically(path: str | os.PathLike, content: str | bytes) -> Path:
  """Writes a file under a temporary name, then renames it.

  Args:
    path: the file; its folder is created if missing.
    content: text (written as UTF-8) or bytes.

  Returns:
    The path.

  Raises:
    OSError: if it cannot be written; only the old file is left behind.
  """
  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  unfinished = path.with_name(path.name + ".unfinished")
  try:
    with unfinished.open("wb") as file:
      file.write(content.encode("utf-8") if isinstance(content, str) else content)
      file.flush()
      os.fsync(file.fileno())
    os.replace(unfinished, path)
  except BaseException:
    unfinished.unlink(missing_ok=True)
    raise
  return path


def write_json(path: str | os.PathLike, value: Any) -> Path:
  """Writes indented JSON atomically; raises TypeError for a value that is not JSON."""
  return write_atomically(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def replaced_folder(path: str | os.PathLike) -> Iterator[Path]:
  """Makes a folder under a temporary name, and renames it when the block ends without an error.

  Args:
    path: the folder; the old one is kept until the new one is complete.

  Yields:
    An empty folder to fill.

  Raises:
    OSError: if it cannot be written; the old folder stays.
  """
  path = Path(path)
  unfinished, old = (path.with_name(path.name + end) for end in (".unfinished", ".old"))
  if old.exists() and not path.exists():  # killed between the two renames below
    old.rename(path)
  for leftover in (unfinished, old):
    shutil.rmtree(leftover, ignore_errors=True)
  unfinished.mkdir(parents=True)
  try:
    yield unfinished
    for file in unfinished.rglob("*"):
      if file.is_file():
        with file.open("rb") as opened:
          os.fsync(opened.fileno())
    if path.exists():
      path.rename(old)
    unfinished.rename(path)
  except BaseException:
    shutil.rmtree(unfinished, ignore_errors=True)
    if old.exists() and not path.exists():
      old.rename(path)
    raise
  shutil.rmtree(old, ignore_errors=True)


def read_json_object(path: str | os.PathLike, *, remedy: str) -> dict[str, Any]:
  """Reads a JSON object.

  Args:
    path: the file.
    remedy: what to do if it cannot be read, e.g. "download the model again".

  Raises:
    FileNotFoundError: if there is no such file; names it and the remedy.
    ValueError: if it holds no JSON object; names it, the reason and the remedy.
  """
  path = Path(path)
  if not path.is_file():
    raise FileNotFoundError(f"{path}: no such file: {remedy}")
  try:
    value = json.loads(path.read_text(encoding="utf-8"))
  except (ValueError, RecursionError) as error:  # bad UTF-8, bad JSON, or JSON nested too deeply
    raise ValueError(f"{path}: damaged, not JSON ({first_line(error)}): {remedy}") from error
  if not isinstance(value, dict):
    raise ValueError(f"{path}: damaged, a JSON {type(value).__name__}, not an object: {remedy}")
  return value


def first_line(error: BaseException) -> str:
  """Returns the first line of an error's message, cut at 200 characters, or the error's type."""
  return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
