"""The launch scripts: an environment is made once, and no interrupted try stays in the way."""

import os
from pathlib import Path
import re
import shlex
import shutil
import signal
import subprocess
import time
import tomllib

import pytest

from tests import launch_sandbox
from tests.launch_sandbox import HOSTILE, calls, executed

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
  extras = re.findall(r"(?:KDTW_EXTRAS=|install_project )([a-z,]+)", re.sub("#.*", "", text))
  assert {extra for group in extras for extra in group.split(",")} <= set(
      project["optional-dependencies"]
  )
  files = re.findall(r"\b(?:configs|launch|tests)/[\w./-]+\.(?:py|sh)\b", text)
  assert all((ROOT / file).is_file() for file in files), files


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
def test_shellcheck_finds_nothing():
  scripts = sorted((ROOT / "launch").glob("*.sh"))
  subprocess.run(["shellcheck", "--external-sources", *scripts], cwd=ROOT, check=True)


# What runs elsewhere, or for long -----------------------------------------------------------------

RUN = sorted(set((ROOT / "launch").glob("*.sh")) - {ROOT / "launch" / "environment.sh"})


@pytest.fixture
def sandbox(tmp_path):
  return launch_sandbox.make(tmp_path)


def test_every_argument_reaches_a_tpu_vm_whole_and_none_is_executed(sandbox):
  environment, checkout = sandbox
  workdir = "runs/it's $(touch executed)"
  words = ["configs/wmt.py:pair=de-en", workdir, *HOSTILE]
  subprocess.run(["launch/tpu_vm.sh", *words], cwd=checkout, env=environment, check=True)
  copied, ran = calls(environment, "gcloud")
  assert copied[3] == "scp" and copied[5:] == [
      "my tpu:kdtw_jax.tar.gz",
      "--zone=zone",
      "--worker=all",
  ]
  assert ran[3:7] == ["ssh", "my tpu", "--zone=zone", "--worker=all"]
  flags = [f"--config={words[0]}", f"--workdir={workdir}", *HOSTILE]
  assert calls(environment, "python")[-1] == ["-m", "kdtw_jax.main", *flags]
  assert ["-m", "pip", "install"] == calls(environment, "python")[-2][:3]
  assert not executed(environment)
  assert not list((Path(environment["SANDBOX"]) / "tmp").iterdir())
  assert not (Path(environment["SANDBOX"]) / "vm" / "kdtw_jax.tar.gz").exists()


def test_every_argument_reaches_a_local_run_whole(sandbox):
  environment, checkout = sandbox
  for script, first, flags in (
      ("gpu", ["configs/wmt.py", "my runs/$(touch executed)"], ["--config=configs/wmt.py"]),
      ("smoke", ["wmt"], ["wmt", "--workdir=runs/smoke-wmt"]),
      ("demo", [], ["--config=configs/demo.py", "--workdir=runs/demo"]),
  ):
    words = [f"launch/{script}.sh", *first, *HOSTILE]
    subprocess.run(words, cwd=checkout, env=environment, check=True, capture_output=True)
    called = [call for call in calls(environment, "python") if HOSTILE[0] in call][-1]
    assert set(flags) < set(called) and called[-3:] == list(HOSTILE)
  assert not executed(environment)


@pytest.mark.parametrize("script", RUN, ids=lambda path: path.name)
def test_a_dry_run_prints_the_commands_and_runs_none(sandbox, script):
  environment, checkout = sandbox
  before = sorted(Path(environment["SANDBOX"]).rglob("*"))
  first = ["2"] if script.name == "local.sh" else []
  words = [f"launch/{script.name}", *first, "wmt", "my runs", *HOSTILE, "--dry-run"]
  done = subprocess.run(
      words, cwd=checkout, env=environment, check=True, text=True, capture_output=True
  )
  after = sorted(Path(environment["SANDBOX"]).rglob("*"))
  assert [path for path in after if path not in before] == [
      path for path in after if path.name == "python.jsonl"  # its version was asked for
  ]
  commands = [shlex.split(line) for line in done.stdout.splitlines()]
  assert len(commands) >= 3 and not done.stderr
  if script.name == "tpu_vm.sh":
    (remote,) = (word for word in commands[-1] if word.startswith("--command="))
    commands.append(shlex.split(remote.removeprefix("--command=")))
  assert any(list(HOSTILE) == command[-3:] for command in commands)


@pytest.mark.parametrize("script", RUN, ids=lambda path: path.name)
def test_help_prints_the_header(script, tmp_path):
  done = subprocess.run(
      [script, "--help"],
      cwd=tmp_path,
      check=True,
      text=True,
      capture_output=True,
      env={"PATH": os.environ["PATH"]},
  )
  header = re.match(r"#!.*\n((?:#.*\n)+)", script.read_text(encoding="utf-8"))[1]
  assert done.stdout == re.sub("^# ?", "", header, flags=re.MULTILINE) != ""
