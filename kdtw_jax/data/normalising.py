"""Text as a tokenizer sees it: in Python for SentencePiece, as steps of `tokenizers` for others.

Both give the same for every text, but for letters that only the newer Unicode of the two composes
(of 1.1 million code points two, between Python 3.11 and `tokenizers` 0.23).
"""

import re
import unicodedata

from tokenizers import Regex, normalizers

WORD_START = "▁"  # how SentencePiece writes a space
DIGITS = "0123456789%"  # each always a piece of its own
# Read alike by Python's regular expressions and those of `tokenizers`.
_WHITE = "[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"  # str.isspace
_CONTROL = "[\x00-\x1f\x7f-\x9f\u200b\ufeff]"


def normalise(text: str) -> str:
  """Gives text as the tokenizer sees it: NFC, every run of white space one space, no controls.

  Args:
    text: any text.

  Returns:
    One line without leading and trailing space.
  """
  line = " ".join(text.split())
  if not line.isascii():
    line = unicodedata.normalize("NFC", line).replace(WORD_START, "_")
  return re.sub(_CONTROL, "", line).strip()


def normalizer_steps() -> list[normalizers.Normalizer]:
  """Gives the steps of `normalise`, and SentencePiece's own after it: each word begins with "▁"."""
  return [
      normalizers.Replace(Regex(_WHITE + "+"), " "),
      normalizers.Strip(),
      normalizers.NFC(),
      normalizers.Replace(WORD_START, "_"),
      normalizers.Replace(Regex(_CONTROL), ""),
      normalizers.Strip(),
      normalizers.Replace(Regex(" +"), WORD_START),
      normalizers.Prepend(WORD_START),  # of nothing makes nothing
  ]
