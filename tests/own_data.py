"""Files of one's own data in every format, and the config that reads them."""

import csv
import json

from ml_collections import ConfigDict
import pyarrow
import pyarrow.parquet

from kdtw_jax import config as config_lib

ONE_FILE = ("jsonl", "tsv", "csv", "parquet")  # kinds whose examples may all be in one file
PAIRS = (("A dog runs.", "Ein Hund läuft."), ("Two cats.", "Zwei Katzen."), ("Snow!", "Schnee!"))


def rows_of(pairs):
  return [{"en": source, "de": target} for source, target in pairs]


def write(folder, kind, rows, split="train"):
  """Writes a split of records into a folder as a source expects it; returns the last file."""
  path = folder / f"{split}.{kind}"
  if kind == "text":
    for field in rows[0]:
      path = folder / f"{field}.{split}.txt"
      path.write_text("".join(f"{row[field]}\n" for row in rows), "utf-8")
  elif kind == "jsonl":
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
  elif kind == "parquet":
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
  else:
    with path.open("w", encoding="utf-8", newline="") as file:
      table = csv.DictWriter(file, [*rows[0]], delimiter={"csv": ",", "tsv": "\t"}[kind])
      table.writeheader()
      table.writerows(rows)
  return path


def config_of(kind, path, **fields) -> ConfigDict:
  """The `data` section that reads a folder or a file, whole splits at that."""
  config = config_lib.defaults().data
  config.update(source=kind, path=str(path), num_train=0, num_validation=0, num_test=0)
  config.update(fields)
  return config


def pairs_of(source):
  return [(source[i].source, source[i].target) for i in range(len(source))]
