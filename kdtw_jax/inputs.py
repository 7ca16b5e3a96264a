"""A run's examples, tokenizer and models, each made once, when first needed."""

from collections.abc import Sequence
import functools
import hashlib
import itertools
from pathlib import Path
import random
import time
from typing import Any

from jax.sharding import Mesh
import ml_collections

from kdtw_jax import config_models, data, processes
from kdtw_jax.base import BatchIterator
from kdtw_jax.files import not_written
from kdtw_jax.models import Models
from kdtw_jax.terminal import print_line, tracked
from kdtw_jax.workdir import Workdir

_MOST_PAIRS = 500_000  # whose texts a tokenizer is trained on: a million sentences
# Fields of `data` that decide which examples train holds.
_MAKE_EXAMPLES = (
    "source",
    "source_field",
    "target_field",
    "subset",
    "tfds_name",
    "train_split",
    "num_train",
    "join",
    "held_out",
    "seed",
)


class Inputs:
  """The data, the tokenizer and the model functions of a run."""

  def __init__(self, config: ml_collections.ConfigDict, workdir: Workdir, mesh: Mesh | None = None):
    """Takes a validated config, the workdir of its run, and the devices that the models share."""
    self._config, self._workdir, self._mesh = config, workdir, mesh

  @functools.cached_property
  def tokenizer(self) -> data.AnyTokenizer:
    """The tokenizer of the workdir, of the models that the run starts from, or a new one.

    All models and tokenizers that the config names must have the same vocabulary.
    """
    if self._workdir.begun("tokenizer"):
      return data.load_tokenizer(self._workdir.folder("tokenizer"), self._languages)
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
    found = {name: _load_tokenizer(name, path, self._languages) for name, path in paths.items()}
    for (a, first), (b, second) in itertools.pairwise(found.items()):
      data.check_same_vocabulary(first, second, names=(a, b))
    return next(iter(found.values()), None) or self._trained_tokenizer()

  @property
  def _languages(self) -> data.Languages:
    fields = self._config.tokenizer
    return fields.source_language, fields.target_language

  def _trained_tokenizer(self) -> data.Tokenizer:
    """Trains a SentencePiece model on the training split and the instructions."""
    source = self.source("train")
    numbers = range(len(source))
    if len(source) > _MOST_PAIRS:
      numbers = sorted(random.Random(self._config.seed).sample(numbers, _MOST_PAIRS))
    examples = (source[i] for i in numbers)
    text = (side for example in examples for side in (example.source, example.target))
    return data.train_tokenizer(
        [*text, *data.tokenizer_text(self._config.data.task)],
        seed=self._config.seed,
        kind=self._config.tokenizer.kind,
        vocab_size=self._config.tokenizer.vocab_size,
    )

  @functools.cached_property
  def models(self) -> Models:
    """The functions of the student and the teacher."""
    return config_models.build_models(self._config, self.tokenizer, self._mesh)

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
    """Returns the examples of a split as token ids; those of train are files of the workdir.

    Evaluation splits drop no example and have a single shape, so each policy compiles once.

    Raises:
      OSError: if the tokens of train cannot be written.
      ValueError: if no example is left.
    """
    if split == "train" and (cached := self._cached_train):
      return cached.split
    buckets, over_long = self._buckets(split)
    return data.tokenise(
        self.source(split),
        self.tokenizer,
        buckets=buckets,
        over_long=over_long,
        task=self._config.data.task,
        track_fn=functools.partial(tracked, description=split),
    )

  def _buckets(self, split: str) -> tuple[Sequence[tuple[int, int]], str]:
    """Returns the buckets of a split, and what becomes of examples that they do not hold."""
    if split == "train":
      return self._config.data.buckets, self._config.data.over_long
    return self._config.data.buckets[-1:], "truncate"

  @functools.cached_property
  def _cached_train(self) -> data.CachedTokens | None:
    """The tokens of train in the workdir, written there by a run that holds it.

    None in a process whose run does not hold it and finds none of this data there.
    """
    found = []
    processes.first_alone(lambda: found.append(self._read_train(self._workdir.is_held)))
    return found[0] if found else self._read_train(may_write=False)

  def _read_train(self, may_write: bool) -> data.CachedTokens | None:
    """Opens the tokens of train; tokenises and writes them if they are not there."""
    folder, (buckets, over_long) = self._workdir.path / "data" / "train", self._buckets("train")
    made_of = self._made_of("train")
    read = functools.partial(
        data.read_cache,
        folder,
        self.source("train"),
        self.tokenizer,
        made_of=made_of,
        buckets=buckets,
        over_long=over_long,
        task=self._config.data.task,
    )
    started = time.monotonic()
    try:
      cached = read()
      saved = max(cached.seconds - (time.monotonic() - started), 0)
      _say_cached(folder, cached, f"{saved:.1f} s saved")
      return cached
    except FileNotFoundError:
      pass
    except ValueError as error:
      print_line("data", f"{error}; tokenised again")
    if not may_write:
      return None
    parts = data.tokenised_parts(
        self.source("train"),
        self.tokenizer,
        buckets=buckets,
        over_long=over_long,
        track_fn=functools.partial(tracked, description="train"),
    )
    try:
      data.write_cache(folder, parts, made_of=made_of, buckets=buckets)
    except OSError as error:
      raise not_written(f"tokens {folder}", error, remedy="The same command goes on") from error
    cached = read()
    _say_cached(folder, cached, f"made in {cached.seconds:.1f} s")
    return cached

  def _made_of(self, split: str) -> dict[str, Any]:
    """Returns all that decides the tokens of a split. A task is no part of them."""
    fields, (buckets, over_long) = self._config.data, self._buckets(split)
    return {
        "text": self.text_fingerprint(split),
        "files": data.files_digest(fields, split),
        "tokenizer": self.tokenizer.digest(),
        "data.buckets": [list(bucket) for bucket in buckets],
        "data.over_long": over_long,
        **{f"data.{name}": fields[name] for name in _MAKE_EXAMPLES},
    }

  def shortest_output(self) -> tuple[float, float]:
    """Returns what a hard budget counts on, by validation data; see `data.shortest_output`."""
    quantile = self._config.decode.shortest_quantile
    return data.shortest_output(self.tokenised("validation"), self.tokenizer, quantile)

  @functools.cache  # noqa: B019
  def fingerprint(self, split: str) -> str:
    """Hashes a split's token ids and lengths; the same data give the same hash in any folder."""
    if split == "train" and (cached := self._cached_train):
      return cached.digest
    return data.tokens_digest(self.tokenised(split))

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
    """Returns an endless iterator over a split."""
    return data.train_batches(
        self.tokenised(split),
        self.tokenizer,
        batch_size=batch_size,
        budgets=budgets,
        prompt_length=self.prompt_length,
        seed=seed,
    )


def _say_cached(folder: Path, cached: data.CachedTokens, note: str) -> None:
  size, examples = cached.num_bytes / 2**20, len(cached.split.example_id)
  print_line("data", f"train as tokens: {examples:,} examples in {folder}, {size:,.1f} MiB, {note}")


def _load_tokenizer(field: str, path: Path, languages: data.Languages) -> data.AnyTokenizer:
  """Reads a tokenizer; errors name the config field that points to it."""
  try:
    return data.load_tokenizer(path, languages)
  except FileNotFoundError as error:
    raise FileNotFoundError(f"{field}: {error}") from error
