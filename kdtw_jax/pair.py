"""A trained pair in one folder: student, teacher, tokenizer, config and duals.

    student/    a transformers folder with the tokenizer, the heads and the duals
    teacher/    likewise; left out if pair.json names a published teacher that was not trained
    pair.json   the run's config, the name of that teacher, and how short outputs may be

Users write with a pair; evaluation and later runs load it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import dataclasses
import functools
import os
from pathlib import Path
from typing import Any, overload

import jax
import ml_collections
import numpy as np

from kdtw_jax import decoding, pair_checks, published
from kdtw_jax.base import Params
from kdtw_jax.data import AnyTokenizer, check_same_vocabulary, load_tokenizer
from kdtw_jax.files import write_json
from kdtw_jax.models import Model, ModelConfig, Models, build
from kdtw_jax.writer import BATCH, Writer, Written

Config = ml_collections.ConfigDict | dict


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

  @functools.cached_property
  def _writer(self) -> Writer:
    models, params = Models(self.student, self.teacher), (self.student_params, self.teacher_params)
    return Writer(
        *(self.config, self.tokenizer, models, params),
        shortest=self.shortest,
        prices=self.prices,
        paces=self.paces,
    )


def build_models(config: Config, tokenizer: AnyTokenizer) -> Models:
  """Builds the student's and the teacher's functions for a vocabulary.

  Raises:
    FileNotFoundError: if a published model cannot be found.
    ValueError: if a model's config is invalid, or a published model is of an unsupported kind.
  """
  return Models(*(_build(config, who, tokenizer) for who in ("student", "teacher")))


def _build(config: Config, who: str, tokenizer: AnyTokenizer) -> Model:
  section = config[who]
  fields = dict(section["model"])
  if section["pretrained"]:
    fields |= published.open_published(locate_published(config, who)).architecture
  return build(
      ModelConfig(
          **fields,
          vocab_size=tokenizer.vocab_size,
          num_tokens=tokenizer.num_tokens,
          tau_id=tokenizer.tau_id,
          price_knots=tuple(config["budgets"]["knots"]),
      )
  )


def locate_published(config: Config, who: str) -> Path:
  """Returns the folder of the published model that a section of the config names.

  Raises:
    FileNotFoundError: if it cannot be found; names the field and the remedy.
  """
  name = config[who]["pretrained"]
  try:
    return published.locate(name)
  except FileNotFoundError as error:
    raise FileNotFoundError(f"config.{who}.pretrained={name!r}: {error}") from error


def teacher_is_published(config: Config) -> bool:
  """Returns True if the run uses a published teacher without training it."""
  teacher = config["teacher"]
  return bool(teacher["pretrained"] and not teacher["checkpoint"] and not teacher["train"]["steps"])


def published_params(
    config: Config, who: str, model: Model, place_fn: Callable[[np.ndarray], Any] = jax.device_put
) -> Params:
  """Loads the weights, without heads, of the published model that a config section names.

  Args:
    config: the run's config.
    who: "student" or "teacher".
    model: its functions, from `build_models`.
    place_fn: moves a host array to its devices.

  Raises:
    FileNotFoundError: if the model cannot be found.
    ValueError: if the model is damaged or does not fit.
  """
  return published.load_params(locate_published(config, who), model.config, place_fn)


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
  if not teacher_is_published(config):
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
      published.pinned(config["teacher"]["pretrained"]) if teacher_is_published(config) else None
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
  """Loads a pair from a folder that `save_pair` wrote, or from a workdir with such a `pair/`.

  Args:
    directory: the folder.

  Returns:
    The pair.

  Raises:
    FileNotFoundError: if there is no pair, or part of it is missing; names the part.
    ValueError: if a part is damaged, or the parts do not belong together.
  """
  directory = Path(directory)
  if (directory / "pair").is_dir():
    directory = directory / "pair"
  if not (directory / "pair.json").is_file():
    raise FileNotFoundError(
        f"{directory}: no trained pair (pair.json is missing): give the "
        "workdir of a finished run, or train one: python -m kdtw_jax.main"
    )
  saved = pair_checks.read_saved(directory / "pair.json")
  config, published_teacher = saved.config, saved.teacher
  tokenizer = load_tokenizer(pair_checks.part(directory / "student"))
  student = published.load_model(directory / "student")
  if published_teacher:
    config["teacher"]["pretrained"] = published_teacher
    teacher = _build(config, "teacher", tokenizer)
    teacher_params = published_params(config, "teacher", teacher)
  else:
    names = (str(directory / "student"), str(pair_checks.part(directory / "teacher")))
    check_same_vocabulary(tokenizer, load_tokenizer(directory / "teacher"), names=names)
    teacher, teacher_params, _ = published.load_model(directory / "teacher")
  pair_checks.check_vocabulary(tokenizer, Models(student.model, teacher), directory)
  duals = pair_checks.checked_duals(student.duals, student.model, config, directory / "student")
  pair_checks.check_finite(student.params, str(directory / "student"))
  pair_checks.check_finite(teacher_params, published_teacher or str(directory / "teacher"))
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
