"""The columns of a table that make an example."""

from collections.abc import Sequence
import logging

_logger = logging.getLogger(__name__)
_MOST_NAMES, _MOST_SHOWN = 20, 40  # names of columns in an error, characters of each


def find_columns(
    found: Sequence[str],
    *,
    source_field: str,
    target_field: str,
    reference_fields: Sequence[str] = (),
    where: str,
    remedy: str = "",
) -> list[str]:
  """Finds the columns of an example.

  Args:
    found: names of the table's columns.
    source_field: the column with the task input.
    target_field: the column with the target.
    reference_fields: columns with further references; a table may lack them.
    where: name of the file, for messages.
    remedy: what else may be wrong with the file if a column is missing.

  Returns:
    The source, the target, and those of `reference_fields` that the table has.

  Raises:
    ValueError: if the source or the target is missing, or a column occurs twice.
  """
  for name, field in (("source_field", source_field), ("target_field", target_field)):
    if field not in found:
      raise ValueError(
          f"{where}: no column {field!r}, only {_listed(found)}: set config.data.{name} to the name"
          f" of the column{remedy}"
      )
  absent = [field for field in reference_fields if field not in found]
  if absent:
    _logger.warning("%s: no column %s of config.data.reference_fields", where, _listed(absent))
  columns = [source_field, target_field, *(f for f in reference_fields if f not in absent)]
  for column in columns:
    if found.count(column) > 1:
      raise ValueError(f"{where}: column {column!r} occurs twice: give each column its own name")
  return columns


def _listed(names: Sequence[str]) -> str:
  shown = [n if len(n) <= _MOST_SHOWN else f"{n[:_MOST_SHOWN]}..." for n in names[:_MOST_NAMES]]
  further = len(names) - len(shown)
  return ", ".join(map(repr, shown)) + (f" and {further} more" if further else "")
