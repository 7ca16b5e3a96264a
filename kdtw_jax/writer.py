"""Texts in, texts out: the implementation of `Pair.write`.

New texts do not compile new programs. Sources are padded to a few widths (powers of two up to the
longest source that the pair was trained on) and decoded in batches of 1 or BATCH rows. Not here:
who writes which token (decoding/), what a budget may say (data/stated.py).

Shape letters: B batch, S source length.
"""

from collections.abc import Mapping, Sequence
import itertools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int
import ml_collections
import numpy as np

from kdtw_jax import data, decoding
from kdtw_jax.base import EOS_ID, PAD_ID, Params
from kdtw_jax.models import Models, knows_worth

BATCH = 16  # rows that decode together if more than one text is given
_NARROWEST = 16
_DEFAULT_CHUNK = 8  # in place of config.decode.chunk=0: measuring the best one takes seconds
_UNLEARNED = (
    "policy='worth': this pair's student has not learned what help is worth: run its stage 'worth'"
    ", or choose another policy, e.g. decoding.make_policy('route_gap', 8.0)"
)


class Written(NamedTuple):
  """A pair's output for one text.

  Attributes:
    text: the output.
    tokens: its pieces, with "▁" for a space; ends with EOS unless the output was cut off.
    by_teacher: for each token, True where the teacher wrote it.
    calls: how often the teacher was consulted.
    share: share of the tokens that the teacher wrote, 0..1.
  """

  text: str
  tokens: tuple[str, ...]
  by_teacher: tuple[bool, ...]
  calls: int
  share: float


class _Row(NamedTuple):
  """One text, and what may be spent on it.

  Attributes:
    student: the ids that the student reads, ending with EOS.
    teacher: the ids that the teacher reads, ending with EOS.
    share: the share that the student reads in its instruction.
  """

  student: list[int]
  teacher: list[int]
  share: float


class _Order(NamedTuple):
  """What one call of `write` asks for.

  Attributes:
    stated: what every student reads; None if it depends on the text.
    calls: most calls of each output, for the form `calls`.
    form: what the budget promises.
    policy: who writes.
  """

  stated: data.Stated | None
  calls: int
  form: str
  policy: decoding.Policy


class Writer:
  """The jitted decoder of one pair, and the shapes it is compiled for.

  Attributes:
    widths: lengths in tokens that sources are padded to, ascending.
    decode: `(params, teacher_params, student_source [B, S], teacher_source [B, S], budget, key,
      policy) -> DecodeResult`; jitted, compiled once per width, B, form and policy structure.
  """

  def __init__(
      self,
      config: Mapping[str, Any],
      tokenizer: data.AnyTokenizer,
      models: Models,
      params: tuple[Params, Params],
      *,
      shortest: tuple[float, float],
      prices: tuple[tuple[float, ...], tuple[float, ...]] | None,
  ):
    """Takes the parts of a pair; `params` is (student's, teacher's), the rest as in `Pair`."""
    self._tokenizer, self._params, self._prices = tokenizer, params, prices
    self._task, self._shortest = config["data"]["task"], shortest
    self._pace, self._most = config["decode"]["pace"], config["decode"]["max_length"]
    self._largest = max(config["budgets"]["train"])
    self._smallest = min((b for b in config["budgets"]["train"] if b), default=self._largest)
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
          wait=config["decode"]["wait"],
      )

    self.decode = jax.jit(decode)

  def write(
      self,
      texts: object,
      budget: object = None,
      form: object = "share",
      policy: decoding.Policy | str | None = None,
  ) -> list[Written]:
    """Writes an output for each text; see `Pair.write` for arguments and errors."""
    order = self._order(budget, form, policy)
    rows = self._rows(check_texts(texts), order)
    similar = sorted(range(len(rows)), key=lambda i: len(rows[i].student))  # lengths together
    size, credit = 1 if len(rows) == 1 else BATCH, jnp.int32(0)
    results = []
    for start in range(0, len(rows), size):
      batch = [rows[i] for i in similar[start : start + size]]
      key = jax.random.fold_in(jax.random.key(0), start)
      limits = self._budget(batch, size, order, credit)
      result = self.decode(*self._params, *self._sources(batch, size), limits, key, order.policy)
      credit = result.credit  # of the stream, so that no batch begins with nothing saved
      results.append(result)
    written = itertools.chain.from_iterable(map(self._written, results))
    found = dict(zip(similar, written, strict=False))  # the rest are rows of padding
    return [found[i] for i in range(len(rows))]

  def _order(self, budget: object, form: object, policy: decoding.Policy | str | None) -> _Order:
    """Chooses what the student reads and who writes; raises ValueError if the parts conflict.

    A policy that neither reads the gate nor is held to a budget has a student that reads 0.
    """
    if policy is not None and policy != "worth" and not isinstance(policy, decoding.Policy):
      raise ValueError(
          f"policy={policy!r:.60}: must be 'worth' or a policy, e.g. "
          "decoding.make_policy('speculative', 4)"
      )
    if not isinstance(form, str) or form not in decoding.FORMS:
      raise ValueError(f"form={form!r:.60}: must be one of {', '.join(decoding.FORMS)}")
    if budget is None and form != "share":
      raise ValueError(
          f"budget=None: form={form!r} needs one: give a budget, or leave out the form"
      )
    calls = data.stated_calls(budget, form)
    form = form if calls is None else "calls"
    if isinstance(policy, str):
      policy = self._worth(budget, calls)
      if form == "share":  # the price is the budget
        return _Order(self._state(0.0), 0, form, policy)
    by_gate = policy is None or reads_gate(policy)
    policy = policy or decoding.make_policy("handover")
    reads_worth = isinstance(policy, decoding.Drafter) and policy.reads_worth
    if reads_worth and not knows_worth(self._params[0]):
      raise ValueError(_UNLEARNED)
    if not by_gate and budget is None:
      return _Order(self._state(0.0), 0, form, policy)
    if not by_gate and form == "share":
      raise ValueError(
          f"budget={budget!r}: policy {policy.name!r} does not keep to a budget: leave out the "
          "budget, give a form that holds all policies, as form='paced', or leave out the policy "
          "to have the student ask within the budget"
      )
    if form != "share" and not policy.keeps_budget(decoding.Sampling()):
      raise ValueError(
          f"form={form!r}: policy {policy.name!r} cannot write on without the teacher: leave out "
          "the budget and its form, or give another policy"
      )
    stated = self._state(budget) if calls is None else None
    if calls == 0 or (stated and stated.share == 0):
      return _Order(stated or self._state(0.0), 0, "share", decoding.StudentAlone())
    return _Order(stated, min(calls or 0, self._most), form, policy)

  def _worth(self, budget: object, calls: int | None) -> decoding.Policy:
    """Makes the policy `worth` at the price of a share, or at none for a number of calls."""
    if self._prices is None:
      raise ValueError(_UNLEARNED)
    if budget is None:
      raise ValueError(
          "budget=None: policy='worth' takes its price from one: give a budget or name a price, as "
          "policy=decoding.make_policy('worth', 1.0)"
      )
    if calls is not None:
      return decoding.make_policy("worth", 0.0)
    share = self._state(budget).share
    price = np.interp(share, *self._prices) if share else math.inf
    return decoding.make_policy("worth", float(price))

  def _state(self, budget: object) -> data.Stated:
    """States a share for the student; raises ValueError if it cannot be kept."""
    return data.state_budget(budget, largest=self._largest, task=self._task)

  def _budget(
      self, rows: Sequence[_Row], size: int, order: _Order, credit: Int[Array, ""]
  ) -> decoding.Budget:
    """Makes the budget of a batch, in which rows of padding have none."""
    shares, calls = np.zeros(size, np.float32), np.zeros(size, np.int32)
    shares[: len(rows)], calls[: len(rows)] = [row.share for row in rows], order.calls
    return decoding.Budget(
        share=shares,
        pace=np.float32(self._pace),
        shortest=tuple(map(np.float32, self._shortest)),
        calls=calls,
        credit=credit,
        form=order.form,
    )

  def _share_of_calls(self, calls: int, num_read: int) -> float:
    """Returns the trained share above 0 that is nearest to n calls in an output for this source.

    It is n over the shortest expected length, in whole percent, since an output that has used up
    its calls stops asking, while calls that are left over help nobody.
    """
    a, b = self._shortest
    share = round(calls / max(a + b * num_read, 1.0), 2)
    return min(max(share, self._smallest), self._largest)

  def _rows(self, texts: Sequence[str], order: _Order) -> list[_Row]:
    """Encodes the texts; raises ValueError if one is empty or too long for the pair."""
    stated = order.stated or self._state(self._smallest)
    prompt = self._prompt(stated)
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
      read = [*task, *ended]
      if order.stated is None:
        stated = self._state(self._share_of_calls(order.calls, len(read)))
        prompt = self._prompt(stated)
      rows.append(_Row([*prompt, *ended], read, stated.share))
    return rows

  def _prompt(self, stated: data.Stated) -> list[int]:
    """Encodes an instruction; raises ValueError if it is too long for the pair."""
    prompt = self._tokenizer.encode_instruction(stated.instruction)
    if len(prompt) > self._room:
      raise ValueError(
          f"budget={stated.instruction.strip()!r}: takes {len(prompt)} tokens, this pair has room "
          f"for {self._room}: say it shorter, or give the share as a number"
      )
    return prompt

  def _sources(
      self, rows: Sequence[_Row], size: int
  ) -> tuple[Int[np.ndarray, "B S"], Int[np.ndarray, "B S"]]:
    """Pads the sources of student and teacher to one of the widths and to `size` rows."""
    longest = max(len(ids) for row in rows for ids in (row.student, row.teacher))
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
