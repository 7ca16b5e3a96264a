"""Budgets in words: the instruction that stands before the student's input.

The teacher never reads it. Training templates are what the student learns from; the held-out ones
say the same with the same words in other places, to see whether the wording was understood.
"""

from collections.abc import Sequence

SLOT = "{percent}"

TRAIN_TEMPLATES = (
    "use the teacher for at most {percent} of the tokens: ",
    "ask the teacher for no more than {percent} of the words: ",
    "you may call the teacher for up to {percent} of the tokens: ",
    "let the teacher write {percent} of the output or less: ",
    "at most {percent} of the output may come from the teacher: ",
    "teacher budget of {percent} or less: ",
    "write alone, with help for up to {percent} of the words: ",
    "keep the help of the teacher at {percent} or below: ",
)

HELD_OUT_TEMPLATES = (
    "with at most {percent} help from the teacher: ",
    "no more than {percent} of the tokens may come from the teacher: ",
    "ask for help for up to {percent} of the output: ",
    "budget of {percent} or below for the words of the teacher: ",
)


def render(budget: float | int, template: str) -> str:
  """Writes a budget into a template.

  `render(0.2, "use the teacher for at most {percent} of the tokens: ")` is
  `"use the teacher for at most 20% of the tokens: "`.

  Args:
    budget: allowed share of teacher tokens, 0..1.
    template: text that holds `{percent}` once.

  Returns:
    The instruction.

  Raises:
    ValueError: the budget is outside 0..1, or the template has no slot.
  """
  if not 0.0 <= budget <= 1.0:
    raise ValueError(f"budget={budget}: must be a share between 0 and 1, e.g. 0.2 for 20%")
  if template.count(SLOT) != 1:
    raise ValueError(f"template {template!r}: must hold {SLOT} exactly once")
  return template.replace(SLOT, f"{round(100.0 * budget, 2):g}%")


def tokenizer_text(templates: Sequence[str] = TRAIN_TEMPLATES) -> list[str]:
  """Gives instructions for whole percents 0..100, text for training a tokenizer.

  Args:
    templates: the templates to render.

  Returns:
    `101 * len(templates)` instructions.
  """
  return [render(percent / 100, template) for template in templates for percent in range(101)]
