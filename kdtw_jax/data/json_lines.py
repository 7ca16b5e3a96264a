"""JSON lines `<split>.jsonl`: one object per line, two of its fields make an example."""

from collections.abc import Sequence
import json
import os
from typing import Any

from kdtw_jax.data.example import InMemorySource, keep_filled, read_lines


def open_json_lines(
    path: str,
    split: str,
    *,
    source_field: str,
    target_field: str,
    reference_fields: Sequence[str] = (),
    limit: int = 0,
) -> InMemorySource:
  """Opens one split of a folder of JSON lines files.

  Args:
    path: the folder that holds `<split>.jsonl`.
    split: name of the split, e.g. "train".
    source_field: the field with the task input.
    target_field: the field with the target.
    reference_fields: fields with further references; a line may lack them.
    limit: most examples to keep; 0 keeps all.

  Returns:
    The examples; lines with an empty source or target are dropped with a log message.

  Raises:
    FileNotFoundError: the file is missing.
    ValueError: a field is not set, a line is not JSON or lacks a field, or is not UTF-8.
  """
  for name, value in (("source_field", source_field), ("target_field", target_field)):
    if not value:
      raise ValueError(
          f"config.data.{name}={value!r}: config.data.source='jsonl' needs the name of the field"
      )
  file = os.path.join(path, f"{split}.jsonl")
  if not os.path.isfile(file):
    found = sorted(os.listdir(path))[:20] if os.path.isdir(path) else "no such folder"
    raise FileNotFoundError(
        f"{file}: no such file. config.data.source='jsonl' expects files named <split>.jsonl in "
        f"config.data.path={path!r}; found: {found}"
    )
  required = (source_field, target_field)
  rows = [
      _row(line, required, reference_fields, where=f"{file}, line {number}")
      for number, line in enumerate(read_lines(file), start=1)
      if line.strip()
  ]
  return InMemorySource(keep_filled(rows, limit=limit, where=f"split '{split}' ({file})"))


def _row(
    line: str, required: Sequence[str], optional: Sequence[str], *, where: str
) -> tuple[str, ...]:
  try:
    record = json.loads(line)
  except json.JSONDecodeError as error:
    raise ValueError(f"{where}: not a JSON object ({error}): write one object per line") from error
  if not isinstance(record, dict):
    raise ValueError(f"{where}: a JSON {type(record).__name__}: write one object per line")
  for field in required:
    if field not in record:
      raise ValueError(
          f"{where}: no field '{field}', only {', '.join(map(repr, record))}: name the fields by "
          "config.data.source_field and config.data.target_field"
      )
  further = [field for field in optional if record.get(field)]
  return tuple(_text(record[field], field, where) for field in (*required, *further))


def _text(value: Any, field: str, where: str) -> str:
  if not isinstance(value, str):
    raise ValueError(
        f"{where}: field '{field}' is a {type(value).__name__}, not text: make it a string"
    )
  return value
