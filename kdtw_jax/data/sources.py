"""Opening of a split by config: the one place that knows all kinds of sources."""

from collections.abc import Callable
import functools
import hashlib
import os

from ml_collections import ConfigDict

from kdtw_jax.data.datasets_source import arrow_files, lacks_split, open_datasets
from kdtw_jax.data.delimited import open_delimited
from kdtw_jax.data.example import Example, InMemorySource, Source
from kdtw_jax.data.held_out import hold_out
from kdtw_jax.data.joined import JoinedSource
from kdtw_jax.data.json_lines import open_json_lines
from kdtw_jax.data.parquet import open_parquet
from kdtw_jax.data.phrasebook import PhrasebookSource
from kdtw_jax.data.split_files import DIVISIBLE, missing_splits, split_paths
from kdtw_jax.data.text import open_text
from kdtw_jax.data.tfds_source import open_tfds

__all__ = ["SOURCES", "SPLITS", "Example", "Source", "divided_splits", "files_digest", "load_split"]

SPLITS = ("train", "validation", "test")


def load_split(config: ConfigDict, split: str) -> Source:
  """Opens one split.

  Args:
    config: the `data` section. `source` names the kind, see SOURCES; `train_split`,
      `validation_split` and `test_split` name the splits in the data; `num_train`,
      `num_validation` and `num_test` limit them (0: all), or say how many phrases to make. `join`
      consecutive examples make one; the limits count the joined ones. With `held_out`, splits that
      have no file are held out of train, see `hold_out`; they are divided before they are joined.
    split: "train", "validation" or "test".

  Returns:
    The examples.

  Raises:
    FileNotFoundError: if a file is missing.
    ValueError: if the split or the kind of source is unknown, or the data are invalid.
  """
  if split not in SPLITS:
    raise ValueError(f"split={split!r}: must be one of {', '.join(SPLITS)}")
  if config.source not in SOURCES:
    raise ValueError(f"config.data.source={config.source!r}: must be one of {', '.join(SOURCES)}")
  limit = config[f"num_{split}"]
  if limit < 0:
    raise ValueError(f"config.data.num_{split}={limit}: must be 0 (all) or more")
  source = _open(config, split, limit * config.join)
  return JoinedSource(source, config.join) if config.join > 1 else source


def divided_splits(config: ConfigDict) -> tuple[str, ...]:
  """Returns the splits that are held out of train, because they have no file of their own.

  Args:
    config: the `data` section.

  Returns:
    None, one or both of "validation" and "test"; none if `held_out` is 0.
  """
  return _missing_splits(config) if config.held_out else ()


def files_digest(config: ConfigDict, split: str) -> str:
  """Returns a hash of the bytes of a split's files, those of train if it is held out of it.

  Args:
    config: the `data` section.
    split: "train", "validation" or "test".

  Returns:
    The hash, the same in any folder; "" for a source that is not files of one's own.
  """
  read = "train" if split in divided_splits(config) else split
  if config.source == "datasets":
    paths = arrow_files(config.path, config[f"{read}_split"], subset=config.subset)
  elif config.source in _FILES:
    paths = split_paths(config, read)
  else:
    return ""
  digest = hashlib.blake2b(digest_size=16)
  for path in paths:
    with open(path, "rb") as file:
      digest.update(hashlib.file_digest(file, hashlib.blake2b).digest())
  return digest.hexdigest()


def _missing_splits(config: ConfigDict) -> tuple[str, ...]:
  if config.source == "datasets":
    lacks = functools.partial(lacks_split, _path(config), subset=config.subset)
    return tuple(split for split in DIVISIBLE if lacks(config[f"{split}_split"]))
  return missing_splits(config) if config.source in _FILES else ()


def _open(config: ConfigDict, split: str, limit: int) -> Source:
  divided = divided_splits(config)
  if divided and split in ("train", *divided):
    return hold_out(
        SOURCES[config.source](config, "train", 0),
        split,
        divided=divided,
        held_out=config.held_out,
        seed=config.seed,
        limit=limit,
    )
  if split in _missing_splits(config):
    return _open_missing(config, split)
  return SOURCES[config.source](config, split, limit)


def _open_missing(config: ConfigDict, split: str) -> Source:
  """Raises the error of a split without a file, with the remedy of holding it out of train."""
  remedy = (
      f"config.data.held_out={config.held_out:g} holds nothing out of train: set it, e.g. to 0.05"
  )
  if config.source not in ("text", "datasets") and os.path.isfile(config.path):
    raise ValueError(f"config.data.path={config.path!r}: one file, without {split}: {remedy}")
  try:
    return SOURCES[config.source](config, split, 0)
  except FileNotFoundError as error:
    raise FileNotFoundError(f"{error}. Give the split; or {remedy}") from error


def _text(config: ConfigDict, split: str, limit: int) -> InMemorySource:
  return open_text(
      _path(config),
      config[f"{split}_split"],
      source_field=config.source_field,
      target_field=config.target_field,
      limit=limit,
  )


def _rows(config: ConfigDict, split: str, limit: int, *, open_fn: Callable[..., Source]) -> Source:
  return open_fn(
      _path(config),
      config[f"{split}_split"],
      source_field=config.source_field,
      target_field=config.target_field,
      reference_fields=config.get("reference_fields", ()),
      limit=limit,
  )


def _path(config: ConfigDict) -> str:
  if not config.path:
    raise ValueError(
        f"config.data.path={config.path!r}: config.data.source={config.source!r} reads files: "
        "give their folder, or a file"
    )
  return config.path


def _phrasebook(config: ConfigDict, split: str, limit: int) -> Source:
  return PhrasebookSource(split, size=limit, seed=config.seed)


def _datasets(config: ConfigDict, split: str, limit: int) -> Source:
  return _rows(config, split, limit, open_fn=functools.partial(open_datasets, subset=config.subset))


def _tfds(config: ConfigDict, split: str, limit: int) -> Source:
  return open_tfds(
      config.tfds_name,
      config[f"{split}_split"],
      data_dir=config.tfds_data_dir,
      source_field=config.source_field,
      target_field=config.target_field,
      reference_fields=config.get("reference_fields", ()),
      limit=limit,
  )


_FILES = {
    "text": _text,
    "jsonl": functools.partial(_rows, open_fn=open_json_lines),
    "tsv": functools.partial(_rows, open_fn=functools.partial(open_delimited, kind="tsv")),
    "csv": functools.partial(_rows, open_fn=functools.partial(open_delimited, kind="csv")),
    "parquet": functools.partial(_rows, open_fn=open_parquet),
}
SOURCES = {"phrasebook": _phrasebook, **_FILES, "datasets": _datasets, "tfds": _tfds}
