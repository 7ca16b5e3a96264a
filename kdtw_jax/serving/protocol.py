"""Requests and answers in the format of OpenAI's completions, with budgets and who wrote what.

https://platform.openai.com/docs/api-reference/completions. A field that would change the output and
is not served is refused, not ignored.
"""

from collections.abc import Iterable
from typing import Any, Literal

import pydantic

from kdtw_jax.reader import Written
from kdtw_jax.serving.lane import End

MOST_PROMPTS = 64  # texts of one request


class StreamOptions(pydantic.BaseModel, extra="forbid"):
  """What a stream has besides its text.

  Attributes:
    include_usage: True sends the usage in a last chunk.
  """

  include_usage: bool = False


class CompletionRequest(pydantic.BaseModel, extra="forbid"):
  """The body of a request.

  Attributes:
    prompt: one text, or several.
    model: the name of the pair; may be left out.
    max_tokens: most tokens of each output; by default the pair's own limit.
    stream: True sends the output in pieces, as server-sent events.
    stream_options: what the stream has besides.
    budget: a share, words, or calls; see `Pair.write`. None takes the server's own.
    form: what the budget promises; see `Pair.write`.
    policy: NAME or NAME:DIAL, who decides; None for the student's gate.
    temperature: 0, since outputs are greedy.
    top_p: 1.
    n: 1.
    best_of: 1.
    echo: False.
    frequency_penalty: 0.
    presence_penalty: 0.
    seed: has no effect on greedy outputs.
    user: is not read.
  """

  prompt: str | list[str]
  model: str | None = None
  max_tokens: int | None = pydantic.Field(default=None, ge=1)
  stream: bool = False
  stream_options: StreamOptions | None = None
  budget: int | float | str | None = None
  form: str = "share"
  policy: str | None = None
  temperature: Literal[0] | None = None
  top_p: Literal[1] | None = None
  n: Literal[1] | None = None
  best_of: Literal[1] | None = None
  echo: Literal[False] | None = None
  frequency_penalty: Literal[0] | None = None
  presence_penalty: Literal[0] | None = None
  seed: int | None = None
  user: str | None = None

  def texts(self) -> list[str]:
    """Returns the prompts.

    Raises:
      ValueError: if there are none, or too many.
    """
    texts = [self.prompt] if isinstance(self.prompt, str) else self.prompt
    if not 1 <= len(texts) <= MOST_PROMPTS:
      raise ValueError(f"prompt: {len(texts)} texts: give 1 to {MOST_PROMPTS} in one request")
    return texts


def problem(message: str, kind: str, *, field: str | None = None) -> dict[str, Any]:
  """Makes the body of an error."""
  return {"error": {"message": message, "type": kind, "param": field, "code": None}}


def usage(ends: Iterable[End], seconds: float) -> dict[str, Any]:
  """Counts tokens, and the teacher's part in them, beside the seconds since the request came."""
  ends = list(ends)
  outputs: list[Written] = [end.written for end in ends]
  read, written = sum(end.read for end in ends), sum(len(out.tokens) for out in outputs)
  by_teacher = sum(sum(out.by_teacher) for out in outputs)
  return {
      "prompt_tokens": read,
      "completion_tokens": written,
      "total_tokens": read + written,
      "teacher_tokens": by_teacher,
      "teacher_calls": sum(out.calls for out in outputs),
      "teacher_share": round(by_teacher / max(written, 1), 4),
      "seconds": round(seconds, 4),
  }


def choice(
    index: int, text: str, *, end: End | None = None, by_teacher: bool | None = None
) -> dict[str, Any]:
  """Makes a choice: a whole output with its end, or a piece with its writer."""
  found: dict[str, Any] = {"index": index, "text": text, "logprobs": None, "finish_reason": None}
  if end is not None:
    found["finish_reason"] = "length" if end.cut else "stop"
  if by_teacher is not None:
    found["by_teacher"] = by_teacher
  elif end is not None:
    out = end.written
    found |= {"tokens": out.tokens, "by_teacher": [int(by) for by in out.by_teacher]}
  return found
