"""Files that are whole or absent: a kill or a full disk leaves the old file as it was."""

import json
import os
from pathlib import Path
from typing import Any


def write_atomically(path: str | os.PathLike, content: str | bytes) -> Path:
  """Writes a file under another name first, then puts it in its place.

  Args:
    path: the file; its folder is made if missing.
    content: text (written as UTF-8) or bytes.

  Returns:
    The path.

  Raises:
    OSError: it cannot be written; nothing is left behind but the old file.
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
  """Writes indented JSON atomically; raises TypeError for what JSON cannot hold."""
  return write_atomically(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")
