"""Sample outputs as runs of text with one author each, ready for the page."""

from collections.abc import Sequence
import dataclasses
from typing import Literal

from kdtw_jax.evaluation.record import Token

WORD_START = "▁"  # SentencePiece's mark of a space before a piece


@dataclasses.dataclass
class Run:
  """Text that one author wrote in one go; a space between two authors is nobody's, ""."""

  text: str
  author: Literal["student", "teacher", ""]


def author_runs(tokens: Sequence[Token]) -> list[Run]:
  """Joins neighbouring tokens of one author into runs of readable text.

  `▁Ein` (student), `▁Haus` (teacher), `boot` (teacher) becomes "Ein" by the student, " " by nobody
  and "Hausboot" by the teacher: the space stands outside so that the mark covers words only.

  Args:
    tokens: of one output, in order.
  """
  runs: list[Run] = []
  for token in tokens:
    text = token.text.replace(WORD_START, " ")
    if not runs:
      text = text.lstrip(" ")
    if not text:
      continue
    if runs and runs[-1].author == token.author:
      runs[-1].text += text
      continue
    bare = text.lstrip(" ")
    if runs and len(bare) < len(text):
      runs.append(Run(" ", ""))
    if bare:
      runs.append(Run(bare, token.author))
  return runs
