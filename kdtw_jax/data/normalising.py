"""Text normalisation: in Python for SentencePiece, and as steps of `tokenizers` for other readers.

Both give the same result for every text, except for letters that only the newer Unicode version of
the two composes (two of 1.1 million code points, between Python 3.11 and `tokenizers` 0.23).
"""

import re
import unicodedata

from tokenizers import Regex, normalizers

WORD_START = "▁"  # how SentencePiece writes a space
DIGITS = "0123456789%"  # each is always a separate piece
# Python's regular expressions and those of `tokenizers` read these the same way.
_WHITE = "[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"  # str.isspace
_CONTROL = "[\x00-\x1f\x7f-\x9f\u200b\ufeff]"


def normalise(text: str) -> str:
  """Normalises text for a tokenizer: NFC, single spaces for runs of white space, no controls.

  Args:
    text: any text.

  Returns:
    One line without leading or trailing space.
  """
  line = " ".join(text.split())
  if not line.isascii():
    line = unicodedata.normalize("NFC", line).replace(WORD_START, "_")
  return re.sub(_CONTROL, "", line).strip()


def normalizer_steps() -> list[normalizers.Normalizer]:
  """Returns the steps of `normalise`, then SentencePiece's own, which starts each word with "▁"."""
  return [
      normalizers.Replace(Regex(_WHITE + "+"), " "),
      normalizers.Strip(),
      normalizers.NFC(),
      normalizers.Replace(WORD_START, "_"),
      normalizers.Replace(Regex(_CONTROL), ""),
      normalizers.Strip(),
      normalizers.Replace(Regex(" +"), WORD_START),
      normalizers.Prepend(WORD_START),  # leaves empty text empty
  ]
