"""Conversion of a user's budget, a number or words, to the instruction that the student reads.

    a share   0.2, or "use the teacher for at most 20% of the tokens"
    calls     3 with form="calls", or "use the teacher at most 3 times"

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

_NUMBERS = "zero one two three four five six seven eight nine ten".split()
_TIMES = {"never": 0, "once": 1, "twice": 2, "thrice": 3}
_CALLS = re.compile(
    rf"(?<![\w.,\-−–])(?:(\d+|no|{'|'.join(_NUMBERS)}) (?:calls?|times?|questions?)|"
    rf"({'|'.join(_TIMES)}))(?![\w-])",
    re.IGNORECASE,
)


class Stated(NamedTuple):
  """A budget that the pair can keep.

  Attributes:
    share: share of the tokens that the teacher may write, to a hundredth of a percent.
    instruction: the student's instruction, which ends with a colon and a space.
  """

  share: float
  instruction: str


def stated_calls(budget: object, form: str = "share") -> int | None:
  """Reads a budget of calls per output.

  Args:
    budget: with the form "calls", a whole number; with any form, words such as "at most 3 calls",
      "at most twice" or "no more than five times", read as an upper limit.
    form: the form of the budget, one of `decoding.FORMS`.

  Returns:
    The calls; None if the budget is a share, or anything else that `state_budget` reads or refuses.

  Raises:
    ValueError: if the budget and its form state different things.
  """
  calls = _calls_in(budget, by_number=form == "calls")
  if form == "calls" and calls is None:
    raise ValueError(
        f"budget={budget!r}: form='calls' takes a whole number of calls from 0, as budget=3 or 'at "
        "most 3 calls'; a share, as 0.2 or '20% of the tokens', goes with another form"
    )
  if calls is not None and form not in ("calls", "share"):
    raise ValueError(
        f"budget={budget!r}: states calls, and form={form!r} takes a share, as 0.2: leave out the "
        "form, or give a share"
    )
  return calls


def _calls_in(budget: object, *, by_number: bool) -> int | None:
  """Returns the calls that a whole number or words state; None if they state none or several."""
  if by_number and isinstance(budget, ArrayLike) and budget.ndim == 0:
    budget = budget.item()
  if by_number and isinstance(budget, numbers.Integral) and not isinstance(budget, bool):
    return int(budget) if int(budget) >= 0 else None
  if not isinstance(budget, str) or "%" in budget:
    return None
  found = _CALLS.findall(" ".join(budget.split()))
  if len(found) != 1:
    return None
  number, times = (word.lower() for word in found[0])
  if times:
    return _TIMES[times]
  if number.isdigit():
    return int(number)
  return 0 if number == "no" else _NUMBERS.index(number)


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
      "one, as 0.2 or 'use the teacher for at most 20% of the tokens'; or calls, as 'at most 3 "
      "calls' or budget=3, form='calls'; or, without a budget, "
      "policy=make_policy('teacher') (the teacher writes all) or make_policy('speculative', 4) "
      "(its quality from fewer calls)"
  )
