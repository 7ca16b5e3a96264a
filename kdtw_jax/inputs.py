"""A run's examples, tokenizer and models, each made once, when first needed."""

import functools
import hashlib
import itertools
from pathlib import Path

import jax
import ml_collections
import numpy as np

from kdtw_jax import config_models, data
from kdtw_jax.base import BatchIterator
from kdtw_jax.models import Models
from kdtw_jax.terminal import tracked
from kdtw_jax.workdir import Workdir


class Inputs:
  """The data, the tokenizer and the model functions of a run."""

  def __init__(self, config: ml_collections.ConfigDict, workdir: Workdir):
    """Takes a validated config and the workdir of its run."""
    self._config, self._workdir = config, workdir

  @functools.cached_property
  def tokenizer(self) -> data.AnyTokenizer:
    """The tokenizer of the workdir, of the models that the run starts from, or a new one.

    All models and tokenizers that the config names must have the same vocabulary.
    """
    if self._workdir.begun("tokenizer"):
      return data.load_tokenizer(self._workdir.folder("tokenizer"))
    config = self._config
    paths = {
        f"config.{who}.pretrained={name!r}": config_models.locate_published(config, who)
        for who in ("student", "teacher")
        if (name := config[who].pretrained)
    }
    if config.teacher.checkpoint:
      other = Path(config.teacher.checkpoint) / "stages" / "tokenizer"
      paths["config.teacher.checkpoint"] = other
    if config.tokenizer.path:
      paths["config.tokenizer.path"] = Path(config.tokenizer.path)
    found = {name: _load_tokenizer(name, path) for name, path in paths.items()}
    for (a, first), (b, second) in itertools.pairwise(found.items()):
      data.check_same_vocabulary(first, second, names=(a, b))
    return next(iter(found.values()), None) or self._trained_tokenizer()

  def _trained_tokenizer(self) -> data.Tokenizer:
    """Trains a SentencePiece model on the training split and the instructions."""
    source = self.source("train")
    text = (side for i in range(len(source)) for side in (source[i].source, source[i].target))
    return data.train_tokenizer(
        [*text, *data.tokenizer_text(self._config.data.task)],
        seed=self._config.seed,
        kind=self._config.tokenizer.kind,
        vocab_size=self._config.tokenizer.vocab_size,
    )

  @functools.cached_property
  def models(self) -> Models:
    """The functions of the student and the teacher."""
    return config_models.build_models(self._config, self.tokenizer)

  @functools.cached_property
  def prompt_length(self) -> int:
    """The number of tokens that every batch reserves for the student's instruction."""
    return data.instruction_length(self.tokenizer, self._config)

  @functools.cache  # noqa: B019  one run per process
  def source(self, split: str) -> data.Source:
    """Returns the examples of the train, validation or test split."""
    return data.load_split(self._config.data, split)

  @functools.cache  # noqa: B019
  def tokenised(self, split: str) -> data.TokenisedSplit:
    """Returns the examples of a split as token ids.

    Evaluation splits drop no example and have a single shape, so each policy compiles once.
    """
    buckets, over_long = self._config.data.buckets, self._config.data.over_long
    if split != "train":
      buckets, over_long = buckets[-1:], "truncate"
    return data.tokenise(
        self.source(split),
        self.tokenizer,
        buckets=buckets,
        over_long=over_long,
        task=self._config.data.task,
        track_fn=functools.partial(tracked, description=split),
    )

  def shortest_output(self) -> tuple[float, float]:
    """Returns what a hard budget counts on, by validation data; see `data.shortest_output`."""
    quantile = self._config.decode.shortest_quantile
    return data.shortest_output(self.tokenised("validation"), self.tokenizer, quantile)

  def fingerprint(self, split: str) -> str:
    """Hashes a split's token ids and lengths; the same data give the same hash in any folder."""
    split_ids = self.tokenised(split)
    digest = hashlib.blake2b(digest_size=16)
    for array in (*split_ids.source, *split_ids.target, split_ids.example_id):
      digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()

  @functools.cache  # noqa: B019
  def text_fingerprint(self, split: str) -> str:
    """Returns a hash of a split's size and of up to 10,000 evenly spaced examples as text."""
    source = self.source(split)
    digest = hashlib.blake2b(str(len(source)).encode(), digest_size=16)
    for i in range(0, len(source), max(len(source) // 10_000, 1)):
      example = source[i]
      digest.update(repr((example.source, example.target)).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()

  def batches(
      self, split: str, *, batch_size: int, seed: int, budgets: tuple[float, ...] = ()
  ) -> BatchIterator:
    """Returns an endless iterator over a split, with this process's share of each batch."""
    return data.train_batches(
        self.tokenised(split),
        self.tokenizer,
        batch_size=batch_size,
        budgets=budgets,
        prompt_length=self.prompt_length,
        seed=seed,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )


def _load_tokenizer(field: str, path: Path) -> data.AnyTokenizer:
  """Reads a tokenizer; errors name the config field that points to it."""
  try:
    return data.load_tokenizer(path)
  except FileNotFoundError as error:
    raise FileNotFoundError(f"{field}: {error}") from error
