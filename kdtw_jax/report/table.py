"""The file tradeoff.csv: every measured point as one row, for spreadsheets and data frames."""

from collections.abc import Iterator, Mapping, Sequence
import csv
import dataclasses
import io
import os
from pathlib import Path
from typing import Any

from kdtw_jax.evaluation.record import Curve, Point
from kdtw_jax.files import write_atomically

_FIRST = ("split", "method", "title", "dial_name", "dial", "label", "teacher_share")
_NESTED = ("scores", "interval", "seconds_per_sentence")


def write_tradeoff_csv(curves: Mapping[str, Sequence[Curve]], path: str | os.PathLike) -> Path:
  """Writes all points as a table, one row each, whole or not at all.

  Args:
    curves: curves by the split that they were measured on.
    path: path of the file.

  Returns:
    The path.
  """
  rows = list(_rows(curves))
  columns = [*_FIRST, *sorted({key for row in rows for key in row} - set(_FIRST))]
  table = io.StringIO(newline="")
  writer = csv.DictWriter(table, columns, restval="", lineterminator="\n")
  writer.writeheader()
  writer.writerows(rows)
  return write_atomically(path, table.getvalue())


def _rows(curves: Mapping[str, Sequence[Curve]]) -> Iterator[dict[str, Any]]:
  for split, of_split in curves.items():
    for curve in of_split:
      head = {"split": split, "method": curve.method, "title": curve.title}
      for point in curve.points:
        yield head | {"dial_name": curve.dial_name} | _flat(point)


def _flat(point: Point) -> dict[str, Any]:
  """Flattens a point's numbers; intervals and seconds become `interval.low`, `….mean` etc."""
  row = {
      field.name: getattr(point, field.name)
      for field in dataclasses.fields(point)
      if field.name not in _NESTED
  }
  seconds = point.seconds_per_sentence
  timed = dataclasses.asdict(seconds) if seconds else {}
  if point.interval is not None:
    row |= {"interval.low": point.interval[0], "interval.high": point.interval[1]}
  return row | dict(point.scores) | {f"seconds_per_sentence.{k}": v for k, v in timed.items()}
