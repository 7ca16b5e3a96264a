"""The numbers of metrics.json: as strict JSON can hold them, and read back."""

from collections.abc import Mapping
import json
import math
from pathlib import Path
from typing import Any

import numpy as np


def plain(value: Any) -> Any:
  """Turns numpy values, tuples and paths into what json knows, and NaN and infinity into None.

  Args:
    value: any nesting of mappings, sequences, numpy arrays and scalars.
  """
  if isinstance(value, Mapping):
    return {str(key): plain(item) for key, item in value.items()}
  if isinstance(value, (list, tuple, set)):
    return [plain(item) for item in value]
  if isinstance(value, (np.ndarray, np.generic)):
    return plain(value.tolist())
  if isinstance(value, float):
    return value if math.isfinite(value) else None
  if value is None or isinstance(value, (str, int, bool)):
    return value
  return str(value)


def read_json(path: Path) -> dict[str, Any]:
  """Reads a JSON object.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is not JSON or not an object.
  """
  if not path.is_file():
    raise FileNotFoundError(f"{path}: no such file; run the evaluation stage of this workdir first")
  try:
    value = json.loads(path.read_text(encoding="utf-8"))
  except (json.JSONDecodeError, UnicodeDecodeError) as error:
    raise ValueError(f"{path}: not valid JSON ({error}); run the evaluation stage again") from error
  if not isinstance(value, dict):
    raise ValueError(f"{path}: holds a {type(value).__name__}, not an object of metrics")
  return value
