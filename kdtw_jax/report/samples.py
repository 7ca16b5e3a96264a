"""Sample outputs as runs of text, each by one author, for the page."""

from collections.abc import Sequence
import dataclasses
from typing import Literal

from kdtw_jax.evaluation.record import Token

WORD_START = "▁"  # SentencePiece's mark for a space before a piece


@dataclasses.dataclass
class Run:
  """A run of text by one author; the author of a space between two authors is ""."""

  text: str
  author: Literal["student", "teacher", ""]


def author_runs(tokens: Sequence[Token]) -> list[Run]:
  """Joins neighbouring tokens of one author into runs of readable text.

  `▁Ein` (student), `▁Haus` (teacher), `boot` (teacher) becomes "Ein" by the student, " " by nobody
  and "Hausboot" by the teacher. The space is separate so that the page marks only words.

  Args:
    tokens: tokens of one output, in order.
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
