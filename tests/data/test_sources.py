"""Every kind of source keeps one contract; bad input is refused by name."""

import importlib
import json
import logging
import os
import sys

import datasets
from ml_collections import ConfigDict
import pytest
import tensorflow_datasets as tfds

from kdtw_jax import data
from kdtw_jax.data.sources import SOURCES
from kdtw_jax.data.tfds_source import TfdsSource
from tests import own_data
from tests.own_data import ONE_FILE, PAIRS


class TinyPairs(tfds.core.GeneratorBasedBuilder):
  """Two splits of aligned sentences, with a nested further reference."""

  VERSION = tfds.core.Version("1.0.0")

  def _info(self):
    text = tfds.features.Text()
    features = tfds.features.FeaturesDict({"en": text, "de": text, "more": {"ref": text}})
    return tfds.core.DatasetInfo(builder=self, features=features)

  def _split_generators(self, dl_manager):
    del dl_manager
    return {"train": self._generate_examples("train"), "test": self._generate_examples("test")}

  def _generate_examples(self, split):
    for number, (source, target) in enumerate(PAIRS):
      yield number, {"en": f"{source} {split}", "de": target, "more": {"ref": target.upper()}}


def config_of(**fields):
  config = ConfigDict(
      dict(
          source="text",
          path="",
          subset="",
          source_field="en",
          target_field="de",
          reference_fields=(),
          tfds_name="",
          tfds_data_dir="",
          train_split="train",
          validation_split="validation",
          test_split="test",
          num_train=0,
          num_validation=0,
          num_test=0,
          held_out=0.0,
          seed=0,
          join=1,
      )
  )
  config.update(fields)
  return config


def write_text(folder, split="train", pairs=PAIRS):
  (folder / f"en.{split}.txt").write_text("".join(f"{s}\n" for s, _ in pairs), "utf-8")
  (folder / f"de.{split}.txt").write_text("".join(f"{t}\n" for _, t in pairs), "utf-8")


def write_json(folder, rows, split="train"):
  lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
  (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", "utf-8")


@pytest.fixture(scope="module")
def tfds_folder(tmp_path_factory):
  folder = str(tmp_path_factory.mktemp("tfds"))
  TinyPairs(data_dir=folder, file_format="array_record").download_and_prepare()
  return folder


@pytest.fixture
def config(request, tmp_path, tfds_folder):
  kind = request.param
  if kind == "text":
    write_text(tmp_path)
    return config_of(path=str(tmp_path))
  if kind in ONE_FILE:
    rows = [{"ann": t.upper(), "title": t, "body": s} for s, t in PAIRS]
    own_data.write(tmp_path, kind, rows)
    return config_of(
        source=kind,
        path=str(tmp_path),
        source_field="body",
        target_field="title",
        reference_fields=("ann",),
    )
  if kind == "datasets":
    rows = [{"pair": {"en": s, "de": t}, "ann": t.upper()} for s, t in PAIRS]
    datasets.DatasetDict(train=datasets.Dataset.from_list(rows)).save_to_disk(tmp_path)
    return config_of(
        source=kind,
        path=str(tmp_path),
        source_field="pair.en",
        target_field="pair.de",
        reference_fields=("ann",),
    )
  if kind == "tfds":
    return config_of(
        source="tfds",
        tfds_name="tiny_pairs",
        tfds_data_dir=tfds_folder,
        reference_fields=("more.ref",),
    )
  return config_of(source="phrasebook", num_train=3)


KINDS = ("text", *ONE_FILE, "datasets", "tfds", "phrasebook")


def test_every_kind_of_source_is_in_the_contract_test():
  assert set(KINDS) == set(SOURCES)


@pytest.mark.parametrize("config", KINDS, indirect=True)
def test_contract(config):
  source = data.load_split(config, "train")
  assert isinstance(source, data.Source)
  assert len(source) == 3
  examples = [source[i] for i in range(3)]
  assert [example.id for example in examples] == [0, 1, 2]
  assert source[2] == examples[2]  # random access, the same again
  again = data.load_split(config, "train")
  assert [again[i] for i in range(3)] == examples
  for example in examples:
    assert example.source and example.target
    assert example.references[0] == example.target
    assert all(surface in example.target for _, surface, _ in example.tags)
  for outside in (-1, 3):
    with pytest.raises(IndexError, match=str(outside)):
      source[outside]
  config.num_train = 2
  assert len(data.load_split(config, "train")) == 2
  with pytest.raises(ValueError, match=r"split='dev'.*train, validation, test"):
    data.load_split(config, "dev")


@pytest.mark.parametrize("config", KINDS, indirect=True)
def test_consecutive_examples_join_to_longer_texts(config):
  single = data.load_split(config, "train")
  first, second, third = (single[i] for i in range(3))
  config.join, config.num_train = 2, 1  # the limits count joined texts
  joined = data.load_split(config, "train")
  assert len(joined) == 1
  assert joined[0].source == f"{first.source} {second.source}"
  assert joined[0].target == f"{first.target} {second.target}"
  pairs = zip(first.references, second.references, strict=True)
  assert joined[0].references == tuple(map(" ".join, pairs))
  assert joined[0].tags == first.tags + second.tags
  with pytest.raises(IndexError):
    joined[1]
  assert third.source not in joined[0].source


def test_examples_that_fill_no_text_are_dropped(tmp_path):
  write_text(tmp_path)
  assert len(data.load_split(config_of(path=str(tmp_path), join=2), "train")) == 1
  with pytest.raises(ValueError, match=r"config\.data\.join=4: the split has 3 examples"):
    data.load_split(config_of(path=str(tmp_path), join=4), "train")


def test_a_text_has_as_many_references_as_its_poorest_part(tmp_path):
  rows = [{"s": "a", "t": "b", "ann": "c"}, {"s": "d", "t": "e"}]
  write_json(tmp_path, rows)
  fields = dict(source_field="s", target_field="t", reference_fields=("ann",))
  config = config_of(source="jsonl", path=str(tmp_path), join=2, **fields)
  assert data.load_split(config, "train")[0].references == ("b e",)


@pytest.mark.parametrize("config", ONE_FILE, indirect=True)
def test_one_file_may_hold_all_examples(config):
  in_folder = data.load_split(config, "train")
  config.path = f"{config.path}/train.{config.source}"
  alone = data.load_split(config, "train")
  assert [alone[i] for i in range(3)] == [in_folder[i] for i in range(3)]


@pytest.mark.parametrize("config", ("text", *ONE_FILE, "datasets", "tfds"), indirect=True)
def test_content_and_references(config):
  source = data.load_split(config, "train")
  found = {(source[i].source.removesuffix(" train"), source[i].target) for i in range(3)}
  assert found == set(PAIRS)
  if config.source != "text":
    assert all(source[i].references[1] == source[i].target.upper() for i in range(3))


def test_load_split_refuses_an_unknown_kind_and_a_negative_size():
  known = "phrasebook, text, jsonl, tsv, csv, parquet, datasets, tfds"
  with pytest.raises(ValueError, match=rf"config\.data\.source='xml'.*{known}"):
    data.load_split(config_of(source="xml"), "train")
  with pytest.raises(ValueError, match=r"config\.data\.num_test=-1"):
    data.load_split(config_of(num_test=-1), "test")


@pytest.mark.parametrize("kind", ("text", *ONE_FILE, "datasets"))
def test_sources_of_files_need_a_path(kind):
  with pytest.raises(ValueError, match=rf"config\.data\.path=''.*source='{kind}'"):
    data.load_split(config_of(source=kind), "train")


def test_the_digest_of_files_is_of_what_is_in_them(tmp_path):
  first, second = tmp_path / "a", tmp_path / "b"
  for folder in (first, second):
    folder.mkdir()
    write_text(folder)
  config = config_of(path=str(first), held_out=0.2)
  digest = data.files_digest(config, "train")
  assert data.files_digest(config_of(path=str(second)), "train") == digest
  assert data.files_digest(config, "validation") == digest  # held out of train
  (second / "de.train.txt").write_bytes((first / "de.train.txt").read_bytes() + b"\n")
  assert data.files_digest(config_of(path=str(second)), "train") != digest
  write_json(first, [{"en": "a", "de": "b"}])
  folder = data.files_digest(config_of(source="jsonl", path=str(first)), "train")
  file = config_of(source="jsonl", path=str(first / "train.jsonl"))
  assert data.files_digest(file, "train") == folder != digest
  assert data.files_digest(config_of(source="phrasebook"), "train") == ""


def test_text_missing_file_says_path_naming_and_what_is_there(tmp_path):
  write_text(tmp_path)
  with pytest.raises(FileNotFoundError) as caught:
    data.load_split(config_of(path=str(tmp_path)), "validation")
  message = str(caught.value)
  assert f"{tmp_path}/en.validation.txt" in message
  assert "<field>.<split>.txt" in message
  assert "de.train.txt, en.train.txt" in message
  with pytest.raises(FileNotFoundError, match="no such folder"):
    data.load_split(config_of(path=str(tmp_path / "nowhere")), "train")


def test_text_unequal_line_counts_says_both(tmp_path):
  write_text(tmp_path)
  (tmp_path / "de.train.txt").write_text("eins\nzwei\n")
  with pytest.raises(ValueError, match=r"en\.train\.txt has 3 lines but .*de\.train\.txt has 2"):
    data.load_split(config_of(path=str(tmp_path)), "train")


def test_text_empty_lines_are_dropped_with_a_count(tmp_path, caplog):
  write_text(tmp_path, pairs=(("a", "b"), ("", "c"), ("d", "  "), ("e", "f")))
  with caplog.at_level(logging.WARNING):
    source = data.load_split(config_of(path=str(tmp_path)), "train")
  assert [source[i].source for i in range(len(source))] == ["a", "e"]
  assert source[1].id == 1
  assert "dropped 2 of 4 examples with an empty side" in caplog.text
  assert "en.train.txt" in caplog.text


def test_text_empty_split_is_refused(tmp_path):
  write_text(tmp_path, pairs=(("", "x"), ("y", "")))
  with pytest.raises(ValueError, match=r"'train'.*no example with both sides.*2 rows"):
    data.load_split(config_of(path=str(tmp_path)), "train")
  write_text(tmp_path, pairs=())
  with pytest.raises(ValueError, match="0 rows"):
    data.load_split(config_of(path=str(tmp_path)), "train")


def test_text_invalid_utf8_says_file_and_line(tmp_path):
  write_text(tmp_path)
  (tmp_path / "de.train.txt").write_bytes("Eins\nZwei\nGrün\n".encode("latin-1"))
  with pytest.raises(ValueError, match=r"de\.train\.txt, line 3: not valid UTF-8.*iconv"):
    data.load_split(config_of(path=str(tmp_path)), "train")


def test_text_lines_end_only_at_newlines(tmp_path):
  # U+2028 and form feed are inside a sentence: str.splitlines would shift the alignment here.
  (tmp_path / "en.train.txt").write_bytes("one\u2028still one\r\ntwo\n".encode())
  (tmp_path / "de.train.txt").write_bytes(b"\xef\xbb\xbfeins\x0cimmer noch\nzwei")
  source = data.load_split(config_of(path=str(tmp_path)), "train")
  assert [source[i].source for i in range(2)] == ["one\u2028still one", "two"]
  assert [source[i].target for i in range(2)] == ["eins\x0cimmer noch", "zwei"]


def json_config(folder, **fields):
  return config_of(
      source="jsonl", path=str(folder), source_field="body", target_field="title", **fields
  )


def test_json_missing_field_says_file_line_and_field(tmp_path):
  write_json(tmp_path, [{"body": "a", "title": "b"}, {"body": "a", "subject": "b"}])
  with pytest.raises(ValueError, match=r"train\.jsonl, line 2: no field 'title'.*'subject'"):
    data.load_split(json_config(tmp_path), "train")


@pytest.mark.parametrize(
    "row, message",
    (
        ('{"body": ', r"train\.jsonl, line 1: not a JSON object"),
        ("[1]", r"train\.jsonl, line 1: a JSON list"),
        ({"body": 3, "title": "b"}, r"line 1: field 'body' is a int, not text"),
        ({"body": "", "title": "b"}, "no example with both sides filled"),
    ),
)
def test_json_bad_lines(tmp_path, row, message):
  write_json(tmp_path, [row])
  with pytest.raises(ValueError, match=message):
    data.load_split(json_config(tmp_path), "train")


def test_json_missing_file_and_unset_field(tmp_path):
  write_json(tmp_path, [{"body": "a", "title": "b"}])
  with pytest.raises(FileNotFoundError, match=r"test\.jsonl.*<split>\.jsonl.*train\.jsonl"):
    data.load_split(json_config(tmp_path), "test")
  with pytest.raises(ValueError, match=r"config\.data\.target_field=''"):
    data.load_split(
        config_of(source="jsonl", path=str(tmp_path), source_field="body", target_field=""), "train"
    )


def test_json_further_references_may_be_absent(tmp_path):
  write_json(
      tmp_path, [{"body": "a", "title": "b", "ann0": "c", "ann1": ""}, {"body": "d", "title": "e"}]
  )
  source = data.load_split(json_config(tmp_path, reference_fields=("ann0", "ann1")), "train")
  assert source[0].references == ("b", "c")
  assert source[1].references == ("e",)


def test_tfds_mock_data_is_read_without_tensorflow(tmp_path):
  config = config_of(
      source="tfds",
      tfds_name="ted_hrlr_translate/az_to_en",
      tfds_data_dir=str(tmp_path),
      source_field="az",
      target_field="en",
  )
  with tfds.testing.mock_data(num_examples=4):
    source = data.load_split(config, "train")
    assert len(source) == 4
    assert source[3].source and source[3].target == source[3].references[0]


@pytest.mark.parametrize(
    "module, builder, name, features",
    (
        ("translate.wmt14", "Wmt14Translate", "wmt14_translate/de-en", ("en", "de")),
        ("summarization.xsum", "Xsum", "xsum", ("document", "summary")),
        ("summarization.cnn_dailymail", "CnnDailymail", "cnn_dailymail", ("article", "highlights")),
    ),
)
def test_published_data_prepared_on_disk_are_read_by_name(
    tmp_path, monkeypatch, module, builder, name, features
):
  builder_type = getattr(importlib.import_module(f"tensorflow_datasets.{module}"), builder)

  def examples():
    for number, pair in enumerate(PAIRS):
      extra = {key: "x" for key in made.info.features if key not in features}
      yield number, dict(zip(features, pair, strict=True)) | extra

  with monkeypatch.context() as patched:  # what downloads is replaced; the files are real
    patched.setattr(builder_type, "_split_generators", lambda self, _: {"train": examples()})
    made = tfds.builder(name, data_dir=str(tmp_path), file_format="array_record")
    made.download_and_prepare()
  config = config_of(
      source="tfds",
      tfds_name=name,
      tfds_data_dir=str(tmp_path),
      source_field=features[0],
      target_field=features[1],
      reference_fields=("ann0",),
  )
  source = data.load_split(config, "train")
  assert {(source[i].source, source[i].target) for i in range(3)} == set(PAIRS)
  assert source[0].references == (source[0].target,)  # the data have no further ones
  assert "tensorflow" not in sys.modules


def test_tfds_splits_are_the_datas(tfds_folder):
  config = config_of(
      source="tfds", tfds_name="tiny_pairs", tfds_data_dir=tfds_folder, validation_split="train[:2]"
  )
  assert data.load_split(config, "test")[0].source.endswith(" test")
  assert len(data.load_split(config, "validation")) == 2
  config.test_split = "dev"
  with pytest.raises(ValueError, match=r"'dev'.*\['train', 'test'\]"):
    data.load_split(config, "test")


@pytest.mark.parametrize(
    "fields, message",
    (
        ({"tfds_name": ""}, r"config\.data\.tfds_name=''"),
        ({"tfds_name": "no_such_pairs"}, r"tfds_name='no_such_pairs'.*not found"),
        (
            {"tfds_name": "ted_hrlr_translate/az_to_en"},
            r"`tfds build ted_hrlr_translate/az_to_en --file_format=array_record --data_dir /",
        ),
        ({"tfds_name": "wmt14_translate/de-en"}, r"`tfds build wmt14_translate/de-en --file"),
        ({"tfds_name": "xsum"}, r"`tfds build xsum --file_format=array_record --data_dir /"),
    ),
)
def test_tfds_bad_config(tmp_path, fields, message):
  config = config_of(source="tfds", tfds_data_dir=str(tmp_path), **fields)
  with pytest.raises(ValueError, match=message):
    data.load_split(config, "train")


def test_tfds_bad_records():
  def source_of(record, **fields):
    fields = {"source_field": "en", "target_field": "de", **fields}
    return TfdsSource([record] if record else [], where="pairs, split 'train'", **fields)

  with pytest.raises(ValueError, match=r"pairs, split 'train': the split is empty"):
    source_of(None)
  with pytest.raises(ValueError, match=r"example 0: no feature 'fr', only 'en', 'de'"):
    source_of({"en": b"a", "de": b"b"}, target_field="fr")[0]
  with pytest.raises(ValueError, match=r"example 0: feature 'de' is a int"):
    source_of({"en": b"a", "de": 3})[0]
  with pytest.raises(ValueError, match=r"example 0: feature 'en' is not valid UTF-8"):
    source_of({"en": b"\xff", "de": b"b"})[0]


real_data = pytest.mark.skipif("KDTW_DATA" not in os.environ, reason="KDTW_DATA names no folder")


@pytest.mark.real_data
@real_data
@pytest.mark.parametrize("split, number", (("train", 29_000), ("validation", 1014), ("test", 1000)))
def test_multi30k_is_read_whole(split, number):
  source = data.load_split(config_of(path=f"{os.environ['KDTW_DATA']}/multi30k"), split)
  assert len(source) == number
  assert all(source[i].source and source[i].target for i in range(number))


@pytest.mark.real_data
@real_data
def test_aeslc_has_several_references():
  config = config_of(
      source="jsonl",
      path=f"{os.environ['KDTW_DATA']}/aeslc",
      source_field="email_body",
      target_field="subject_line",
      reference_fields=("ann0", "ann1", "ann2"),
  )
  source = data.load_split(config, "test")
  assert 1900 <= len(source) <= 1906
  assert sum(len(source[i].references) == 4 for i in range(len(source))) > 1800
