"""A pair on the hub: what is uploaded, what is read from there, and what is said when it fails."""

import json
import shutil

from huggingface_hub import constants
import pytest

from kdtw_jax.commands import cli
from kdtw_jax.pair import load_pair
from tests import hub_server, tiny_pair

TEXT = "The flight takes 5 hours."
NAME = "owner/small-pair"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return tiny_pair.save(tmp_path_factory.mktemp("run") / "pair")


@pytest.fixture
def hub(monkeypatch, tmp_path):
  with hub_server.serving(monkeypatch, tmp_path / "cache") as hub:
    yield hub


def export(folder, out, *flags):
  cli.main(["export", f"--pair={folder}", f"--out={out}", *flags])


def said_of(folder, out, *flags):
  with pytest.raises(SystemExit) as ended:
    export(folder, out, *flags)
  message = str(ended.value)
  assert message.startswith("error: --") and "\n" not in message
  return message


def test_a_pair_comes_back_from_the_hub_as_it_was(folder, hub, tmp_path, capsys):
  out = tmp_path / "out"
  export(folder, out, "--teacher", f"--push={NAME}", "--private")
  assert capsys.readouterr().out.endswith(f"{constants.ENDPOINT}/{NAME}: uploaded\n")
  model = hub.models[NAME]
  there = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*.*")}
  assert model["private"] and model["files"] == {".gitattributes": b"x", **there}
  assert f'kdtw_jax.load_pair("{NAME}")' in model["files"]["README.md"].decode()
  ours = load_pair(folder).write(TEXT, 0.2)
  assert load_pair(NAME).write(TEXT, 0.2) == ours == load_pair(out).write(TEXT, 0.2)
  (snapshot,) = (tmp_path / "cache").glob("models--*/snapshots/*")
  got = {path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*.*")}
  assert got == {name for name in there if not name.endswith(".md")}
  export(NAME, tmp_path / "again", "--teacher")  # from the cache
  assert (tmp_path / "again/pair.json").read_bytes() == (out / "pair.json").read_bytes()


def test_paths_of_this_machine_are_not_told(folder, tmp_path):
  own = tmp_path / "pair"
  shutil.copytree(folder, own)
  saved = json.loads((own / "pair.json").read_text("utf-8"))
  saved["config"]["data"]["path"] = saved["config"]["teacher"]["checkpoint"] = str(tmp_path)
  (own / "pair.json").write_text(json.dumps(saved), "utf-8")
  export(own, tmp_path / "out", "--teacher")
  assert str(tmp_path) not in (tmp_path / "out/pair.json").read_text("utf-8")
  assert load_pair(tmp_path / "out").write(TEXT, 0) == load_pair(folder).write(TEXT, 0)


def test_the_next_upload_leaves_nothing_of_the_last(folder, hub, tmp_path):
  export(folder, tmp_path / "out", "--teacher", f"--push={NAME}")
  export(folder, tmp_path / "out", f"--push={NAME}")
  files = hub.models[NAME]["files"]
  assert "teacher/config.json" not in files and "pair.json" not in files
  assert "kdtw.safetensors" in files and ".gitattributes" in files and len(hub.commits) == 2
  with pytest.raises(FileNotFoundError, match=rf"{NAME}: a student without its teacher.*--teacher"):
    load_pair(NAME)


def test_what_is_not_ours_is_left_alone(folder, hub, tmp_path):
  hub.models[NAME] = {"private": False, "files": {"model.safetensors": b"years of work"}}
  said = said_of(folder, tmp_path / "out", f"--push={NAME}")
  assert f"--push={NAME}: exists on the hub and is no earlier export: give another name" in said
  hub.models[NAME]["files"]["kdtw.json"] = b"{}"
  said = said_of(folder, tmp_path / "out", f"--push={NAME}", "--private")
  assert "exists on the hub and is public: make it private there" in said
  assert hub.models[NAME]["files"]["model.safetensors"] == b"years of work" and not hub.commits


REFUSED = [
    ("", "not logged in: run `hf auth login`, or set HF_TOKEN ("),
    (hub_server.READER, "this account or its token may not write there"),
]


@pytest.mark.parametrize("token, remedy", REFUSED, ids=("nobody", "reader"))
def test_a_hub_that_refuses_leaves_the_folder(folder, hub, tmp_path, monkeypatch, token, remedy):
  monkeypatch.setenv("HF_TOKEN", token)
  said = said_of(folder, tmp_path / "out", f"--push={NAME}", "--private")
  assert remedy in said and not hub.models
  assert said.endswith(f"is complete: `hf upload {NAME} {tmp_path / 'out'} --private` goes on")
  assert (tmp_path / "out/model.safetensors").is_file()


def test_without_a_network_the_folder_stays(folder, tmp_path, monkeypatch):
  monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
  monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
  said = said_of(folder, tmp_path / "out", f"--push={NAME}")
  assert "the hub is out of reach, or broke off: try again where there is a network" in said
  assert (tmp_path / "out/model.safetensors").is_file()
  monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
  with pytest.raises(FileNotFoundError, match=f"^{NAME}: no such local folder, not in the hub's"):
    load_pair(NAME)


@pytest.mark.parametrize(
    "name", ("", "name", "a/b/c", "https://hub/a/b", "a/b c", "a/b--c", "a/..b")
)
def test_a_name_that_no_hub_takes_is_refused_before_any_work(tmp_path, name):
  said = said_of("nowhere", tmp_path / "out", f"--push={name}")
  assert f"--push={name}: is not a name on the hub: give OWNER/NAME" in said
  assert not (tmp_path / "out").exists()


def test_private_goes_with_push(tmp_path):
  assert "--private: goes with --push=OWNER/NAME" in said_of("nowhere", tmp_path, "--private")


def test_a_damaged_download_is_found(folder, hub, tmp_path):
  export(folder, tmp_path / "out", "--teacher", f"--push={NAME}")
  content = bytearray(hub.models[NAME]["files"]["teacher/model.safetensors"])
  content[-5] ^= 16
  hub.models[NAME]["files"]["teacher/model.safetensors"] = bytes(content)
  with pytest.raises(
      ValueError, match=r"teacher/model\.safetensors: damaged, .* download it again"
  ):
    load_pair(NAME)


def test_a_folder_that_is_here_is_never_looked_for_elsewhere(hub, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "runs").mkdir()
  with pytest.raises(FileNotFoundError, match="^runs/demo: no trained pair"):
    load_pair("runs/demo")


def test_a_teacher_that_is_a_folder_of_this_machine_is_not_shared(folder, tmp_path, monkeypatch):
  own = tmp_path / "pair"
  shutil.copytree(folder, own)
  pair = load_pair(folder)
  saved = json.loads((own / "pair.json").read_text("utf-8"))
  (own / "pair.json").write_text(json.dumps({**saved, "teacher": str(tmp_path / "t5")}), "utf-8")
  monkeypatch.setattr("kdtw_jax.pair.load_pair", lambda name: pair)
  said = said_of(own, tmp_path / "out", "--teacher")
  assert f"--teacher: the teacher was used as published, from {tmp_path / 't5'}" in said
