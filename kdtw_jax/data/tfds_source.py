"""tensorflow-datasets through `tfds.data_source`: random access, without TensorFlow.

Data must already be prepared in a random-access format (array_record); nothing is downloaded.
"""

from collections.abc import Mapping, Sequence
import importlib
import os
import shlex
from typing import Any, SupportsIndex

from kdtw_jax.data.example import Example, check_index
from kdtw_jax.files import first_line

# Without TensorFlow, builders are found by name only after these groups are imported.
_IMPORTED_ON_DEMAND = ("translate", "summarization")


class TfdsSource:
  """A split of a prepared data set; two features, nested ones named with ".", make an example."""

  def __init__(
      self,
      records: Any,
      *,
      where: str,
      source_field: str,
      target_field: str,
      reference_fields: Sequence[str] = (),
      limit: int = 0,
  ):
    """Makes a source.

    Args:
      records: a sequence of mappings, from `tfds.data_source`.
      where: name of the data set and split, for messages.
      source_field: the feature with the task input.
      target_field: the feature with the target.
      reference_fields: features with further references; an example may lack them.
      limit: largest number of examples to keep; 0 keeps all.

    Raises:
      ValueError: if the split is empty.
    """
    if not len(records):
      raise ValueError(f"{where}: the split is empty: choose a split that holds examples")
    self._records = records
    self._where = where
    self._required = (source_field, target_field)
    self._further = tuple(reference_fields)
    self._size = min(limit, len(records)) if limit else len(records)

  def __len__(self) -> int:
    return self._size

  def __getitem__(self, index: SupportsIndex) -> Example:
    number = check_index(index, self._size)
    record = self._records[number]
    source, target = (self._text(record, number, field) for field in self._required)
    further = (
        self._text(record, number, field)
        for field in self._further
        if field.split(".")[0] in record
    )
    return Example(number, source, target, (target, *filter(None, further)))

  def _text(self, record: Mapping[str, Any], number: int, field: str) -> str:
    value: Any = record
    for part in field.split("."):
      if not isinstance(value, Mapping) or part not in value:
        raise ValueError(
            f"{self._where}, example {number}: no feature '{field}', only "
            f"{', '.join(map(repr, record))}: name the features by config.data.source_field and "
            "config.data.target_field"
        )
      value = value[part]
    if isinstance(value, bytes):
      try:
        return value.decode("utf-8")
      except UnicodeDecodeError as error:
        raise ValueError(
            f"{self._where}, example {number}: feature '{field}' is not valid UTF-8: prepare the "
            "data set from UTF-8 text"
        ) from error
    if not isinstance(value, str):
      raise ValueError(
          f"{self._where}, example {number}: feature '{field}' is a {type(value).__name__}, not "
          "text: choose a text feature"
      )
    return value


def open_tfds(
    name: str,
    split: str,
    *,
    data_dir: str,
    source_field: str,
    target_field: str,
    reference_fields: Sequence[str] = (),
    limit: int = 0,
) -> TfdsSource:
  """Opens one split of a prepared tensorflow-datasets data set.

  Args:
    name: name of the data set, e.g. "wmt14_translate/de-en".
    split: name of the split in the data set; slices such as "train[:1%]" work.
    data_dir: where it was prepared; "" for the default folder.
    source_field: the feature with the task input, e.g. "en".
    target_field: the feature with the target, e.g. "de".
    reference_fields: features with further references; an example may lack them.
    limit: largest number of examples to keep; 0 keeps all.

  Returns:
    The examples.

  Raises:
    ValueError: if a field is not set, the data set is not prepared in a random-access format, or
      the split is unknown or empty.
  """
  for field, value in {
      "tfds_name": name,
      "source_field": source_field,
      "target_field": target_field,
  }.items():
    if not value:
      raise ValueError(f"config.data.{field}={value!r}: config.data.source='tfds' needs it")
  return TfdsSource(
      _records(name, split, data_dir),
      where=f"{name}, split '{split}'",
      source_field=source_field,
      target_field=target_field,
      reference_fields=reference_fields,
      limit=limit,
  )


def _records(name: str, split: str, data_dir: str) -> Any:
  import tensorflow_datasets as tfds  # here: it takes a second

  if ":/" in name or name.startswith("huggingface:"):
    raise ValueError(
        f"config.data.tfds_name={name!r}: must be a data set of tensorflow-datasets, e.g. "
        "wmt14_translate/de-en, that is prepared in config.data.tfds_data_dir"
    )
  for group in _IMPORTED_ON_DEMAND:
    importlib.import_module(f"tensorflow_datasets.{group}")
  directory = os.path.expanduser(data_dir) if data_dir else None
  builder = None
  try:
    builder = tfds.builder(name, data_dir=directory)
    return builder.as_data_source(split=split)
  except (
      ValueError,
      NotImplementedError,
      AssertionError,
      ImportError,
  ) as error:  # what tfds raises
    reason = first_line(error)
    if builder is not None and not builder.is_prepared():
      reason = f"it is not prepared in {builder.data_dir}."
    raise ValueError(
        f"config.data.tfds_name={name!r}, split '{split}', config.data.tfds_data_dir={data_dir!r}: "
        f"{reason} Prepare it once for random access, where tensorflow is installed: "
        f"`{build_command(name, data_dir)}`. Or give files of your own by config.data.source: "
        "'jsonl', 'csv', 'tsv', 'parquet' or 'text'"
    ) from error


def build_command(name: str, data_dir: str) -> str:
  """Returns the command that downloads a data set and prepares it for random access."""
  folder = ["--data_dir", data_dir] if data_dir else []
  return shlex.join(["tfds", "build", name, "--file_format=array_record", *folder])
