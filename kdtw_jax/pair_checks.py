"""Checks that the parts of a pair belong together; every error names the file.

Not here: checks of a single model's folder (published/).
"""

from collections.abc import Callable
import itertools
import json
import math
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import jax
import numpy as np

from kdtw_jax.base import Params
from kdtw_jax.data import AnyTokenizer
from kdtw_jax.models import Model, Models

_REMEDY = "copy the whole pair again, or delete it and repeat its run, which saves it again"


def _is_whole(value: object) -> bool:
  return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _are_shares(value: object) -> bool:
  return isinstance(value, list) and all(isinstance(x, int | float) and 0 <= x <= 1 for x in value)


def _are_buckets(value: object) -> bool:
  return isinstance(value, list) and all(
      isinstance(b, list) and len(b) == 2 and all(map(_is_whole, b)) for b in value
  )


def _is_number(value: object) -> TypeGuard[float]:
  return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_text(value: object) -> bool:
  return isinstance(value, str)


# The config fields that a loaded pair reads.
_FIELDS: dict[str, Callable[[object], bool]] = {
    "student.pretrained": _is_text,
    "teacher.pretrained": _is_text,
    "teacher.int8": lambda value: isinstance(value, bool),
    "data.task": _is_text,
    "data.prompt_length": _is_whole,
    "data.buckets": lambda value: _are_buckets(value) and bool(value),
    "budgets.knots": lambda value: _are_shares(value) and bool(value),
    "budgets.train": lambda value: _are_shares(value) and bool(value),
    "budgets.seen": _are_shares,
    "budgets.held_out": _are_shares,
    "evaluation.compare_at": _are_shares,
    "decode.max_length": lambda value: _is_whole(value) and value != 0,
    "decode.chunk": _is_whole,
    "decode.wait": lambda value: _are_shares([value]),
    "decode.pass_rows": _is_whole,
}


class Saved(NamedTuple):
  """What pair.json holds.

  Attributes:
    config: the run's config.
    teacher: the name of the published teacher if it was not trained, else None.
    shortest: (a, b): an output has at least a + b · (source tokens) tokens.
    prices: calls per token and prices, see `Pair`; None if there are none.
    paces: κ by form of budget, see `Pair`.
  """

  config: dict[str, Any]
  teacher: str | None
  shortest: tuple[float, float]
  prices: tuple[tuple[float, ...], tuple[float, ...]] | None
  paces: dict[str, float]


def read_saved(path: Path) -> Saved:
  """Reads pair.json.

  Args:
    path: the file.

  Returns:
    What it holds.

  Raises:
    ValueError: if the file is damaged, or its config lacks a field that a pair needs.
  """
  try:
    saved = json.loads(path.read_text(encoding="utf-8"))
  except (ValueError, RecursionError) as error:
    raise ValueError(f"{path}: damaged ({error}): {_REMEDY}") from error
  config = saved.get("config") if isinstance(saved, dict) else None
  if not isinstance(config, dict) or not isinstance(saved.get("teacher", 0), str | None):
    raise ValueError(f"{path}: damaged (needs a 'config' and a 'teacher'): {_REMEDY}")
  shortest = saved.get("shortest")
  if not isinstance(shortest, list) or len(shortest) != 2 or not all(map(_is_number, shortest)):
    raise ValueError(
        f"{path}: shortest={shortest!r:.60} is not valid, must be two numbers: {_REMEDY}"
    )
  prices = saved.get("prices")
  if prices is not None and not _are_prices(prices):
    raise ValueError(
        f"{path}: prices={prices!r:.60} is not valid, must be two lists of as many numbers, the "
        f"first ascending: {_REMEDY}"
    )
  paces = saved.get("paces")
  if not isinstance(paces, dict) or not all(_is_number(v) and v >= 0 for v in paces.values()):
    raise ValueError(
        f"{path}: paces={paces!r:.60} is not valid, must be numbers >= 0 by form of budget: "
        f"{_REMEDY}"
    )
  for field, holds in _FIELDS.items():
    section, name = field.split(".")
    try:
      value = config[section][name]
    except (KeyError, TypeError) as error:
      raise ValueError(f"{path}: config.{field} is missing: {_REMEDY}") from error
    if not holds(value):
      raise ValueError(f"{path}: config.{field}={value!r:.60} is not valid: {_REMEDY}")
  known = None if prices is None else (tuple(prices[0]), tuple(prices[1]))
  return Saved(config, saved["teacher"], (shortest[0], shortest[1]), known, paces)


def _are_prices(value: Any) -> bool:
  """Returns True for two lists of as many numbers, at least one, of which the first ascends."""
  if not isinstance(value, list) or len(value) != 2 or not all(isinstance(v, list) for v in value):
    return False
  calls, prices = value
  numbers = len(calls) == len(prices) > 0 and all(map(_is_number, (*calls, *prices)))
  return numbers and all(a <= b for a, b in itertools.pairwise(calls))


def part(folder: Path) -> Path:
  """Returns one model's folder; raises FileNotFoundError if it is missing."""
  if not folder.is_dir():
    raise FileNotFoundError(f"{folder}: missing, though pair.json lies beside it: {_REMEDY}")
  return folder


def check_vocabulary(tokenizer: AnyTokenizer, models: Models, folder: Path) -> None:
  """Checks that the tokenizer and the models use the same ids.

  Args:
    tokenizer: the pair's tokenizer.
    models: the pair's models.
    folder: the pair's folder, for errors.

  Raises:
    ValueError: if they differ; says which two, and in what.
  """
  for who, model in models._asdict().items():
    for field, of_text in tokenizer.model_fields.items():
      of_model = getattr(model.config, field)
      if of_text != of_model:
        raise ValueError(
            f"{folder / who}: {field}={of_model}, but {of_text} by the tokenizer in "
            f"{folder / 'student'}: they are from different pairs; {_REMEDY}"
        )


def checked_duals(
    duals: np.ndarray | None, student: Model, config: dict[str, Any], folder: Path
) -> tuple[float, ...]:
  """Checks that the duals and the knots of the student's price match the run's budgets.

  Args:
    duals: `[K]` saved λ at the knots, nats per ask; None if they are missing.
    student: the student.
    config: the run's config.
    folder: the student's folder, for errors.

  Returns:
    The duals.

  Raises:
    ValueError: if they do not match; names the file, what it holds and what it should hold.
  """
  knots = tuple(config["budgets"]["knots"])
  if student.config.price_knots != knots:
    raise ValueError(
        f"{folder / 'kdtw.json'}: price_knots={student.config.price_knots}, but "
        f"config.budgets.knots={knots} in pair.json: they are from different pairs; {_REMEDY}"
    )
  where = f"{folder / 'kdtw.safetensors'}: duals"
  if duals is None or duals.shape != (len(knots),):
    found = "are missing" if duals is None else f"of shape {duals.shape}"
    raise ValueError(f"{where} {found}, but there are {len(knots)} budgets.knots: {_REMEDY}")
  if not np.isfinite(duals.astype(np.float32)).all():
    raise ValueError(
        f"{where} {duals.tolist()} are not finite: train the stage wheels again with lower "
        "config.wheels.dual_learning_rate and config.calibration.dual_learning_rate"
    )
  return tuple(duals.tolist())


def check_finite(params: Params, where: str) -> None:
  """Checks that all parameters are finite.

  Raises:
    ValueError: if one is not; names `where` and the first such parameter.
  """
  for path, array in jax.tree_util.tree_flatten_with_path(params)[0]:
    if not np.isfinite(np.asarray(array)).all():
      raise ValueError(
          f"{where}: {jax.tree_util.keystr(path, simple=True, separator='/')} is not finite: "
          f"its training diverged or the file is damaged; {_REMEDY}, or train it again"
      )
