"""The launch scripts: an environment is made once, and no interrupted try stays in the way."""

import os
from pathlib import Path
import re
import signal
import subprocess
import time
import tomllib

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted([*(ROOT / "launch").glob("*.sh"), ROOT / ".ci" / "run"])
MAKE = 'set -euo pipefail; source launch/environment.sh; make_venv "$1"'


def command(venv):
  return ["bash", "-c", MAKE, "bash", str(venv)]


def make(venv):
  subprocess.run(command(venv), cwd=ROOT, check=True, timeout=120)


def assert_whole(venv):
  """Activated, it has a Python of its own with pip."""
  lines = subprocess.run(
      [
          "bash",
          "-c",
          'source "$1/bin/activate"; command -v python; python -m pip --version',
          "",
          venv,
      ],
      check=True,
      text=True,
      capture_output=True,
  ).stdout.splitlines()
  assert lines[0] == f"{venv}/bin/python" and f"from {venv}/" in lines[1]


def test_an_environment_is_made_once(tmp_path):
  venv = tmp_path / "venv"
  make(venv)
  assert_whole(venv)
  (venv / "installed").touch()
  make(venv)
  assert (venv / "installed").exists()


@pytest.mark.slow
def test_an_environment_is_made_anew_after_a_kill(tmp_path):
  venv = tmp_path / "venv"
  with subprocess.Popen(command(venv), cwd=ROOT, start_new_session=True) as process:
    while not list(venv.glob("lib/python3*/site-packages/pip")):  # pip's files are being copied
      assert process.poll() is None
      time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
  assert process.returncode == -signal.SIGKILL
  assert (venv / "bin" / "python").exists() and not (venv / "bin" / "activate").exists()
  make(venv)
  assert_whole(venv)


@pytest.mark.slow
def test_an_environment_without_its_python_is_made_anew(tmp_path):
  venv = tmp_path / "venv"
  make(venv)
  for python in venv.glob("bin/python*"):  # as after an upgrade of the system's
    python.unlink()
    python.symlink_to(tmp_path / "gone")
  make(venv)
  assert_whole(venv)


def test_a_folder_that_is_no_environment_keeps_its_files(tmp_path):
  venv = tmp_path / "mine"
  venv.mkdir()
  (venv / "notes.txt").write_text("kept")
  make(venv)
  assert_whole(venv)
  assert (venv / "notes.txt").read_text() == "kept"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_sound_and_names_what_exists(script):
  subprocess.run(["bash", "-n", script], check=True)
  text = script.read_text(encoding="utf-8")
  project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
  extras = re.findall(r"(?:KDTW_EXTRAS=|\.\[)([a-z,]+)", re.sub("#.*", "", text))
  assert {extra for group in extras for extra in group.split(",")} <= set(
      project["optional-dependencies"]
  )
  files = re.findall(r"\b(?:configs|launch|tests)/[\w./-]+\.(?:py|sh)\b", text)
  assert all((ROOT / file).is_file() for file in files), files
