"""Sample outputs as runs of text with one author each, ready for the page."""

from collections.abc import Mapping, Sequence
from typing import Any

WORD_START = "▁"  # SentencePiece's mark of a space before a piece


def author_runs(tokens: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
  """Joins neighbouring tokens of one author into runs of readable text.

  `▁Ein` (student), `▁Haus` (teacher), `boot` (teacher) becomes "Ein" by the student, " " by nobody
  and "Hausboot" by the teacher: the space stands outside so that the mark covers words only.

  Args:
    tokens: `{"text": piece, "author": "student" | "teacher"}` in order.

  Returns:
    `{"text": str, "author": str}` in order; spaces between authors have the author "".
  """
  runs: list[dict[str, str]] = []
  for token in tokens:
    text = str(token.get("text") or "").replace(WORD_START, " ")
    author = str(token.get("author") or "")
    if not runs:
      text = text.lstrip(" ")
    if not text:
      continue
    if runs and runs[-1]["author"] == author:
      runs[-1]["text"] += text
      continue
    bare = text.lstrip(" ")
    if runs and len(bare) < len(text):
      runs.append({"text": " ", "author": ""})
    if bare:
      runs.append({"text": bare, "author": author})
  return runs


def teacher_tokens(tokens: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
  """Returns how many of the tokens the teacher wrote, and how many there are."""
  return sum(token.get("author") == "teacher" for token in tokens), len(tokens)
