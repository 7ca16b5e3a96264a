"""Files that are whole or absent."""

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


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
  path = files.write_atomically(tmp_path / "x", "old")

  def full(descriptor):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(os, "fsync", full)
  with pytest.raises(OSError, match="No space left"):
    files.write_atomically(path, b"new")
  assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
