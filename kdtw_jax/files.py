"""Atomic writes of files and folders: a kill or a full disk leaves the old version in place.

`write_checksums` lists the CRC-32 of files beside them, and `damaged_file` finds one that a disk or
a copy has changed since: a flipped bit always, anything else but once in 2³². It is not a guard
against malice. A folder without such a list is taken as it is.
"""

from collections.abc import Iterable, Iterator
import contextlib
import json
import os
from pathlib import Path
import re
import shutil
from typing import Any
import zlib

CHECKSUMS = "checksums.json"
_BLOCK = 2**22


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
  except BaseException as error:
    unfinished.unlink(missing_ok=True)
    if isinstance(error, OSError) and not error.filename:  # a full disk names no file
      error.filename = str(path)
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


def write_checksums(folder: Path, files: Iterable[Path]) -> None:
  """Writes `checksums.json` into a folder: the CRC-32 of files in it, by their path from there.

  Args:
    folder: the folder.
    files: the files to list, in the folder.

  Raises:
    OSError: if a file cannot be read, or the list not written.
  """
  found = {file.relative_to(folder).as_posix(): _crc32(file) for file in sorted(files)}
  write_json(folder / CHECKSUMS, found)


def damaged_file(folder: Path) -> str | None:
  """Returns a file that is missing or is not what the folder's checksums say; None if all are.

  Raises:
    ValueError: if the list itself is damaged; names it.
  """
  path = folder / CHECKSUMS
  if not path.is_file():
    return None
  for name, expected in read_json_object(path, remedy="copy or make the folder again").items():
    if not (folder / name).is_file() or _crc32(folder / name) != expected:
      return name
  return None


def _crc32(path: Path) -> str:
  value = 0
  with path.open("rb") as file:
    while block := file.read(_BLOCK):
      value = zlib.crc32(block, value)
  return f"{value:08x}"


def not_written(what: str, error: BaseException, *, remedy: str) -> OSError:
  """Makes an error of one line for something that cannot be saved.

  Args:
    what: what was to be written, and where.
    error: what was raised.
    remedy: what is kept, and how to go on once there is space.

  Returns:
    The error, to be raised.
  """
  return OSError(
      f"{what} cannot be written ({system_reason(error)}): free space there, or allow writing. "
      f"{remedy}"
  )


def system_code(error: BaseException) -> int | None:
  """Returns the operating system's code of an error; None if something else went wrong."""
  if isinstance(error, OSError) and error.errno:
    return error.errno
  # tensorstore and safetensors write it into the message
  found = re.search(r"os[ _]error(?:_code=')? ?(\d+)", str(error))
  return int(found[1]) if found else None


def system_reason(error: BaseException) -> str:
  """Returns what the operating system said, where an error holds its code, or the first line."""
  code = system_code(error)
  return first_line(error) if code is None else os.strerror(code)


def with_tuples(value: Any) -> Any:
  """Returns a value of JSON with tuples for lists."""
  return tuple(map(with_tuples, value)) if isinstance(value, list) else value


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


def flush_or_drop(*streams: Any) -> None:
  """Writes what streams still hold, or drops it if its place takes no more.

  Python flushes them as it ends, and would end with another message and status.
  """
  for stream in streams:
    try:
      stream.flush()
    except OSError:
      os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
