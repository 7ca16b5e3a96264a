"""Text as lines: the one place that opens and checks files of examples, and texts from a pipe."""

from collections.abc import Iterator
import os
import stat
from typing import BinaryIO

MOST_BYTES = 1 << 20  # longest line, as in the training of a tokenizer
_UTF8 = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def read_lines(path: str, *, expected: str) -> list[str]:
  r"""Reads the lines of a UTF-8 text file; only `\n` and `\r\n` end a line.

  Args:
    path: the file.
    expected: which files should exist and which fields name them, for errors.

  Returns:
    The lines without line ends; a final newline does not start another line.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is not a regular file or cannot be read, or a line is not UTF-8 or too long;
      the message names the file and the line number.
  """
  check_regular(path, expected)
  try:
    with open(path, "rb") as file:
      return list(lines_of(file, path))
  except OSError as error:
    raise ValueError(
        f"{path}: cannot be read ({error.strerror}): give it read permission, or other data"
    ) from error


def lines_of(file: BinaryIO, name: str) -> Iterator[str]:
  """Reads the lines of an open file or pipe one by one; see `read_lines` for what ends a line.

  Args:
    file: bytes of UTF-8 text.
    name: what the file is called in errors.

  Yields:
    The lines without line ends.

  Raises:
    ValueError: if a line is not UTF-8 or too long; all lines before it have been yielded.
  """
  number = 0
  while raw := file.readline(MOST_BYTES + 3):  # room for a line end after the longest line
    number += 1
    if number == 1:
      if raw.startswith(_UTF16):
        raise ValueError(f"{name}: is UTF-16: convert the file, e.g. with iconv -f utf-16 -t utf-8")
      raw = raw.removeprefix(_UTF8)
    yield _decoded(raw.removesuffix(b"\n").removesuffix(b"\r"), f"{name}, line {number}")


def listing(folder: str, ending: str) -> str:
  """Lists a folder's files with an ending, or says why it cannot, for errors."""
  try:
    names = sorted(name for name in os.listdir(folder) if name.endswith(ending))
  except NotADirectoryError:
    return "a file, not a folder"
  except FileNotFoundError:
    return "no such folder"
  except OSError as error:
    return f"a folder that cannot be read ({error.strerror})"
  return ", ".join(names[:20]) or f"no {ending} files"


def check_regular(path: str, expected: str) -> None:
  """Refuses all but regular files: opening a pipe may block for ever, a device may never end.

  Args:
    path: the file.
    expected: which files should exist and which fields name them, for errors.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is a folder, a pipe or a device.
  """
  try:
    mode = os.stat(path).st_mode
  except OSError as error:
    reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
    raise FileNotFoundError(f"{path}: {reason}. {expected}") from error
  if not stat.S_ISREG(mode):
    kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or device"
    raise ValueError(f"{path}: is {kind}, not a file. {expected}")


def _decoded(raw: bytes, where: str) -> str:
  """Decodes one line; raises ValueError if it is too long or not UTF-8 text."""
  if len(raw) > MOST_BYTES:
    raise ValueError(f"{where}: has more than {MOST_BYTES:,} bytes: put one example on a line")
  if b"\0" in raw:
    raise ValueError(
        f"{where}: holds NUL bytes: if the file is UTF-16, convert it with iconv -f utf-16le "
        "-t utf-8; else remove them"
    )
  try:
    return raw.decode("utf-8")
  except UnicodeDecodeError as error:
    raise ValueError(
        f"{where}: not valid UTF-8 ({error.reason} at byte {error.start} of the line): convert the "
        "file, e.g. with iconv -f latin1 -t utf-8"
    ) from error
