"""Conversion of a user's budget, a share or words, to the instruction that the student reads.

A budget that cannot be kept is refused: the student knows only the shares that it was trained for,
and after any other instruction it would still ask for some share. Not here: the training wordings
(`prompts.py`).
"""

import numbers
import re
from typing import NamedTuple

from kdtw_jax.base import ArrayLike
from kdtw_jax.data.prompts import SLOT, TRAIN_WORDINGS, Wording, render

# A number with at most two decimals, as `render` writes it, that is not part of a word or a range.
_PERCENT = re.compile(r"(?<![\w.,\-−–])([-−]?\d+(?:[.,]\d{1,2})?) ?%")


class Stated(NamedTuple):
  """A budget that the pair can keep.

  Attributes:
    share: share of the tokens that the teacher may write, to a hundredth of a percent.
    instruction: the student's instruction, which ends with a colon and a space.
  """

  share: float
  instruction: str


def state_budget(budget: object, *, largest: float, task: str = "") -> Stated:
  """Reads a budget and states it for the student.

  Args:
    budget: a share, 0 to `largest`, or an instruction in any wording with one percentage in it,
      which is read as an upper limit.
    largest: the largest share that the student was trained for.
    task: what to do with the input; the instruction begins with it.

  Returns:
    The share and the instruction; a number is stated in the first training wording.

  Raises:
    ValueError: if it states no share, several, or one that the student was not trained for.
  """
  share, wording = _read(budget, largest)
  share = round(share, 4)  # 0.1 * 3 is 0.3
  if not 0.0 <= share <= largest:
    raise _refused(budget, f"states {100 * share:g}%", largest)
  joined = wording.joined.removeprefix(f"{task},").strip()
  return Stated(share, render(share, wording._replace(joined=joined), task))


def _read(budget: object, largest: float) -> tuple[float, Wording]:
  """Returns the share, in or out of range, and its wording."""
  if isinstance(budget, ArrayLike) and budget.ndim == 0:
    budget = budget.item()
  if isinstance(budget, numbers.Real) and not isinstance(budget, bool):
    return float(budget), TRAIN_WORDINGS[0]
  if not isinstance(budget, str):
    raise _refused(budget, "neither a number nor words", largest)
  words = " ".join(budget.split()).rstrip(": ")
  found = _PERCENT.findall(words)
  if len(found) != 1 or words.count("%") != 1:
    several = "several shares" if words.count("%") > 1 else "no share, a number with %"
    raise _refused(budget, f"states {several}", largest)
  share = float(found[0].replace("−", "-").replace(",", ".")) / 100
  template = _PERCENT.sub(SLOT, words)
  return share, TRAIN_WORDINGS[0] if template == SLOT else Wording(template, template)


def _refused(budget: object, reason: str, largest: float) -> ValueError:
  return ValueError(
      f"budget={budget!r}: {reason}; this pair was trained for shares from 0 to {largest:g}: give "
      "one, as 0.2 or 'use the teacher for at most 20% of the tokens'; or, without a budget, "
      "policy=make_policy('teacher') (the teacher writes all) or make_policy('speculative', 4) "
      "(its quality from fewer calls)"
  )
