"""Tables as Parquet files, `<split>.parquet`; pyarrow reads them.

A column of records is named with "." as in `translation.en`.
"""

from collections.abc import Sequence
from typing import Any

from kdtw_jax.data.columns import find_columns
from kdtw_jax.data.example import InMemorySource, keep_filled
from kdtw_jax.data.lines import check_regular
from kdtw_jax.data.split_files import expected_files, split_file
from kdtw_jax.files import first_line

_TEXT_TYPES = ("string", "large_string", "string_view")


def open_parquet(
    path: str,
    split: str,
    *,
    source_field: str,
    target_field: str,
    reference_fields: Sequence[str] = (),
    limit: int = 0,
) -> InMemorySource:
  """Opens one split of a folder of Parquet files, or a single file.

  Args:
    path: the folder that holds `<split>.parquet`, or the file of all examples.
    split: name of the split, e.g. "train".
    source_field: the column with the task input.
    target_field: the column with the target.
    reference_fields: columns with further references; a table may lack them.
    limit: largest number of examples to keep; 0 keeps all.

  Returns:
    The examples; rows with an empty or absent source or target are dropped with a log message.

  Raises:
    FileNotFoundError: if the file is missing.
    ValueError: if pyarrow is not installed, the file is damaged, or a column is missing or is not
      text.
  """
  file = split_file(path, split, "parquet")
  check_regular(file, expected_files(path, "parquet"))
  columns = dict(
      source_field=source_field, target_field=target_field, reference_fields=tuple(reference_fields)
  )
  rows = list(zip(*_texts(file, columns), strict=True))
  return InMemorySource(keep_filled(rows, limit=limit, where=f"split '{split}' ({file})"))


def _texts(file: str, columns: dict[str, Any]) -> list[list[str]]:
  """Reads the columns of an example, the source first."""
  try:
    import pyarrow  # here: it is an extra, and takes a moment
    import pyarrow.parquet
  except ImportError as error:
    raise ValueError(
        "config.data.source='parquet': needs pyarrow, which cannot be imported "
        f"({first_line(error)}): pip install 'kdtw_jax[parquet]', or save the table as CSV and set "
        "config.data.source='csv'"
    ) from error
  try:
    with pyarrow.parquet.ParquetFile(file) as table:
      names = table.schema_arrow.empty_table().flatten().column_names
      wanted = find_columns(names, where=file, **columns)
      read = table.read(columns=wanted).flatten()
  except (pyarrow.ArrowException, OSError) as error:
    raise ValueError(
        f"{file}: cannot be read as Parquet ({first_line(error)}): write or download it again"
    ) from error
  return [_column(read.column(name), f"{file}, column {name!r}") for name in wanted]


def _column(column: Any, where: str) -> list[str]:
  """Returns a column's texts, "" where there is none."""
  repeated = str(column.type).startswith("dictionary")  # each text is stored once
  if str(column.type.value_type if repeated else column.type) not in _TEXT_TYPES:
    raise ValueError(f"{where}: holds {column.type}, not text: convert it to strings")
  try:
    return [text or "" for text in column.to_pylist()]
  except UnicodeDecodeError as error:
    raise ValueError(
        f"{where}: not valid UTF-8 ({error.reason}): write it as UTF-8 text"
    ) from error
