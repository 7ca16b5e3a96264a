"""Texts in, texts out: the implementation of `Pair.write`.

New texts do not compile new programs. Sources are padded to a few widths (powers of two up to the
longest source that the pair was trained on) and decoded in batches of 1 or BATCH rows. Not here:
who writes which token (decoding/), what a budget may say (data/stated.py).

Shape letters: B batch, S source length.
"""

from collections.abc import Mapping, Sequence
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Int
import ml_collections
import numpy as np

from kdtw_jax import data, decoding
from kdtw_jax.base import EOS_ID, PAD_ID, Params
from kdtw_jax.models import Models, knows_worth

BATCH = 16  # rows that decode together if more than one text is given
_NARROWEST = 16
_DEFAULT_CHUNK = 8  # in place of config.decode.chunk=0: measuring the best one takes seconds


class Written(NamedTuple):
  """A pair's output for one text.

  Attributes:
    text: the output.
    tokens: its pieces, with "▁" for a space; ends with EOS unless the output was cut off.
    by_teacher: for each token, True where the teacher wrote it.
    calls: how often the teacher was consulted.
    share: share of the tokens that the teacher wrote, 0..1; the budget holds on average over texts.
  """

  text: str
  tokens: tuple[str, ...]
  by_teacher: tuple[bool, ...]
  calls: int
  share: float


class _Row(NamedTuple):
  """The ids that each of the two models reads for one text, ending with EOS."""

  student: list[int]
  teacher: list[int]


class Writer:
  """The jitted decoder of one pair, and the shapes it is compiled for.

  Attributes:
    widths: lengths in tokens that sources are padded to, ascending.
    decode: `(params, teacher_params, student_source [B, S], teacher_source [B, S], budget [B], key,
      policy) -> DecodeResult`; jitted, compiled once per width, B and policy structure.
  """

  def __init__(
      self,
      config: Mapping[str, Any],
      tokenizer: data.AnyTokenizer,
      models: Models,
      params: tuple[Params, Params],
  ):
    """Takes the parts of a pair; `params` is (student's, teacher's)."""
    self._tokenizer, self._params = tokenizer, params
    self._task = config["data"]["task"]
    self._largest = max(config["budgets"]["train"])
    self._longest = max(source for source, _ in config["data"]["buckets"])
    self._room = data.instruction_length(tokenizer, ml_collections.ConfigDict(config))
    self.widths = _ladder(self._longest + self._room)
    student, teacher = (model.decoder_fns for model in models)

    def decode(params, teacher_params, student_source, teacher_source, budget, key, policy):
      return decoding.decode(
          student,
          teacher,
          params,
          teacher_params,
          student_source,
          teacher_source,
          budget,
          key,
          policy,
          max_length=config["decode"]["max_length"],
          chunk=config["decode"]["chunk"] or _DEFAULT_CHUNK,
          eager=len(budget) > 1,
      )

    self.decode = jax.jit(decode)

  def write(
      self, texts: object, budget: object = None, policy: decoding.Policy | None = None
  ) -> list[Written]:
    """Writes an output for each text; see `Pair.write` for arguments and errors."""
    stated, policy = self._decide(budget, policy)
    rows = self._rows(check_texts(texts), stated.instruction)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i].student))  # similar lengths together
    size = 1 if len(rows) == 1 else BATCH
    results = []
    for start in range(0, len(order), size):
      source = self._sources([rows[i] for i in order[start : start + size]], size)
      budgets = np.full(size, stated.share, np.float32)
      key = jax.random.fold_in(jax.random.key(0), start)
      results.append(self.decode(*self._params, *source, budgets, key, policy))
    written = itertools.chain.from_iterable(map(self._written, results))
    found = dict(zip(order, written, strict=False))  # the rest are rows of padding
    return [found[i] for i in range(len(rows))]

  def _decide(
      self, budget: object, policy: decoding.Policy | None
  ) -> tuple[data.Stated, decoding.Policy]:
    """Chooses what the student reads and who writes; raises ValueError if the two conflict.

    A policy that ignores the gate cannot keep a budget; its student reads a budget of 0.
    """
    if policy is not None and not isinstance(policy, decoding.Policy):
      raise ValueError(
          f"policy={policy!r:.60}: must be a policy, e.g. decoding.make_policy('speculative', 4)"
      )
    reads_worth = isinstance(policy, decoding.Drafter) and policy.reads_worth
    if reads_worth and not knows_worth(self._params[0]):
      raise ValueError(
          f"policy={policy.name!r}: this pair's student has not learned what help is worth: run its"
          " stage 'worth', or choose another policy, e.g. decoding.make_policy('route_gap', 8.0)"
      )
    if policy is None or reads_gate(policy):
      stated = data.state_budget(budget, largest=self._largest, task=self._task)
      if stated.share == 0:
        return stated, decoding.StudentAlone()
      return stated, policy or decoding.make_policy("handover")
    if budget is not None:
      raise ValueError(
          f"budget={budget!r}: policy {policy.name!r} does not keep to a budget: leave out the "
          "budget, or the policy to have the student ask within the budget"
      )
    return data.state_budget(0.0, largest=self._largest, task=self._task), policy

  def _rows(self, texts: Sequence[str], instruction: str) -> list[_Row]:
    """Encodes the texts; raises ValueError if one is empty or too long for the pair."""
    prompt = self._tokenizer.encode_instruction(instruction)
    if len(prompt) > self._room:
      raise ValueError(
          f"budget={instruction.strip()!r}: takes {len(prompt)} tokens, this pair has room for "
          f"{self._room}: say it shorter, or give the share as a number"
      )
    task = data.encode_task(self._tokenizer, self._task)
    rows = []
    for i, source in enumerate(self._tokenizer.encode_batch(texts)):
      if not source or not texts[i].strip():
        raise ValueError(f"texts[{i}]={texts[i][:40]!r}: has nothing to read; leave it out")
      if len(source) + 1 > self._longest:
        raise ValueError(
            f"texts[{i}]={texts[i][:40]!r}...: {len(source)} tokens, this pair reads at most "
            f"{self._longest - 1}: split the text, or train with longer config.data.buckets"
        )
      ended = [*source, EOS_ID]
      rows.append(_Row([*prompt, *ended], [*task, *ended]))
    return rows

  def _sources(
      self, rows: Sequence[_Row], size: int
  ) -> tuple[Int[np.ndarray, "B S"], Int[np.ndarray, "B S"]]:
    """Pads the sources of student and teacher to one of the widths and to `size` rows."""
    longest = max(len(ids) for row in rows for ids in row)
    width = next(width for width in self.widths if width >= longest)
    student, teacher = np.full((2, size, width), PAD_ID, np.int32)
    for i, row in enumerate(rows):
      student[i, : len(row.student)] = row.student
      teacher[i, : len(row.teacher)] = row.teacher
    return student, teacher

  def _written(self, result: decoding.DecodeResult) -> list[Written]:
    """Converts the rows of a batch, padding rows included."""
    result = jax.device_get(result)
    found = []
    for tokens, length, by_teacher, calls in zip(
        result.tokens, result.length, result.written_by_teacher, result.teacher_calls, strict=True
    ):
      ids, by_teacher = tokens[:length].tolist(), by_teacher[:length]
      found.append(
          Written(
              text=self._tokenizer.decode(ids),
              tokens=tuple(self._tokenizer.pieces(ids)),
              by_teacher=tuple(by_teacher.tolist()),
              calls=int(calls),
              share=float(by_teacher.sum() / max(length, 1)),
          )
      )
    return found


def reads_gate(policy: decoding.Policy) -> bool:
  """Returns True if the student's gate decides, so that the budget it reads has an effect."""
  return policy.silenced(jnp.zeros(1)) is not None


def check_texts(texts: object) -> list[str]:
  """Returns the texts as a list; raises ValueError if they are not a text or a list of texts."""
  if isinstance(texts, str):
    texts = [texts]
  if not isinstance(texts, list | tuple):
    raise ValueError(f"texts={texts!r:.60}: must be a text or a list of texts")
  for i, text in enumerate(texts):
    if not isinstance(text, str):
      raise ValueError(
          f"texts[{i}]={text!r:.60}: must be a str, not {type(text).__name__}: give texts, not ids"
      )
    try:
      text.encode()
    except UnicodeEncodeError as error:
      raise ValueError(
          f"texts[{i}]={text!r:.60}: holds half a character at {error.start} (a lone surrogate): "
          "decode the text again with errors='replace'"
      ) from error
  return list(texts)


def _ladder(longest: int) -> tuple[int, ...]:
  """Returns the powers of two below `longest`, then itself: `_ladder(60)` is `(16, 32, 60)`."""
  powers = itertools.takewhile(lambda n: n < longest, (_NARROWEST << i for i in itertools.count()))
  return (*powers, longest)
