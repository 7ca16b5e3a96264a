"""Which files hold the splits of one's own data: one per split in a folder, or one file for all.

Not here: what is in them (`text`, `json_lines`, `delimited` and `parquet`).
"""

import os

from ml_collections import ConfigDict

from kdtw_jax.data.lines import listing

DIVISIBLE = ("validation", "test")


def split_file(path: str, split: str, kind: str) -> str:
  """Returns the file of a split: `path` if that is a file, else `<split>.<kind>` in the folder."""
  return path if os.path.isfile(path) else os.path.join(path, f"{split}.{kind}")


def expected_files(path: str, kind: str) -> str:
  """Says which files a kind of source expects at `path` and what is there, for errors."""
  return (
      f"config.data.source={kind!r} expects files named <split>.{kind} in "
      f"config.data.path={path!r}, the splits named by config.data.train_split, validation_split "
      f"and test_split, or one file as the path; found: {listing(path, f'.{kind}')}"
  )


def missing_splits(config: ConfigDict) -> tuple[str, ...]:
  """Returns those of validation and test that have no file at all.

  A split of which a file is there but cannot be read is not missing.

  Args:
    config: the `data` section, with a source that reads files.
  """
  if config.source != "text" and os.path.isfile(config.path):
    return DIVISIBLE
  return tuple(
      split for split in DIVISIBLE if not any(map(os.path.lexists, split_paths(config, split)))
  )


def split_paths(config: ConfigDict, split: str) -> list[str]:
  """Returns the files that a source that reads files has for a split, whether there or not.

  Args:
    config: the `data` section.
    split: "train", "validation" or "test".
  """
  name = config[f"{split}_split"]
  if config.source != "text":
    return [split_file(config.path, name, config.source)]
  sides = (config.source_field, config.target_field)
  return [os.path.join(config.path, f"{field}.{name}.txt") for field in sides]
