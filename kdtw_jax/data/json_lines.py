"""JSON lines `<split>.jsonl`: one object per line, of which two fields make an example."""

import collections
from collections.abc import Sequence
import json
from typing import Any

from kdtw_jax.data.example import InMemorySource, keep_filled
from kdtw_jax.data.lines import read_lines
from kdtw_jax.data.split_files import expected_files, split_file


def open_json_lines(
    path: str,
    split: str,
    *,
    source_field: str,
    target_field: str,
    reference_fields: Sequence[str] = (),
    limit: int = 0,
) -> InMemorySource:
  """Opens one split of a folder of JSON lines files, or a single file.

  Args:
    path: the folder that holds `<split>.jsonl`, or the file of all examples.
    split: name of the split, e.g. "train".
    source_field: the field with the task input.
    target_field: the field with the target.
    reference_fields: fields with further references; a line may lack them.
    limit: largest number of examples to keep; 0 keeps all.

  Returns:
    The examples; lines with an empty source or target are dropped with a log message.

  Raises:
    FileNotFoundError: if the file is missing.
    ValueError: if a field is not set, the file cannot be read as text, or a line is not a JSON
      object, lacks a field or has one twice.
  """
  for name, value in (("source_field", source_field), ("target_field", target_field)):
    if not value:
      raise ValueError(
          f"config.data.{name}={value!r}: config.data.source='jsonl' needs the name of the field"
      )
  file = split_file(path, split, "jsonl")
  required = (source_field, target_field)
  rows = [
      _row(line, required, reference_fields, where=f"{file}, line {number}")
      for number, line in enumerate(
          read_lines(file, expected=expected_files(path, "jsonl")), start=1
      )
      if line.strip()
  ]
  return InMemorySource(keep_filled(rows, limit=limit, where=f"split '{split}' ({file})"))


def _row(
    line: str, required: Sequence[str], optional: Sequence[str], *, where: str
) -> tuple[str, ...]:
  try:
    record = json.loads(line, object_pairs_hook=_without_repetition)
  except RecursionError as error:
    raise ValueError(f"{where}: nested too deeply: write one flat object per line") from error
  except ValueError as error:  # bad JSON, or an int with thousands of digits
    raise ValueError(f"{where}: not a JSON object ({error}): write one object per line") from error
  if not isinstance(record, dict):
    raise ValueError(f"{where}: a JSON {type(record).__name__}: write one object per line")
  for field in required:
    if field not in record:
      known = ", ".join(map(ascii, [*record][:20])) or "nothing"
      raise ValueError(
          f"{where}: no field '{field}', only {known}: name the fields by config.data.source_field "
          "and config.data.target_field"
      )
  further = [field for field in optional if record.get(field)]
  return tuple(_text(record[field], field, where) for field in (*required, *further))


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  """Makes an object of the fields; raises ValueError if one occurs twice."""
  found = dict(pairs)
  if len(found) < len(pairs):
    twice, _ = collections.Counter(name for name, _ in pairs).most_common(1)[0]
    raise ValueError(f"field {twice!a} occurs twice")
  return found


def _text(value: Any, field: str, where: str) -> str:
  if not isinstance(value, str):
    raise ValueError(
        f"{where}: field '{field}' is a {type(value).__name__}, not text: make it a string"
    )
  try:
    value.encode("utf-8")
  except UnicodeEncodeError as error:
    raise ValueError(
        f"{where}: field '{field}' holds {value[error.start]!a}, half of a surrogate pair: write "
        "the whole character"
    ) from error
  return value
