"""Configs as JSON, and the differences between two of them."""

import json
from typing import Any

import ml_collections


def to_json(config: ml_collections.ConfigDict) -> dict:
  """Converts a config to plain JSON values (tuples become lists)."""
  return json.loads(config.to_json_best_effort())


def differences(a: Any, b: Any, path: str = "config") -> list[str]:
  """Lists `path: value in a != value in b` for every leaf that differs between two JSON configs."""
  if isinstance(a, dict) and isinstance(b, dict):
    names = sorted(set(a) | set(b))
    return [
        line for name in names for line in differences(a.get(name), b.get(name), f"{path}.{name}")
    ]
  return [] if a == b else [f"{path}: {a!r} != {b!r}"]
