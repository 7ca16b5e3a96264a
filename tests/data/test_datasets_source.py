"""Data sets of Hugging Face's layout: rows stay on disk, and what is missing is named."""

import itertools
import json
import logging
import sys

import datasets
from huggingface_hub import constants
import pyarrow as pa
import pytest

from kdtw_jax import data
from kdtw_jax.data.datasets_source import DatasetsSource
from tests.own_data import config_of, pairs_of, rows_of, write
from tests.refusing import refused

MANY = [(f"Source {i}.", f"Ziel {i}.") for i in range(300)]
RECORD = datasets.Features({"translation": datasets.Translation(["en", "de"])})


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
  """Arrow files of a test are its own, and no test waits for the hub."""
  monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
  monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def saved(folder, **splits):
  made = {name: datasets.Dataset.from_list(rows) for name, rows in splits.items()}
  datasets.DatasetDict(made).save_to_disk(folder)
  return config_of("datasets", folder)


def pairs(config, split="train"):
  return pairs_of(data.load_split(config, split))


@pytest.mark.parametrize("kind", ("parquet", "jsonl", "csv"))
def test_a_folder_of_files_has_its_splits_and_their_slices(tmp_path, kind):
  folder = tmp_path / "folder"
  folder.mkdir()
  for split, some in {"train": MANY, "validation": MANY[:7], "test": MANY[7:9]}.items():
    write(folder, kind, rows_of(some), split)
  config = config_of("datasets", folder)
  assert data.divided_splits(config) == ()
  assert [len(data.load_split(config, split)) for split in ("train", "validation", "test")] == [
      *(300, 7, 2)
  ]
  assert pairs(config) == MANY
  config.update(train_split="train[:80%]", validation_split="train[80%:]+test", held_out=0.1)
  assert data.divided_splits(config) == ()
  assert pairs(config) == MANY[:240] and pairs(config, "validation") == MANY[240:] + MANY[7:9]


def test_one_file_is_train(tmp_path):
  config = config_of("datasets", write(tmp_path, "jsonl", rows_of(MANY)), held_out=0.1)
  assert data.divided_splits(config) == ("validation", "test")
  parts = [pairs(config, split) for split in ("train", "validation", "test")]
  assert sorted(itertools.chain(*parts)) == sorted(MANY) and all(parts)


def test_a_configuration_is_chosen_by_its_name(tmp_path):
  folder = tmp_path / "folder"
  for name, some in {"a": MANY[:2], "b": MANY[2:5]}.items():
    (folder / name).mkdir(parents=True)
    write(folder / name, "jsonl", rows_of(some))
  configs = [{"config_name": name, "data_files": f"{name}/*.jsonl"} for name in "ab"]
  (folder / "README.md").write_text(f"---\nconfigs: {json.dumps(configs)}\n---\n", "utf-8")
  config = config_of("datasets", folder)
  refused(lambda: pairs(config), "'a', 'b'", "set config.data.subset to one of them")
  config.subset = "c"
  refused(lambda: pairs(config), "config.data.subset='c': ", "Available: ['a', 'b']")
  config.subset = "b"
  assert pairs(config) == MANY[2:5]


def test_a_field_of_a_record_is_named_with_a_dot(tmp_path):
  rows = [{"translation": dict(zip(("en", "de"), pair, strict=True))} for pair in MANY]
  datasets.Dataset.from_list(rows, features=RECORD).save_to_disk(tmp_path / "one")
  config = config_of("datasets", tmp_path / "one")
  config.update(source_field="translation.de", target_field="translation.en")
  assert pairs(config) == [(b, a) for a, b in MANY]
  config.source_field = "translation.it"
  refused(lambda: pairs(config), "no column 'translation.it', only 'translation.", "source_field")


def test_rows_are_read_when_they_are_asked_for(tmp_path):
  config = saved(tmp_path / "saved", train=rows_of(MANY))
  (source,) = [data.load_split(config, "train")]
  assert isinstance(source, DatasetsSource)
  assert [(e.source, e.target) for e in source] == MANY and list(source)[9] == source[9]
  (file,) = source._rows.cache_files
  assert file["filename"].startswith(str(tmp_path / "saved"))  # mapped, not copied


def test_empty_sides_are_dropped_and_absent_references_too(tmp_path, caplog):
  sides = [("a", "x"), (None, "y"), (" \u2003", "z"), ("d", ""), ("e", "v"), ("f", "u")]
  rows = [{"en": s, "de": t, "more": None if s == "a" else "m"} for s, t in sides]
  config = saved(tmp_path / "saved", train=rows)
  config.reference_fields = ("more", "none")
  with caplog.at_level(logging.WARNING):
    source = data.load_split(config, "train")
  assert "dropped 3 of 6 examples" in caplog.text and "no column 'none'" in caplog.text
  assert [(e.id, e.source, e.references) for e in source] == [
      (0, "a", ("x",)),
      (1, "e", ("v", "m")),
      (2, "f", ("u", "m")),
  ]
  assert [source[i] for i in range(3)] == list(source)
  config.num_train = 2
  assert [e.source for e in data.load_split(config, "train")] == ["a", "e"]
  empty = saved(tmp_path / "empty", train=rows[1:4])
  refused(lambda: pairs(empty), "no example with both sides filled (3 rows read)")


def test_missing_splits_are_held_out_of_train_as_of_files(tmp_path):
  config = saved(tmp_path / "saved", train=rows_of(MANY), test=rows_of(MANY[:3]))
  refused(
      lambda: pairs(config, "validation"),
      "no split 'validation', only 'train', 'test'",
      "config.data.held_out=0 holds nothing out of train: set it",
  )
  config.held_out = 0.1
  assert data.divided_splits(config) == ("validation",)
  as_csv = config_of("csv", write(tmp_path, "csv", rows_of(MANY)), held_out=0.1)
  assert pairs(config, "test") == MANY[:3]
  (tmp_path / "folder").mkdir()
  for split, some in {"train": MANY, "test": MANY[:3]}.items():
    write(tmp_path / "folder", "csv", rows_of(some), split)
  as_csv.path = str(tmp_path / "folder")
  for split in ("train", "validation"):
    assert pairs(config, split) == pairs(as_csv, split)


def test_the_digest_is_of_the_data(tmp_path):
  first, same, other = (
      saved(tmp_path / name, train=rows_of(some))
      for name, some in (("a", MANY), ("b", MANY), ("c", MANY[::-1]))
  )
  digests = [data.files_digest(config, "train") for config in (first, same, other)]
  assert digests[0] == digests[1] != digests[2] and all(digests)


def test_unknown_names(tmp_path):
  config = saved(tmp_path / "saved", train=rows_of(MANY))
  config.train_split = "dev"
  refused(lambda: pairs(config), "no split 'dev', only 'train': name one by config.data.train_spl")
  config.train_split = "train[:5]"
  refused(lambda: pairs(config), "split 'train[:5]' cannot be read", "save_to_disk")
  config.update(train_split="train", target_field="fr")
  refused(lambda: pairs(config), "no column 'fr', only 'en', 'de': set config.data.target_field")
  config.subset = "de-en"
  refused(lambda: pairs(config), "config.data.subset='de-en'", "set config.data.subset to ''")


COLUMNS = [
    ({"en": ["a"], "de": [3]}, "column 'de': holds Value('int64'), not text"),
    ({"en": ["a"], "de": [["b"]]}, "column 'de': holds List("),
    ({"en": ["a", "b"], "de": pa.array([b"a", b"Gr\xfcn"]).view(pa.string())}, "as UTF-8 text"),
]


@pytest.mark.parametrize("columns, said", COLUMNS, ids=range(len(COLUMNS)))
def test_columns_that_are_no_text(tmp_path, columns, said):
  datasets.Dataset(pa.table(columns)).save_to_disk(tmp_path / "saved")
  refused(lambda: pairs(config_of("datasets", tmp_path / "saved")), str(tmp_path / "saved"), said)


@pytest.mark.parametrize(
    "files, said",
    (
        ({}, "cannot be read as a data set (The directory at"),
        ({"train.jsonl": '{"en": "a"\n'}, "cannot be read as a data set (JSON parse error"),
        ({"folder.py": "raise SystemExit"}, "code of a data set is never run: give files of data"),
        ({"state.json": "{"}, "cannot be read as a data set"),
    ),
    ids=("empty", "damaged", "code", "state"),
)
def test_a_folder_that_is_no_data_set(tmp_path, files, said):
  folder = tmp_path / "folder"
  folder.mkdir()
  for name, content in files.items():
    (folder / name).write_text(content, "utf-8")
  refused(lambda: pairs(config_of("datasets", folder)), f"config.data.path='{folder}': ", said)


def test_a_hub_out_of_reach():
  config = config_of("datasets", "owner/name@main")
  command = "`hf download owner/name --repo-type=dataset --local-dir=DIR`"
  refused(lambda: pairs(config), "path='owner/name@main': no such folder, and the hub", command)


def test_a_name_that_the_hub_does_not_know(monkeypatch):
  def unknown(*args, **kwargs):
    raise datasets.exceptions.DatasetNotFoundError("Dataset 'owner/name' doesn't exist on the Hub")

  monkeypatch.setattr(datasets, "load_dataset_builder", unknown)
  refused(
      lambda: pairs(config_of("datasets", "owner/name")),
      "neither a folder nor a data set of the hub that may be read (Dataset 'owner/name'",
      "`hf auth login`",
  )


def test_without_the_library_the_command_that_installs_it_is_said(monkeypatch):
  monkeypatch.setitem(sys.modules, "datasets", None)
  said = ("config.data.source='datasets': needs the library", "pip install 'kdtw_jax[datasets]'")
  refused(lambda: pairs(config_of("datasets", "a/b")), *said)
