"""What a run begins with: its examples, tokenizer and models, each made once, when first needed.

Not what it trains: `experiment.py` builds on this.
"""

from collections.abc import Iterator
import functools
import itertools
from pathlib import Path

import jax
import ml_collections

from kdtw_jax import data, pair
from kdtw_jax.base import Batch
from kdtw_jax.files import replaced_folder
from kdtw_jax.models import Model
from kdtw_jax.training.progress import tracked


class Inputs:
  """The data, the tokenizer and the models' functions of a run."""

  def __init__(self, config: ml_collections.ConfigDict, workdir: Path):
    """Args: a validated config, and a workdir that belongs to it."""
    self.config, self.workdir = config, workdir

  def check_inputs(self) -> None:
    """Opens the data, finds the models and words the budgets: an error shall not wait for hours."""
    stages = set(self.config.stages)
    self.source("train")
    if stages & {"wheels", "evaluation"}:
      self.source("validation")
    if "evaluation" in stages:
      self.source("test")
    self.models, self.prompt_length  # noqa: B018  made once, here

  def tokenizer(self) -> data.AnyTokenizer:
    """The tokenizer of the models that the run begins with, or one trained; kept in the workdir.

    All that the config names must have the same vocabulary.
    """
    kept = self.workdir / "tokenizer"
    if kept.is_dir():
      return data.load_tokenizer(kept)
    paths = {
        f"config.{who}.pretrained={name!r}": pair.locate_published(self.config, who)
        for who in ("student", "teacher")
        if (name := self.config[who].pretrained)
    }
    if self.config.teacher.checkpoint:
      paths["config.teacher.checkpoint"] = Path(self.config.teacher.checkpoint) / "tokenizer"
    if self.config.tokenizer.path:
      paths["config.tokenizer.path"] = Path(self.config.tokenizer.path)
    found = {name: _load_tokenizer(name, path) for name, path in paths.items()}
    for (a, first), (b, second) in itertools.pairwise(found.items()):
      data.check_same_vocabulary(first, second, names=(a, b))
    tokenizer = next(iter(found.values()), None) or self._trained_tokenizer()
    with replaced_folder(kept) as folder:
      tokenizer.save(folder)
    return tokenizer

  def _trained_tokenizer(self) -> data.Tokenizer:
    """A SentencePiece model of the training split and the instructions."""
    source = self.source("train")
    text = (side for i in range(len(source)) for side in (source[i].source, source[i].target))
    return data.train_tokenizer(
        [*text, *data.tokenizer_text(self.config.data.task)],
        seed=self.config.seed,
        kind=self.config.tokenizer.kind,
        vocab_size=self.config.tokenizer.vocab_size,
    )

  @functools.cache  # noqa: B019  one experiment per run
  def _vocabulary(self) -> data.AnyTokenizer:
    return self.tokenizer()

  @functools.cached_property
  def models(self) -> tuple[Model, Model]:
    """(student, teacher)."""
    return pair.build_models(self.config, self._vocabulary())

  @functools.cached_property
  def prompt_length(self) -> int:
    """Tokens that every batch reserves for the student's instruction."""
    return data.instruction_length(self._vocabulary(), self.config)

  @functools.cache  # noqa: B019
  def source(self, split: str) -> data.Source:
    """The examples of train, validation or test."""
    return data.load_split(self.config.data, split)

  @functools.cache  # noqa: B019
  def tokenised(self, split: str) -> data.TokenisedSplit:
    """The examples of a split as token ids.

    Evaluation drops no example, and has one shape: each of its many policies compiles once.
    """
    buckets, over_long = self.config.data.buckets, self.config.data.over_long
    if split != "train":
      buckets, over_long = buckets[-1:], "truncate"
    return data.tokenise(
        self.source(split),
        self._vocabulary(),
        buckets=buckets,
        over_long=over_long,
        task=self.config.data.task,
        track_fn=functools.partial(tracked, description=split),
    )

  def batches(
      self,
      stage: ml_collections.ConfigDict,
      seed: int,
      *,
      split: str = "train",
      budgets: tuple[float, ...] = (),
      batch_size: int = 0,
  ) -> Iterator[Batch]:
    """An endless iterator over a split, this process's share of each batch."""
    return data.train_batches(
        self.tokenised(split),
        self._vocabulary(),
        batch_size=batch_size or stage.batch_size,
        budgets=budgets,
        prompt_length=self.prompt_length,
        seed=seed,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )


def _load_tokenizer(field: str, path: Path) -> data.AnyTokenizer:
  """Reads a tokenizer; what is wrong with it is said of the field that names it."""
  try:
    return data.load_tokenizer(path)
  except FileNotFoundError as error:
    raise FileNotFoundError(f"{field}: {error}") from error
