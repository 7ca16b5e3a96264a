"""Budgets in words: the instruction before the student's input.

    alone        use the teacher for at most 20% of the tokens: Two men stand at the stove.
    with a task  summarize, using the teacher for at most 20% of the tokens: Dear all, ...

The teacher reads only the task, "summarize: Dear all, ...", never the budget. The student learns
from the training wordings. The held-out wordings say the same with the same words in other places,
to test whether the student understands the wording.
"""

from collections.abc import Sequence
from typing import NamedTuple

SLOT = "{percent}"


class Wording(NamedTuple):
  """One way to state a budget, with `{percent}` once in each form.

  Attributes:
    alone: the whole instruction, if there is no task.
    joined: the clause that follows a task and a comma.
  """

  alone: str
  joined: str

  def template(self, task: str = "") -> str:
    """Returns the instruction with `{percent}` still in it; it ends with a colon and a space."""
    return f"{task}, {self.joined}: " if task else f"{self.alone}: "


TRAIN_WORDINGS = (
    Wording(
        "use the teacher for at most {percent} of the tokens",
        "using the teacher for at most {percent} of the tokens",
    ),
    Wording(
        "ask the teacher for no more than {percent} of the words",
        "asking the teacher for no more than {percent} of the words",
    ),
    Wording(
        "you may call the teacher for up to {percent} of the tokens",
        "calling the teacher for up to {percent} of the tokens",
    ),
    Wording(
        "let the teacher write {percent} of the output or less",
        "letting the teacher write {percent} of the output or less",
    ),
    Wording(
        "at most {percent} of the output may come from the teacher",
        "with at most {percent} of the output from the teacher",
    ),
    Wording("teacher budget of {percent} or less", "on a teacher budget of {percent} or less"),
    Wording(
        "write alone, with help for up to {percent} of the words",
        "writing alone, with help for up to {percent} of the words",
    ),
    Wording(
        "keep the help of the teacher at {percent} or below",
        "keeping the help of the teacher at {percent} or below",
    ),
)

HELD_OUT_WORDINGS = (
    Wording(
        "with at most {percent} help from the teacher",
        "with at most {percent} help from the teacher",
    ),
    Wording(
        "no more than {percent} of the tokens may come from the teacher",
        "with no more than {percent} of the tokens from the teacher",
    ),
    Wording(
        "ask for help for up to {percent} of the output",
        "asking for help for up to {percent} of the output",
    ),
    Wording(
        "budget of {percent} or below for the words of the teacher",
        "on a budget of {percent} or below for the words of the teacher",
    ),
)


def render(budget: float | int, wording: Wording, task: str = "") -> str:
  """Renders a budget in words.

  `render(0.2, TRAIN_WORDINGS[0], "summarize")` is
  `"summarize, using the teacher for at most 20% of the tokens: "`.

  Args:
    budget: allowed share of teacher tokens, 0..1.
    wording: how to state it.
    task: what to do with the input, e.g. "translate English to German"; "" for no task.

  Returns:
    The instruction, which ends with a space.

  Raises:
    ValueError: if the budget is outside 0..1, or the wording has no slot.
  """
  if not 0.0 <= budget <= 1.0:
    raise ValueError(f"budget={budget}: must be a share between 0 and 1, e.g. 0.2 for 20%")
  template = wording.template(task)
  if template.count(SLOT) != 1:
    raise ValueError(f"instruction {template!r}: must hold {SLOT} exactly once")
  return template.replace(SLOT, f"{round(100.0 * budget, 2):g}%")


def task_instruction(task: str) -> str:
  """Returns what the teacher reads before the input, e.g. `"summarize: "`; "" without a task."""
  return f"{task}: " if task else ""


def tokenizer_text(task: str = "", wordings: Sequence[Wording] = TRAIN_WORDINGS) -> list[str]:
  """Returns the instructions for 0..100 whole percent, as training text of a tokenizer.

  Args:
    task: what to do with the input.
    wordings: the wordings of a budget.

  Returns:
    `101 * len(wordings)` instructions.
  """
  return [render(percent / 100, wording, task) for wording in wordings for percent in range(101)]
