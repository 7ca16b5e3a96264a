"""What a command spends: budgets and policies as words of a command line, and what they cost."""

import contextlib
import dataclasses
import json
import logging
import time
from typing import TYPE_CHECKING, NamedTuple

PAIR_HELP = "workdir of a run, its pair/, an export with --teacher, or its hub id"
_ONE_LINE = str.maketrans("\r\n", "  ")

if TYPE_CHECKING:  # both load jax
  from kdtw_jax.decoding import Policy
  from kdtw_jax.reader import Written


class Setting(NamedTuple):
  """One way to decode, as `pair.write` takes it.

  Attributes:
    budget: a number or words; None for a policy that needs none.
    form: what the budget promises.
    policy: who decides; None for the student's gate.
  """

  budget: int | float | str | None
  form: str = "share"
  policy: "Policy | str | None" = None


def read_setting(text: str) -> Setting:
  """Reads `[POLICY[:DIAL]@]BUDGET[/FORM]` or `POLICY[:DIAL]`; a text with spaces is a budget.

  Raises:
    ValueError: if there is no such policy, or it has no such dial.
  """
  from kdtw_jax.orders import read_policy

  policy, at, budget = text.rpartition("@")
  number = budget.partition("/")[0].removesuffix("%")
  if not at and " " not in text and isinstance(read_budget(number), str):
    return Setting(None, policy=read_policy(text))
  budget, _, form = budget.partition("/")
  return Setting(read_budget(budget), form or "share", read_policy(policy or None))


def read_budget(text: str) -> int | float | str:
  """Reads a number if it is one; else the budget is in words."""
  for kind in (int, float):
    with contextlib.suppress(ValueError):
      return kind(text)
  return text


@dataclasses.dataclass
class Tally:
  """What has been written so far, and for how much."""

  texts: int = 0
  tokens: int = 0
  by_teacher: int = 0
  calls: int = 0
  started: float = dataclasses.field(default_factory=time.monotonic)

  def add(self, out: "Written") -> None:
    """Counts one output."""
    self.texts += 1
    self.tokens += len(out.tokens)
    self.by_teacher += sum(out.by_teacher)
    self.calls += out.calls

  def shares(self) -> dict[str, float]:
    """Returns the teacher's share of the tokens and its calls per token."""
    tokens = max(self.tokens, 1)
    return {"share": self.by_teacher / tokens, "calls": self.calls / tokens}

  def summary(self) -> str:
    """Returns one line for people."""
    seconds, shares = time.monotonic() - self.started, self.shares()
    return (
        f"{self.texts:,} texts, {self.tokens:,} tokens in {seconds:.1f} s "
        f"({self.tokens / seconds:,.0f} a second): {shares['share']:.1%} by the teacher, "
        f"{100 * shares['calls']:.1f} calls per 100 tokens"
    )

  def stopped(self, problem: str) -> ValueError:
    """Returns the error for the user, with where to go on."""
    if not self.texts:
      return ValueError(problem)
    return ValueError(
        f"{problem}. {self.texts:,} lines are written: go on with tail -n +{self.texts + 1}"
    )


def cost_line(line: int, out: "Written") -> str:
  """Returns one JSON line: the pieces of an output, who wrote them, the calls and the time."""
  record = {
      "line": line,
      "calls": out.calls,
      "share": round(out.share, 4),
      "seconds": round(out.seconds, 4),
      "tokens": out.tokens,
      "by_teacher": [int(by) for by in out.by_teacher],
  }
  return json.dumps(record, ensure_ascii=False) + "\n"


def line_of(out: "Written") -> str:
  """Returns an output as one line of a file."""
  return out.text.translate(_ONE_LINE) + "\n"


def quiet() -> None:
  """Silences what libraries log about their own work."""
  for chatty in ("absl", "jax"):
    logging.getLogger(chatty).setLevel(logging.ERROR)
