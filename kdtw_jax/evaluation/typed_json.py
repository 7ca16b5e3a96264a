"""Dataclasses as JSON, read back strictly: every field must be there with its type, and no others.

Dataclasses may nest; tuples are JSON lists, mappings are objects, and numbers are finite. Nothing
here knows what a record means, opens files or imports jax.
"""

from collections.abc import Mapping
import dataclasses
import functools
import math
import sys
import types
import typing
from typing import Any, TypeVar

import numpy as np

_Record = TypeVar("_Record")


def to_json(value: Any) -> Any:
  """Converts dataclasses, mappings, tuples and numpy scalars to JSON values.

  NaN and infinity become "nan" and "inf", which `from_json` rejects where it expects a number.

  Args:
    value: any nesting of these.
  """
  if dataclasses.is_dataclass(value):
    return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
  if isinstance(value, Mapping):
    return {str(key): to_json(item) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [to_json(item) for item in value]
  if isinstance(value, np.generic):
    value = value.item()
  return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def from_json(record: type[_Record], value: Any, where: str = "") -> _Record:
  """Reads a dataclass from the output of `to_json`.

  Args:
    record: the dataclass.
    value: a JSON value.
    where: the field that holds it, for the error.

  Raises:
    ValueError: if a field is missing, unknown or of the wrong type; names the field.
  """
  return _read(record, value, where)


@functools.cache
def _fields(record: type) -> dict[str, Any]:
  hints = typing.get_type_hints(record)
  return {field.name: hints[field.name] for field in dataclasses.fields(record)}


def _read(kind: Any, value: Any, where: str) -> Any:
  origin, parts = typing.get_origin(kind), typing.get_args(kind)
  if kind is Any:
    return value
  if origin is types.UnionType:  # `X | None`
    return None if value is None else _read(parts[0], value, where)
  if origin is typing.Literal:
    _check(value in parts, value, where, " or ".join(map(repr, parts)))
    return value
  if origin is tuple:
    return _read_tuple(parts, value, where)
  if origin is Mapping:
    _check(isinstance(value, dict), value, where, "an object")
    return {key: _read(parts[1], item, f"{where}.{key}") for key, item in value.items()}
  if dataclasses.is_dataclass(kind):
    return _read_record(kind, value, where)
  if kind is float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    _check(number and abs(value) <= sys.float_info.max, value, where, "a finite number")
    return float(value)
  _check(
      type(value) is kind, value, where, {int: "a whole number", str: "text"}.get(kind, "a bool")
  )
  return value


def _read_tuple(parts: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
  """Reads `tuple[X, ...]` of any length, or `tuple[X, Y]` of exactly its types."""
  _check(isinstance(value, list), value, where, "a list")
  kinds = parts[:1] * len(value) if parts[-1] is Ellipsis else parts
  _check(len(value) == len(kinds), value, where, f"a list of {len(kinds)}")
  return tuple(
      _read(kind, item, f"{where}[{i}]")
      for i, (kind, item) in enumerate(zip(kinds, value, strict=True))
  )


def _read_record(kind: Any, value: Any, where: str) -> Any:
  _check(isinstance(value, dict), value, where or "the whole", "an object")
  fields, prefix = _fields(kind), f"{where}." if where else ""
  missing = [name for name in fields if name not in value]
  unknown = [name for name in value if name not in fields]
  if missing or unknown:
    fault = "is missing" if missing else "is unknown"
    raise ValueError(f"{prefix}{(missing or unknown)[0]} {fault}")
  return kind(**{name: _read(part, value[name], prefix + name) for name, part in fields.items()})


def _check(holds: bool, value: Any, where: str, wanted: str) -> None:
  if not holds:
    raise ValueError(f"{where} is {str(value)[:40]!r}, not {wanted}")
