"""Aligned text files `<field>.<split>.txt`, named as for `tfds.TranslateFolder`.

One text per line, e.g. `en.train.txt` and `de.train.txt`; line i of one file goes with line i of
the other.
"""

import os

from kdtw_jax.data.example import InMemorySource, keep_filled
from kdtw_jax.data.lines import listing, read_lines


def open_text(
    path: str, split: str, *, source_field: str, target_field: str, limit: int = 0
) -> InMemorySource:
  """Opens one split of a folder of aligned text files.

  Args:
    path: the folder.
    split: name of the split in the file names, e.g. "train".
    source_field: first part of the name of the source file, e.g. "en".
    target_field: the same for the target file, e.g. "de".
    limit: largest number of examples to keep; 0 keeps all.

  Returns:
    The examples; lines with an empty side are dropped with a log message.

  Raises:
    FileNotFoundError: if a file is missing.
    ValueError: if the files differ in length, have only empty lines, or cannot be read as text.
  """
  sides = [_read_side(path, field, split) for field in (source_field, target_field)]
  (source_file, sources), (target_file, targets) = sides
  if len(sources) != len(targets):
    raise ValueError(
        f"{source_file} has {len(sources)} lines but {target_file} has {len(targets)}: "
        "aligned files need one target line for each source line"
    )
  where = f"split '{split}' ({source_file}, {target_file})"
  rows = list(zip(sources, targets, strict=True))
  return InMemorySource(keep_filled(rows, limit=limit, where=where))


def _read_side(path: str, field: str, split: str) -> tuple[str, list[str]]:
  file = os.path.join(path, f"{field}.{split}.txt")
  expected = (
      f"config.data.source='text' expects files named <field>.<split>.txt in "
      f"config.data.path={path!r}, the fields named by config.data.source_field and "
      f"config.data.target_field, the split by config.data.train_split, validation_split and "
      f"test_split; found: {listing(path, '.txt')}"
  )
  return file, read_lines(file, expected=expected)
