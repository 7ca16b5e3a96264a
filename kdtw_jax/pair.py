"""A trained pair in one folder: student, teacher, tokenizer, config and duals.

    student/    a transformers folder with the tokenizer, the heads and the duals
    teacher/    likewise; left out if pair.json names a published teacher that was not trained
    pair.json   the run's config, the name of that teacher, and how short outputs may be

Users write with a pair; evaluation and later runs load it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import dataclasses
import functools
import os
from pathlib import Path
from typing import overload

import numpy as np

from kdtw_jax import config_models, decoding, pair_checks, pair_folder, published
from kdtw_jax.base import Params
from kdtw_jax.data import AnyTokenizer, check_same_vocabulary, load_tokenizer
from kdtw_jax.files import write_json
from kdtw_jax.live import Lanes, Stream
from kdtw_jax.models import Model, Models, knows_worth, with_int8
from kdtw_jax.reader import Reader, Written
from kdtw_jax.writer import BATCH, Writer


@dataclasses.dataclass(frozen=True)
class Pair:
  """A student and its teacher, which share a tokenizer.

  Attributes:
    config: config of the run that trained them, as plain JSON values.
    tokenizer: the tokenizer of both models.
    student: pure functions of the student.
    student_params: parameters of the student.
    teacher: pure functions of the teacher.
    teacher_params: parameters of the teacher.
    duals: λ at the config's `budgets.knots`, nats per ask.
    shortest: (a, b): an output has at least a + b · (source tokens) tokens, by validation data.
    prices: calls per token, ascending, and the prices of the policy `worth` that made them on
      validation; None if the student has not learned what help is worth.
    paces: κ by form of budget: how strictly the gate is held to it, by validation.
  """

  config: dict
  tokenizer: AnyTokenizer
  student: Model
  student_params: Params
  teacher: Model
  teacher_params: Params
  duals: tuple[float, ...]
  shortest: tuple[float, float]
  prices: tuple[tuple[float, ...], tuple[float, ...]] | None
  paces: dict[str, float]

  @overload
  def write(
      self,
      texts: str,
      budget: float | int | str | None = None,
      *,
      form: str = "share",
      policy: decoding.Policy | str | None = None,
  ) -> Written:
    ...

  @overload
  def write(
      self,
      texts: Sequence[str],
      budget: float | int | str | None = None,
      *,
      form: str = "share",
      policy: decoding.Policy | str | None = None,
  ) -> list[Written]:
    ...

  def write(
      self,
      texts: str | Sequence[str],
      budget: float | int | str | None = None,
      *,
      form: str = "share",
      policy: decoding.Policy | str | None = None,
  ) -> Written | list[Written]:
    """Decodes greedily, with the student asking the teacher within a budget.

    The first call compiles, and so does the first call with texts of another power-of-two length or
    a budget of another form.

        form     the budget                        what holds
        share    a share of the tokens             the mean over texts, as learned
        paced    the same                          the mean over the texts, steered on any domain
        hard     the same                          calls <= B · length at the end of every output
        prefix   the same                          calls <= B · t after every token t
        ledger   the same                          Σ calls <= Σ B · length over the list of texts
        calls    a whole number n of each output   calls <= n

    Args:
      texts: one text, or a list of them, which for `paced` and `ledger` is one stream.
      budget: a share of the tokens that the teacher may write, from 0 to the largest that the pair
        was trained for; an instruction with one percentage in it, such as "use the teacher for at
        most 20% of the tokens"; or calls per output: a whole number with `form="calls"`, or words
        such as "at most 3 calls" or "at most twice", which need no `form`. The student was trained
        for shares, so of n calls it reads n over the shortest length that the output is expected to
        have, within the trained shares above 0. At 0 the student writes alone, in any form.
      form: what the budget promises, one of `decoding.FORMS`.
      policy: another way to decide who writes, see `decoding.make_policy`. Only the student's gate
        keeps a budget of the form `share`; with another policy, give another form or no budget.
        "worth" lets calls check whole drafts where they are worth it, at the price that made as
        many calls per token on validation as the budget says; within a number of calls, at none.

    Returns:
      One record per text, in a list if `texts` is a list.

    Raises:
      ValueError: if the pair was not trained for the budget, the form or the policy cannot keep it,
        or a text is empty or too long; says what is possible.
    """
    written = self._writer.write(texts, budget, form, policy)
    return written[0] if isinstance(texts, str) else written

  def write_stream(
      self,
      texts: Iterable[str],
      budget: float | int | str | None = None,
      *,
      form: str = "share",
      policy: decoding.Policy | str | None = None,
      batch: int = BATCH,
      window: int | None = None,
      cut: bool = False,
  ) -> Iterator[Written]:
    """Decodes any number of texts as `write` does, in memory that does not grow with them.

    Args:
      texts: the texts; a blank one has a blank output, without a call.
      budget: as in `write`; a ledger is kept over the whole stream.
      form: as in `write`.
      policy: as in `write`.
      batch: texts that decode together.
      window: texts that are read ahead and sorted by length, so that similar ones decode together;
        by default 64 batches.
      cut: reads only the beginning of a text that is too long.

    Returns:
      One record per text, in the order of the texts.

    Raises:
      ValueError: at the call, if the budget cannot be kept, as in `write`; then, from the iterator,
        `TextError` if a text is too long. All texts of earlier windows have been written by then.
    """
    return self._writer.stream(texts, budget, form, policy, batch=batch, window=window, cut=cut)

  def stream(
      self,
      text: str,
      budget: float | int | str | None = None,
      *,
      form: str = "share",
      policy: decoding.Policy | str | None = None,
  ) -> Stream:
    """Decodes one text as `write` does, and gives its output in pieces as they are written.

    Args:
      text: the text.
      budget: as in `write`.
      form: as in `write`.
      policy: as in `write`. Of a policy that checks drafts, a piece comes once it is checked.

    Returns:
      An iterator of `Piece`; `written` has the whole output at its end.

    Raises:
      ValueError: as in `write`, at the call.
    """
    return Stream(self._lanes, self.reader, text, self.reader.order(budget, form, policy))

  @functools.cached_property
  def reader(self) -> Reader:
    """What turns orders and texts into ids, and ids into text."""
    return Reader(
        *(self.config, self.tokenizer),
        shortest=self.shortest,
        prices=self.prices,
        paces=self.paces,
        knows_worth=knows_worth(self.student_params),
    )

  def lanes(self, batch: int) -> Lanes:
    """Makes slots in which this many texts of a kind are written at a time."""
    return Lanes(*self._parts, batch=batch)

  @functools.cached_property
  def _lanes(self) -> Lanes:
    return self.lanes(1)

  @functools.cached_property
  def _writer(self) -> Writer:
    return Writer(*self._parts)

  @property
  def _parts(self) -> tuple[dict, Reader, Models, tuple[Params, Params]]:
    models = Models(self.student, self.teacher)
    return self.config, self.reader, models, (self.student_params, self.teacher_params)


def save_pair(
    directory: Path,
    *,
    config: dict,
    models: tuple[Model, Model],
    tokenizer: AnyTokenizer,
    student_params: Params,
    teacher_params: Params,
    duals: np.ndarray,
    shortest: tuple[float, float],
    prices: Sequence[Sequence[float]] | None = None,
    paces: Mapping[str, float],
) -> None:
  """Writes a pair's folder, `pair.json` last.

  Args:
    directory: the folder; created if missing, and an older pair in it is replaced.
    config: the run's config as plain JSON values.
    models: (student, teacher).
    tokenizer: the tokenizer of both models.
    student_params: the student's parameters.
    teacher_params: the teacher's parameters; not written if the teacher is used as published.
    duals: `[K]` λ at the knots, nats per ask.
    shortest: (a, b), see `Pair`.
    prices: see `Pair`.
    paces: see `Pair`.
  """
  directory = Path(directory)
  found: dict[str, tuple[Model, Params, np.ndarray | None]] = {
      "student": (models[0], student_params, duals)
  }
  if not config_models.teacher_is_published(config):
    found["teacher"] = (models[1], teacher_params, None)
  for who, (model, params, extra) in found.items():
    name = config[who]["pretrained"]
    published.save_model(
        directory / who,
        params,
        model.config,
        duals=extra,
        save_tokenizer=tokenizer.save,
        original=published.open_published(name).config if name else None,
    )
  teacher = (
      published.pinned(config["teacher"]["pretrained"])
      if config_models.teacher_is_published(config)
      else None
  )
  saved = {
      "config": config,
      "teacher": teacher,
      "shortest": list(shortest),
      "prices": prices,
      "paces": dict(paces),
  }
  write_json(directory / "pair.json", saved)


def load_pair(directory: str | os.PathLike) -> Pair:
  """Loads a pair of a run, or one that `kdtw export --teacher` wrote.

  Args:
    directory: the folder that `save_pair` wrote, a workdir with such a `pair/`, the folder of an
      export, or the hub id of one, "owner/name", followed by "@" and a revision unless it is the
      newest. A pair of the hub is downloaded once and cached; it is data alone, and no code.

  Returns:
    The pair.

  Raises:
    FileNotFoundError: if there is no pair, the hub is out of reach, or a part is missing; names it.
    ValueError: if a part is damaged, or the parts do not belong together.
  """
  directory = pair_folder.locate(directory)
  where = pair_folder.student_of(directory)
  saved = pair_checks.read_saved(directory / "pair.json")
  config, published_teacher = saved.config, saved.teacher
  tokenizer = load_tokenizer(pair_checks.part(where))
  student = published.load_model(where)
  if published_teacher:
    config["teacher"]["pretrained"] = published_teacher
    teacher = config_models.build_model(config, "teacher", tokenizer)
    teacher_params = config_models.published_params(config, "teacher", teacher)
  else:
    names = (str(where), str(pair_checks.part(directory / "teacher")))
    check_same_vocabulary(tokenizer, load_tokenizer(directory / "teacher"), names=names)
    teacher, teacher_params, _ = published.load_model(directory / "teacher")
  pair_checks.check_vocabulary(tokenizer, Models(student.model, teacher), directory)
  duals = pair_checks.checked_duals(student.duals, student.model, config, where)
  pair_checks.check_finite(student.params, str(where))
  pair_checks.check_finite(teacher_params, published_teacher or str(directory / "teacher"))
  if config["teacher"]["int8"]:
    teacher_params = with_int8(teacher_params)
  return Pair(
      config=config,
      tokenizer=tokenizer,
      student=student.model,
      student_params=student.params,
      teacher=teacher,
      teacher_params=teacher_params,
      duals=duals,
      shortest=saved.shortest,
      prices=saved.prices,
      paces=saved.paces,
  )
