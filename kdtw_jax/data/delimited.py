"""Tables as text: `<split>.csv` with commas, `<split>.tsv` with tabs; the first row names columns.

A field may be in quotation marks, as spreadsheets and pandas write it: it may then hold separators
and line ends, and "" is a quotation mark.
"""

from collections.abc import Iterable, Iterator, Sequence
import contextlib
import csv

from kdtw_jax.data.columns import find_columns
from kdtw_jax.data.example import InMemorySource, keep_filled
from kdtw_jax.data.lines import MOST_BYTES, read_lines
from kdtw_jax.data.split_files import expected_files, split_file

_SEPARATORS = {"csv": (",", "commas"), "tsv": ("\t", "tabs")}


def open_delimited(
    path: str,
    split: str,
    *,
    kind: str,
    source_field: str,
    target_field: str,
    reference_fields: Sequence[str] = (),
    limit: int = 0,
) -> InMemorySource:
  """Opens one split of a folder of tables, or a single table.

  Args:
    path: the folder that holds `<split>.<kind>`, or the file of all examples.
    split: name of the split, e.g. "train".
    kind: "csv" or "tsv".
    source_field: the column with the task input.
    target_field: the column with the target.
    reference_fields: columns with further references; a table may lack them.
    limit: largest number of examples to keep; 0 keeps all.

  Returns:
    The examples; rows with an empty source or target are dropped with a log message.

  Raises:
    FileNotFoundError: if the file is missing.
    ValueError: if the file cannot be read as text, is empty, or lacks a column, or a row is not
      well quoted or has another number of columns than the first one.
  """
  file = split_file(path, split, kind)
  lines = read_lines(file, expected=expected_files(path, kind))
  fields = (source_field, target_field, reference_fields)
  with _long_fields():
    rows = _examples(_rows(lines, kind, file), *fields, separator=_SEPARATORS[kind][1], file=file)
  return InMemorySource(keep_filled(rows, limit=limit, where=f"split '{split}' ({file})"))


def _examples(
    table: Iterator[tuple[int, list[str]]],
    source_field: str,
    target_field: str,
    reference_fields: Sequence[str],
    *,
    separator: str,
    file: str,
) -> list[tuple[str, ...]]:
  """Picks the columns of an example from numbered rows, the first of which names them."""
  _, header = next(table, (1, None))
  if header is None:
    raise ValueError(
        f"{file}: is empty: write the names of the columns into its first row, and an example into "
        "each further row"
    )
  columns = find_columns(
      header,
      source_field=source_field,
      target_field=target_field,
      reference_fields=reference_fields,
      where=file,
      remedy=f", or give the file a first row that names the columns, with {separator} between",
  )
  wanted = [header.index(column) for column in columns]
  rows = []
  for line, row in table:
    if len(row) != len(header):
      raise ValueError(
          f"{file}, line {line}: {_counted(row)}, but the first row has {len(header)}: put a field "
          f"that holds {separator} into quotation marks, and write empty fields too"
      )
    rows.append(tuple(row[i] for i in wanted))
  return rows


@contextlib.contextmanager
def _long_fields() -> Iterator[None]:
  """Lets a field be as long as a line may be; the limit of the csv module is one for all."""
  usual = csv.field_size_limit(MOST_BYTES)
  try:
    yield
  finally:
    csv.field_size_limit(usual)


def _counted(row: Sequence[str]) -> str:
  return "1 column" if len(row) == 1 else f"{len(row)} columns"


def _rows(lines: Iterable[str], kind: str, file: str) -> Iterator[tuple[int, list[str]]]:
  """Yields each row that is not blank, with the number of its first line."""
  reader = csv.reader((f"{line}\n" for line in lines), delimiter=_SEPARATORS[kind][0], strict=True)
  line = 1
  try:
    for row in reader:
      if len(row) > 1 or "".join(row).strip():
        yield line, row
      line = reader.line_num + 1
  except csv.Error as error:
    raise ValueError(
        f"{file}, line {line}: not a row of a table ({error}): put a field that holds quotation "
        'marks or line ends into quotation marks, and write "" for each one inside'
    ) from error
