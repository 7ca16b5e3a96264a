"""Files that hold no examples or no tokenizer are refused by name, at once, in one line."""

import json
import os

import pytest

from kdtw_jax import data
from tests.own_data import ONE_FILE
from tests.own_data import config_of as data_config
from tests.refusing import refused

EN = b"A dog runs.\nTwo cats.\n"
TEXTS = [
    (b"", "en.train.txt has 2 lines but "),
    (b"\n\n", "no example with both sides filled (2 rows read)"),
    (b" \n\t\n", "no example with both sides filled (2 rows read)"),
    (b"Ein Hund.\n", "en.train.txt has 2 lines but "),
    (b"\xff\xfeE\0i\0n\0\n\0", "de.train.txt: is UTF-16: convert the file"),
    (b"\xfe\xff\0E\0i\0n\0\n", "de.train.txt: is UTF-16: convert the file"),
    (b"E\0i\0n\0\n\0", "de.train.txt, line 1: holds NUL bytes"),
    (b"eins\nzw\0ei\n", "de.train.txt, line 2: holds NUL bytes"),
    (b"eins\nGr\xfcn\n", "line 2: not valid UTF-8"),
    (b"eins\n\xed\xa0\x80\n", "line 2: not valid UTF-8"),  # a surrogate
    (b"eins\n" + b"x" * 2**21 + b"\n", "line 2: has more than 1,048,576 bytes"),
]


@pytest.mark.parametrize("content, said", TEXTS, ids=range(len(TEXTS)))
def test_text_that_cannot_be(tmp_path, content, said):
  (tmp_path / "en.train.txt").write_bytes(EN)
  (tmp_path / "de.train.txt").write_bytes(content)
  refused(lambda: data.load_split(data_config("text", tmp_path), "train"), said, "train.txt")


LINES = [
    ('{"en": "a", "de": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
    ('{"x": ' * 100_000 + "1" + "}" * 100_000, "nested too deeply"),
    (r'{"en": "\ud800", "de": "b"}', r"field 'en' holds '\ud800', half of a surrogate pair"),
    (r'{"en": "a", "de": "b\udfff"}', r"field 'de' holds '\udfff', half of a surrogate pair"),
    ('{"en": "a", "de": ' + "9" * 10_000 + "}", "not a JSON object (Exceeds the limit"),
    ('{"en": 1e999, "de": "b"}', "field 'en' is a float, not text"),
    ('{"en": NaN, "de": "b"}', "field 'en' is a float, not text"),
    ('{"en": null, "de": "b"}', "field 'en' is a NoneType, not text"),
    ('{"en": ["a"], "de": "b"}', "field 'en' is a list, not text"),
    ('{"en": "a", "de": "b", "en": "c"}', "field 'en' occurs twice"),
    ('{"en": "a", "de": "b", "m": {"x": 1, "x": 2}}', "field 'x' occurs twice"),
    ('{"EN": "a", "DE": "b"}', "no field 'en', only 'EN', 'DE': name the fields"),
    (json.dumps(dict.fromkeys(map(str, range(5000)))), "no field 'en', only '0', '1'"),
    (r'{"\ud800": 1}', r"no field 'en', only '\ud800'"),
    ("{}", "no field 'en', only nothing: name"),
    ("null", "a JSON NoneType: write one object per line"),
    ('"text"', "a JSON str"),
    ("{'en': 'a', 'de': 'b'}", "not a JSON object"),
    ('{"en": "a" "de": "b"}', "not a JSON object"),
    ('{"en": "a", "de": "b"} {"en": "a"}', "not a JSON object"),
    ('{"en": "a\x01", "de": "b"}', "not a JSON object"),
    ("\ufeff\ufeff{}", "not a JSON object"),
]


@pytest.mark.parametrize("line, said", LINES, ids=range(len(LINES)))
def test_a_json_line_that_cannot_be(tmp_path, line, said):
  good = json.dumps({"en": "a", "de": "b"})
  (tmp_path / "train.jsonl").write_text(f"{good}\n{line}\n", "utf-8")
  where = "train.jsonl, line 2: "
  refused(lambda: data.load_split(data_config("jsonl", tmp_path), "train"), where, said)


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
  (tmp_path / "train.jsonl").write_bytes(b'\xef\xbb\xbf{"en": "a", "de": "b"}\r\n')
  assert data.load_split(data_config("jsonl", tmp_path), "train")[0].source == "a"


@pytest.mark.parametrize(
    "source, name", (("text", "en.train.txt"), *((kind, f"train.{kind}") for kind in ONE_FILE))
)
@pytest.mark.parametrize(
    "make, said",
    (
        (lambda path: None, "no such file"),
        (os.mkdir, "is a folder, not a file"),
        (os.mkfifo, "is a pipe or device, not a file"),
        (lambda path: os.symlink("/dev/zero", path), "is a pipe or device, not a file"),
        (lambda path: os.symlink(path, path), "symbolic links"),
        (lambda path: os.symlink("/nowhere/at/all", path), "no such file"),
    ),
    ids=("missing", "folder", "pipe", "device", "loop", "dangling"),
)
def test_what_is_no_file_of_examples(tmp_path, source, name, make, said):
  make(tmp_path / name)
  call = lambda: data.load_split(data_config(source, tmp_path), "train")  # noqa: E731
  refused(call, said, name, "config.data.path=", "config.data.train_split")


@pytest.mark.parametrize("source", ("text", *ONE_FILE))
def test_a_folder_that_is_none(tmp_path, source):
  config = data_config(source, tmp_path / "nowhere")
  refused(lambda: data.load_split(config, "train"), "no such folder", "config.data.path=")


def test_a_file_in_the_place_of_a_folder_of_text(tmp_path):
  (tmp_path / "file").write_text("x")
  config = data_config("text", tmp_path / "file")
  refused(lambda: data.load_split(config, "train"), "a file, not a folder", "config.data.path=")


@pytest.mark.parametrize("source", ("jsonl", "tsv", "csv"))
def test_a_file_without_read_permission(tmp_path, monkeypatch, source):
  (tmp_path / f"train.{source}").write_text("{}")

  def denied(path, *args, **kwargs):
    raise PermissionError(13, "Permission denied", path)

  monkeypatch.setattr("builtins.open", denied)
  said = (f"train.{source}: cannot be read (Permission denied)", "give it read permission")
  refused(lambda: data.load_split(data_config(source, tmp_path), "train"), *said)


@pytest.mark.parametrize("name", ("huggingface:a/b", "gs://bucket/x", "http://x/y"))
def test_a_data_set_from_elsewhere(tmp_path, name):
  config = data_config("tfds", "")
  config.update(tfds_name=name, tfds_data_dir=str(tmp_path))
  refused(lambda: data.load_split(config, "train"), f"tfds_name={name!r}", "of tensorflow-datasets")


OWN, PUBLISHED = "tokenizer.model", "tokenizer.json or spiece.model"
TOKENIZERS = [
    (lambda path: None, "no such tokenizer file: name a tokenizer.model that a run has left"),
    (lambda path: path.write_bytes(b""), "not a SentencePiece model: name a tokenizer.model"),
    (lambda path: path.write_text("{}"), "not a SentencePiece model: name a tokenizer.model"),
    (os.mkfifo, "no such tokenizer file"),
    (os.mkdir, f"holds no tokenizer: name WORKDIR/stages/tokenizer of a run, where {OWN} lies"),
    (
        lambda path: (path.mkdir(), (path / "config.json").write_text('{"model_type": "t5"}')),
        f"the folder of a published model with {PUBLISHED}",
    ),
    (lambda path: (path.mkdir(), os.mkfifo(path / OWN)), "is not a regular file"),
    (lambda path: (path.mkdir(), os.mkfifo(path / "tokenizer.json")), "is not a regular file"),
    (lambda path: (path.mkdir(), (path / OWN).mkdir()), "is not a regular file"),
]


@pytest.mark.parametrize("make, said", TOKENIZERS, ids=range(len(TOKENIZERS)))
def test_what_is_no_tokenizer(tmp_path, make, said):
  make(tmp_path / "tokenizer")
  refused(lambda: data.load_tokenizer(tmp_path / "tokenizer"), said, str(tmp_path))


def test_an_endless_line_is_broken_for_training_alone():
  lines = [*data.tokenizer_text(), "word and more " * 20_000, "x" * 100_000]
  tokenizer = data.train_tokenizer(lines, vocab_size=60, kind="unigram")  # hours in one piece
  assert len(tokenizer.encode("x" * 1000)) > 60
