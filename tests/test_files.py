"""Files and folders that are whole or absent."""

import json
import os

import pytest

from kdtw_jax import files


def test_json_is_whole_or_absent(tmp_path):
  path = tmp_path / "deep" / "x.json"
  files.write_json(path, {"ä": 1})
  with pytest.raises(TypeError):
    files.write_json(path, {"bad": object()})
  assert json.loads(path.read_text(encoding="utf-8")) == {"ä": 1}


def test_a_folder_is_whole_or_the_old_one(tmp_path):
  path = tmp_path / "deep" / "folder"
  with files.replaced_folder(path) as unfinished:
    (unfinished / "x").write_text("old")
  with pytest.raises(OSError, match="full"), files.replaced_folder(path) as unfinished:
    (unfinished / "x").write_text("new")
    raise OSError(28, "full")
  assert (path / "x").read_text() == "old" and list(path.parent.iterdir()) == [path]
  with files.replaced_folder(path) as unfinished:
    (unfinished / "y").write_text("new")
  assert [file.name for file in path.iterdir()] == ["y"] and list(path.parent.iterdir()) == [path]


def test_a_folder_survives_a_kill_between_its_two_renames(tmp_path):
  path = tmp_path / "folder"
  with files.replaced_folder(path) as unfinished:
    (unfinished / "x").write_text("old")
  path.rename(tmp_path / "folder.old")  # as a kill there leaves it
  (tmp_path / "folder.unfinished").mkdir()
  with pytest.raises(OSError, match="full"), files.replaced_folder(path):
    raise OSError(28, "full")
  assert (path / "x").read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
  path = files.write_atomically(tmp_path / "x", "old")

  def full(descriptor):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(os, "fsync", full)
  with pytest.raises(OSError, match="No space left"):
    files.write_atomically(path, b"new")
  assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"{", "not JSON (Expecting property name"),
        (b"\xff", "not JSON ('utf-8' codec"),
        (b"[" * 100_000, "not JSON (maximum recursion depth"),
        (b"9" * 10_000, "not JSON (Exceeds the limit"),
        (b"[1]", "a JSON list, not an object"),
    ],
)
def test_a_file_without_an_object_is_named_with_the_remedy(tmp_path, content, reason):
  path = tmp_path / "x.json"
  path.write_bytes(content)
  with pytest.raises(ValueError) as error:
    files.read_json_object(path, remedy="make it again")
  message = str(error.value)
  assert message.startswith(f"{path}: damaged, {reason}") and message.endswith(": make it again")
  assert "\n" not in message


def test_an_object_is_read_and_a_missing_file_named(tmp_path):
  path = files.write_json(tmp_path / "x.json", {"ä": [1, None]})
  assert files.read_json_object(path, remedy="") == {"ä": [1, None]}
  with pytest.raises(FileNotFoundError, match=r"y\.json: no such file: make it again"):
    files.read_json_object(tmp_path / "y.json", remedy="make it again")


def test_the_first_line_of_an_error_says_something():
  assert files.first_line(ValueError("\none\ntwo")) == "one"
  assert files.first_line(KeyError()) == "KeyError"
  assert len(files.first_line(ValueError("x" * 500))) == 200
