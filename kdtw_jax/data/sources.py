"""Opening of a split by config: the one place that knows all kinds of sources."""

from ml_collections import ConfigDict

from kdtw_jax.data.example import Example, Source
from kdtw_jax.data.joined import JoinedSource
from kdtw_jax.data.json_lines import open_json_lines
from kdtw_jax.data.phrasebook import PhrasebookSource
from kdtw_jax.data.text import open_text
from kdtw_jax.data.tfds_source import open_tfds

__all__ = ["SOURCES", "SPLITS", "Example", "Source", "load_split"]

SPLITS = ("train", "validation", "test")


def load_split(config: ConfigDict, split: str) -> Source:
  """Opens one split.

  Args:
    config: the `data` section. `source` names the kind, see SOURCES; `train_split`,
      `validation_split` and `test_split` name the splits in the data; `num_train`,
      `num_validation` and `num_test` limit them (0: all), or say how many phrases to make. `join`
      consecutive examples make one; the limits count the joined ones.
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
  source = SOURCES[config.source](config, split, limit * config.join)
  return JoinedSource(source, config.join) if config.join > 1 else source


def _text(config: ConfigDict, split: str, limit: int) -> Source:
  return open_text(
      _path(config),
      config[f"{split}_split"],
      source_field=config.source_field,
      target_field=config.target_field,
      limit=limit,
  )


def _json_lines(config: ConfigDict, split: str, limit: int) -> Source:
  return open_json_lines(
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
        f"config.data.path={config.path!r}: config.data.source={config.source!r} reads a folder: "
        "give its path"
    )
  return config.path


def _phrasebook(config: ConfigDict, split: str, limit: int) -> Source:
  return PhrasebookSource(split, size=limit, seed=config.seed)


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


SOURCES = {"phrasebook": _phrasebook, "text": _text, "jsonl": _json_lines, "tfds": _tfds}
