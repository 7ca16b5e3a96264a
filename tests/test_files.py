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
