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
  with pytest.raises(OSError, match=r"No space left on device: '.*/x'"):
    files.write_atomically(path, b"new")
  assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_file_that_differs_from_its_checksum_is_found(tmp_path):
  assert files.damaged_file(tmp_path) is None
  for name in ("a/x", "b"):
    files.write_atomically(tmp_path / name, b"content")
  files.write_checksums(tmp_path, [tmp_path / "a" / "x", tmp_path / "b"])
  assert files.damaged_file(tmp_path) is None
  for change in (b"contenu", b"conten", b""):
    (tmp_path / "a" / "x").write_bytes(change)
    assert files.damaged_file(tmp_path) == "a/x"
  (tmp_path / "a" / "x").write_bytes(b"content")
  (tmp_path / "b").unlink()
  assert files.damaged_file(tmp_path) == "b"


def test_every_flipped_bit_is_found(tmp_path):
  path = files.write_atomically(tmp_path / "x", bytes(range(8)))
  files.write_checksums(tmp_path, [path])
  for flipped in (path, tmp_path / files.CHECKSUMS):
    content = flipped.read_bytes()
    for bit in range(8 * len(content)):
      changed = bytearray(content)
      changed[bit // 8] ^= 1 << bit % 8
      flipped.write_bytes(changed)
      try:
        assert files.damaged_file(tmp_path) is not None, bit
      except ValueError as error:
        assert "checksums.json: damaged" in str(error)
    flipped.write_bytes(content)


@pytest.mark.parametrize(
    "error, reason",
    [
        (OSError(28, "full"), "No space left on device"),
        (
            ValueError("x: Failed to write to file 7: No space [os_error_code='28']"),
            "No space left on",
        ),
        (
            RuntimeError("I/O error: No space left on device (os error 28)"),
            "No space left on device",
        ),
        (RuntimeError("something else\nmore"), "something else"),
    ],
)
def test_what_the_system_said_is_found_in_an_error(error, reason):
  assert files.system_reason(error).startswith(reason)
  made = str(files.not_written("file x", error, remedy="Nothing is lost"))
  assert made.startswith(f"file x cannot be written ({reason}") and made.endswith("Nothing is lost")


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
