"""What the config.json of every family has."""

from collections.abc import Mapping
from typing import Any

READOUT = "lm_head.weight"


def sizes(published: Mapping[str, Any], names: Mapping[str, str], where: str) -> dict[str, int]:
  """Reads numbers.

  Args:
    published: the content of config.json.
    names: its names by ours.
    where: the folder, for errors.

  Raises:
    ValueError: if one of them, or the size of the vocabulary, is no number.
  """
  for name in ("vocab_size", *names.values()):
    if not isinstance(published.get(name), int):
      raise ValueError(f"{where}/config.json: {name}={published.get(name)!r}: must be a number")
  return {ours: published[theirs] for ours, theirs in names.items()}
