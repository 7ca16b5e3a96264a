"""Parquet: text columns of every kind are read; what is damaged, or no text, is named."""

import sys

import pyarrow as pa
import pyarrow.parquet
import pytest

from kdtw_jax import data
from tests.own_data import config_of, pairs_of
from tests.refusing import refused


def table(folder, columns, **options):
  file = folder / "train.parquet"
  made = columns if isinstance(columns, pa.Table) else pa.table(columns)
  pyarrow.parquet.write_table(made, file, **options)
  return config_of("parquet", file)


def pairs(config):
  return pairs_of(data.load_split(config, "train"))


@pytest.mark.parametrize(
    "kind", (pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())), ids=str
)
def test_text_of_every_kind_is_read(tmp_path, kind):
  columns = {"id": [1, 2], "de": pa.array(["Öl", "Katze"], kind), "en": pa.array(["oil", "cat"])}
  assert pairs(table(tmp_path, columns)) == [("oil", "Öl"), ("cat", "Katze")]


def test_many_row_groups_keep_their_order(tmp_path):
  columns = {"en": [f"s{i}" for i in range(100)], "de": [f"t{i}" for i in range(100)]}
  config = table(tmp_path, columns, row_group_size=7)
  assert pairs(config) == [(f"s{i}", f"t{i}") for i in range(100)]


def test_a_field_of_a_record_is_named_with_a_dot(tmp_path):
  rows = [{"en": "oil", "de": "Öl", "fr": "huile"}, {"en": "cat", "de": "Katze", "fr": "chat"}]
  config = table(tmp_path, {"id": [1, 2], "translation": rows})
  config.update(source_field="translation.en", target_field="translation.fr")
  assert pairs(config) == [("oil", "huile"), ("cat", "chat")]
  config.target_field = "translation.it"
  refused(
      lambda: pairs(config),
      "no column 'translation.it', only 'id', 'translation.en', 'translation.de', ",
  )


def test_absent_texts_are_empty(tmp_path):
  columns = {"en": ["a", None, "c"], "de": ["x", "y", None], "more": [None, "m", "n"]}
  config = table(tmp_path, columns)
  config.reference_fields = ("more", "none")
  source = data.load_split(config, "train")
  assert len(source) == 1 and source[0].references == ("x",)


TABLES = [
    ({"en": ["a"], "de": [3]}, "train.parquet, column 'de': holds int64, not text: convert it"),
    ({"en": ["a"], "de": [["b"]]}, "column 'de': holds list<"),
    ({"en": [b"a"], "de": ["b"]}, "column 'en': holds binary, not text"),
    ({"en": ["a"], "De": ["b"]}, "no column 'de', only 'en', 'De': set config.data.target_field"),
    ({"en": pa.array([], pa.string()), "de": pa.array([], pa.string())}, "(0 rows read)"),
    (pa.table([["a"], ["b"], ["c"]], ["en", "de", "en"]), "column 'en' occurs twice"),
]


@pytest.mark.parametrize("columns, said", TABLES, ids=range(len(TABLES)))
def test_a_table_without_the_texts(tmp_path, columns, said):
  config = table(tmp_path, columns)
  refused(lambda: pairs(config), said, "train.parquet")


def test_text_that_is_not_utf8(tmp_path):
  bad = pa.array([b"a", b"Gr\xfcn"]).view(pa.string())
  config = table(tmp_path, {"en": ["a", "b"], "de": bad})
  refused(lambda: pairs(config), "train.parquet, column 'de': not valid UTF-8", "as UTF-8 text")


@pytest.mark.parametrize(
    "damage",
    (
        lambda content: b"",
        lambda content: b"en,de\n",
        lambda content: content[:-9],
        lambda content: content[:4] + bytes(len(content) - 40) + content[-36:],
    ),
    ids=("empty", "text", "cut", "zeros"),
)
def test_a_damaged_file(tmp_path, damage):
  config = table(tmp_path, {"en": ["a"] * 50, "de": ["b"] * 50})
  file = tmp_path / "train.parquet"
  file.write_bytes(damage(file.read_bytes()))
  refused(lambda: pairs(config), f"{file}: cannot be read as Parquet (", "download it again")


def test_without_pyarrow_the_command_that_installs_it_is_said(tmp_path, monkeypatch):
  config = table(tmp_path, {"en": ["a"], "de": ["b"]})
  monkeypatch.setitem(sys.modules, "pyarrow", None)
  said = ("config.data.source='parquet': needs pyarrow", "pip install 'kdtw_jax[parquet]'")
  refused(lambda: pairs(config), *said)
