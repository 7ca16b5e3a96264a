"""Trade-off curves: quality against use of the teacher, one curve per method.

A method has a dial (a budget, a threshold, an offset). Each setting of it gives a `Point`; the
points of a method are a `Curve`. Here curves are interpolated and written as a table; area.py
integrates them. Nothing here decodes: an evaluator measures the points.

Shape letters: P points of one curve.
"""

from collections.abc import Callable, Mapping, Sequence
import csv
import dataclasses
import io
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kdtw_jax.files import write_atomically

_SCORES = "scores"


@dataclasses.dataclass(frozen=True)
class Point:
  """What one setting of a method's dial gave. Shares and counts are per output token, or None.

  Attributes:
    dial: the setting; None for a method without one.
    label: the setting in words, e.g. "20%".
    scores: quality by name, e.g. `{"bleu": 31.2, "chrf": 55.0, "length_ratio": 0.98}`.
    asked_share: asks.
    teacher_share: tokens that the teacher wrote, 0..1.
    teacher_calls: times the teacher was called.
    teacher_passes: sequential forward passes of the teacher.
    teacher_tokens: tokens that went through the teacher.
    student_steps: forward passes of the student.
    cost: sequential cost in teacher passes, student steps included.
    seconds_per_sentence: `mean`, `p50`, `p95` at batch 1.
    tokens_per_second: throughput of a batch.
  """

  dial: float | None
  label: str = ""
  scores: Mapping[str, float] = dataclasses.field(default_factory=dict)
  asked_share: float | None = None
  teacher_share: float | None = None
  teacher_calls: float | None = None
  teacher_passes: float | None = None
  teacher_tokens: float | None = None
  student_steps: float | None = None
  cost: float | None = None
  seconds_per_sentence: Mapping[str, float] | None = None
  tokens_per_second: float | None = None

  def to_json(self) -> dict[str, Any]:
    """Returns the point as the flat dict of metrics.json: the scores stand beside the counts."""
    record = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != _SCORES}
    if self.seconds_per_sentence is not None:
      record["seconds_per_sentence"] = dict(self.seconds_per_sentence)
    return dict(self.scores) | record

  @classmethod
  def from_json(cls, record: Mapping[str, Any]) -> "Point":
    """Reads the dict of `to_json`; every other key that holds a number is a score."""
    names = {f.name for f in dataclasses.fields(cls)} - {_SCORES}
    scores = {k: float(v) for k, v in record.items() if k not in names and is_number(v)}
    known = {k: float(v) if is_number(v) else v for k, v in record.items() if k in names}
    known |= {"dial": known.get("dial"), "label": known.get("label") or ""}
    seconds = known.get("seconds_per_sentence") or {}
    known["seconds_per_sentence"] = {k: v for k, v in seconds.items() if is_number(v)} or None
    return cls(scores=scores, **known)


@dataclasses.dataclass(frozen=True)
class Curve:
  """One method's points.

  Attributes:
    method: its name in code, e.g. "max_prob".
    points: in the order of the sweep.
    title: its name for readers.
    dial_name: what the dial is, e.g. "threshold".
  """

  method: str
  points: tuple[Point, ...]
  title: str = ""
  dial_name: str = "dial"

  def to_json(self) -> dict[str, Any]:
    """Returns the curve as the dict of metrics.json."""
    return {
        "method": self.method,
        "title": self.title or self.method,
        "dial_name": self.dial_name,
        "points": [point.to_json() for point in self.points],
    }

  @classmethod
  def from_json(cls, record: Mapping[str, Any]) -> "Curve":
    """Reads the dict of `to_json`."""
    return cls(
        method=record["method"],
        points=tuple(Point.from_json(point) for point in record.get("points") or ()),
        title=record.get("title") or record["method"],
        dial_name=record.get("dial_name") or "dial",
    )


class DialEstimate(NamedTuple):
  """The dial that should give a wished-for share.

  Attributes:
    dial: the setting; None for a method without one.
    share: the share that it is expected to give.
    clamped: True where the wish lies outside what the sweep reached.
  """

  dial: float
  share: float
  clamped: bool


class ScoreEstimate(NamedTuple):
  """The score that a curve has at a share; `clamped` as in `DialEstimate`."""

  score: float
  share: float
  clamped: bool


def dial_for_share(
    dials: Sequence[float] | np.ndarray, shares: Sequence[float] | np.ndarray, target: float
) -> DialEstimate:
  """Finds the dial whose teacher share is the target, by a monotone piecewise-linear fit.

  A sweep is noisy: the measured shares may go back and forth. They are replaced by their isotonic
  regression over the dial (in the direction in which they run), and the fit is inverted. Where a
  whole stretch of dials has the target share, its middle is taken.

  Args:
    dials: `[P]` settings, in any order.
    shares: `[P]` measured shares, 0..1.
    target: wished-for share.

  Returns:
    The dial, the fitted share at it, and whether the target had to be moved into the fitted range.

  Raises:
    ValueError: if the sweep is empty, of unequal lengths or not finite.
  """
  dials, shares = np.asarray(dials, float), np.asarray(shares, float)
  if dials.size == 0 or dials.shape != shares.shape:
    raise ValueError(f"{dials.size} dials and {shares.size} shares; give one share per dial")
  if not (np.isfinite(dials).all() and np.isfinite(shares).all() and math.isfinite(target)):
    raise ValueError("dials, shares and target must be finite")
  dials, shares = _merge_equal(dials, shares)
  rising = np.sum((dials - dials.mean()) * (shares - shares.mean())) >= 0
  if not rising:
    dials, shares = dials[::-1], shares[::-1]
  fit = isotonic_fit(shares)
  if not fit[0] <= target <= fit[-1]:
    end = 0 if target < fit[0] else -1
    return DialEstimate(float(dials[end]), float(fit[end]), clamped=True)
  equal = np.flatnonzero(np.isclose(fit, target, rtol=0, atol=1e-12))
  if equal.size:
    return DialEstimate(float(dials[equal[[0, -1]]].mean()), float(fit[equal[0]]), clamped=False)
  above = int(np.searchsorted(fit, target))
  part = (target - fit[above - 1]) / (fit[above] - fit[above - 1])
  dial = dials[above - 1] + part * (dials[above] - dials[above - 1])
  return DialEstimate(float(dial), float(target), clamped=False)


def bisect_dial(
    share_of: Callable[[float], float],
    target: float,
    *,
    low: float = -20.0,
    high: float = 20.0,
    tolerance: float = 0.004,
    max_steps: int = 14,
) -> float:
  """Finds the dial that gives a share, by measuring: for a dial that raises the share.

  Args:
    share_of: measures the share at a dial.
    target: wished-for share, 0..1.
    low: a dial that gives less.
    high: a dial that gives more.
    tolerance: how near is near enough.
    max_steps: most measurements.

  Returns:
    The measured dial nearest to the target.
  """
  found: dict[float, float] = {}
  for _ in range(max_steps):
    middle = (low + high) / 2
    found[middle] = share_of(middle)
    if abs(found[middle] - target) <= tolerance:
      break
    low, high = (middle, high) if found[middle] < target else (low, middle)
  return min(found, key=lambda dial: abs(found[dial] - target))


def isotonic_fit(values: np.ndarray) -> np.ndarray:
  """Returns the non-decreasing sequence nearest to the values in squares (pool adjacent violators).

  `[0, 3, 1, 4]` becomes `[0, 2, 2, 4]`.

  Args:
    values: `[P]` floats.
  """
  means: list[float] = []
  sizes: list[int] = []
  for value in values:
    means.append(float(value))
    sizes.append(1)
    while len(means) > 1 and means[-2] > means[-1]:
      size = sizes[-2] + sizes[-1]
      mean = (means[-2] * sizes[-2] + means[-1] * sizes[-1]) / size
      means[-2:], sizes[-2:] = [mean], [size]
  return np.repeat(means, sizes)


def score_at_share(curve: Curve, key: str, share: float) -> ScoreEstimate | None:
  """Interpolates a curve's score at a teacher share, linearly between its neighbours.

  Args:
    curve: the curve; points without the score or the share are passed over.
    key: the score, e.g. "bleu".
    share: teacher share, 0..1.

  Returns:
    The estimate, clamped to the curve's ends; None if the curve has no usable point.
  """
  shares, scores = line(curve, key)
  if shares.size == 0:
    return None
  at = float(np.clip(share, shares[0], shares[-1]))
  clamped = abs(at - share) > 1e-9
  return ScoreEstimate(float(np.interp(at, shares, scores)), at, clamped=clamped)


def write_tradeoff_csv(splits: Mapping[str, Sequence[Curve]], path: str | os.PathLike) -> Path:
  """Writes all points as a table, one row each, whole or not at all.

  Args:
    splits: curves by the name of the split that they were measured on.
    path: the file.

  Returns:
    The path.
  """
  rows = []
  for split, curves in splits.items():
    for curve in curves:
      head = {"split": split, "method": curve.method, "title": curve.title or curve.method}
      for point in curve.points:
        rows.append(head | {"dial_name": curve.dial_name} | _flat(point.to_json()))
  columns = ["split", "method", "title", "dial_name", "dial", "label", "teacher_share"]
  columns += sorted({key for row in rows for key in row} - set(columns))
  table = io.StringIO(newline="")
  writer = csv.DictWriter(table, columns, restval="", lineterminator="\n")
  writer.writeheader()
  writer.writerows({k: "" if v is None else v for k, v in row.items()} for row in rows)
  return write_atomically(path, table.getvalue())


def read_tradeoff_csv(path: str | os.PathLike) -> dict[str, list[Curve]]:
  """Reads the table of `write_tradeoff_csv`; the same curves come back, without empty ones.

  Raises:
    FileNotFoundError: if there is no such file.
  """
  if not Path(path).is_file():
    raise FileNotFoundError(f"{path}: no trade-off table; run the evaluation first")
  groups: dict[tuple[str, str, str, str], list[Point]] = {}
  with Path(path).open(newline="", encoding="utf-8") as file:
    for row in csv.DictReader(file):
      head = tuple(row.pop(name) for name in ("split", "method", "title", "dial_name"))
      groups.setdefault(head, []).append(Point.from_json(_nested(row)))
  splits: dict[str, list[Curve]] = {}
  for (split, method, title, dial_name), points in groups.items():
    splits.setdefault(split, []).append(Curve(method, tuple(points), title, dial_name))
  return splits


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
  flat = dict(record)
  latency = flat.pop("seconds_per_sentence", None) or {}
  return flat | {f"seconds_per_sentence.{key}": value for key, value in latency.items()}


def _nested(row: Mapping[str, str]) -> dict[str, Any]:
  record: dict[str, Any] = {}
  latency: dict[str, float] = {}
  for key, text in row.items():
    if key == "label":
      record[key] = text
    elif key.startswith("seconds_per_sentence.") and text:
      latency[key.partition(".")[2]] = float(text)
    elif text:
      record[key] = float(text)
  return record | ({"seconds_per_sentence": latency} if latency else {})


def line(curve: Curve, key: str) -> tuple[np.ndarray, np.ndarray]:
  """Returns the curve's shares, rising and distinct, and the mean score at each."""
  scored = [p for p in curve.points if is_number(p.scores.get(key))]
  usable = [p for p in scored if is_number(p.teacher_share)]
  return _merge_equal(
      np.array([p.teacher_share for p in usable], float),
      np.array([p.scores[key] for p in usable], float),
  )


def _merge_equal(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Sorts by x and averages the y of equal x."""
  distinct, inverse = np.unique(x, return_inverse=True)
  sums = np.bincount(inverse, weights=y, minlength=distinct.size)
  counts = np.bincount(inverse, minlength=distinct.size)
  return distinct, sums / np.maximum(counts, 1)


def is_number(value: Any) -> bool:
  """True for a finite number that is no bool."""
  number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
  return bool(number and math.isfinite(value))
