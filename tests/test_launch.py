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
import yaml

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


@pytest.mark.slow
def test_an_environment_is_made_once_and_anew_without_its_python(tmp_path):
  venv = tmp_path / "venv"
  make(venv)
  assert_whole(venv)
  (venv / "installed").touch()
  make(venv)
  assert (venv / "installed").exists()
  for python in venv.glob("bin/python*"):  # as after an upgrade of the system's
    python.unlink()
    python.symlink_to(tmp_path / "gone")
  make(venv)
  assert_whole(venv)


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


def queue(sandbox, *words, **variables):
  environment, checkout = sandbox
  return subprocess.run(
      ["launch/tpu_queue.sh", *words],
      cwd=checkout,
      env={**environment, **variables},
      check=False,
      text=True,
      capture_output=True,
  )


def test_a_queued_tpu_is_asked_for_once_waited_for_and_used(sandbox):
  environment, _ = sandbox
  states = "WAITING_FOR_RESOURCES PROVISIONING ACTIVE"
  words = ["configs/wmt.py", "my runs", *HOSTILE]
  done = queue(sandbox, *words, STATES=states, SPOT="yes", QUEUE_OPTIONS="--network='my net'")
  assert done.returncode == 0, done.stderr
  called = calls(environment, "gcloud")
  assert [call[3] for call in called] == ["describe", "create", *3 * ["describe"], "scp", "ssh"]
  assert called[1][4:] == [
      "my tpu",
      "--node-id=my tpu",
      "--zone=zone",
      "--accelerator-type=v5litepod-8",
      "--runtime-version=v2-alpha-tpuv5-lite",
      "--network=my net",
      "--spot",
  ]
  flags = ["--config=configs/wmt.py", "--workdir=my runs", *HOSTILE]
  assert calls(environment, "python")[-1] == ["-m", "kdtw_jax.main", *flags]
  assert calls(environment, "sleep") == [["30"]] * 2 and not executed(environment)
  again = queue(sandbox, *words, STATES="- - ACTIVE")
  assert again.returncode == 0, again.stderr
  assert sum(call[3] == "create" for call in calls(environment, "gcloud")) == 1
  assert sum(call[3] == "ssh" for call in calls(environment, "gcloud")) == 2


def test_a_queued_tpu_that_was_taken_back_is_not_waited_for(sandbox):
  environment, _ = sandbox
  done = queue(sandbox, "configs/wmt.py", "runs", STATES="PROVISIONING SUSPENDED")
  assert done.returncode == 1 and "launch/tpu_queue.sh delete" in done.stderr
  assert "ssh" not in [call[3] for call in calls(environment, "gcloud")]


def test_a_queued_tpu_is_deleted_with_its_machines(sandbox):
  environment, _ = sandbox
  assert queue(sandbox, "delete").returncode == 0
  (deleted,) = calls(environment, "gcloud")
  assert deleted[2:] == [
      "queued-resources",
      "delete",
      "my tpu",
      "--zone=zone",
      "--force",
      "--quiet",
  ]


# SkyPilot -----------------------------------------------------------------------------------------

SKY = ROOT / "launch" / "sky.yaml"


def sky(sandbox, section, **variables):
  """Runs a section as SkyPilot does: in the checkout, by bash, with the variables of the task."""
  environment, checkout = sandbox
  task = yaml.safe_load(SKY.read_text(encoding="utf-8"))
  given = {name: value or "" for name, value in task["envs"].items()}
  return subprocess.run(
      ["bash", "-c", task[section]],
      cwd=checkout,
      env={**environment, "HOME": environment["SANDBOX"], **given, **variables},
      check=False,
      text=True,
      capture_output=True,
  )


def test_the_task_of_skypilot_names_what_exists():
  text = SKY.read_text(encoding="utf-8")
  task = yaml.safe_load(text)
  assert set(task) == {"name", "workdir", "resources", "envs", "file_mounts", "setup", "run"}
  assert task["workdir"] == "." and task["resources"]["use_spot"]
  assert task["envs"]["BUCKET"] is None  # SkyPilot refuses a task that gives none
  (place,) = task["file_mounts"]
  mount = task["file_mounts"][place]
  assert mount == {"source": "${BUCKET}", "mode": "MOUNT_CACHED"} and f'"{place}/' in task["run"]
  used = set(re.findall(r"\$\{?([A-Z]+)\b", text)) - {"HOME"}
  given = set(re.findall(r"--env (\w+)=", text))
  assert used == set(task["envs"]) >= given >= {"BUCKET"}
  files = re.findall(r"\b(?:configs|launch)/\w+\.(?:py|sh|yaml)\b", text)
  assert len(files) >= 5 and all((ROOT / file).is_file() for file in files)


def test_the_task_of_skypilot_installs_and_runs_whole_arguments(sandbox):
  environment, _ = sandbox
  done = sky(sandbox, "setup")
  assert done.returncode == 0, done.stderr
  assert calls(environment, "python")[-1][-1] == ".[cuda]"
  done = sky(sandbox, "run", FLAGS=shlex.join(HOSTILE), NAME="a 'b'")
  assert done.returncode == 0, done.stderr
  flags = ["--config=configs/wmt.py", "--workdir=/runs/a 'b'", *HOSTILE]
  assert calls(environment, "python")[-1] == ["-m", "kdtw_jax.main", *flags]
  assert not executed(environment)


def test_the_task_of_skypilot_brings_a_python_if_there_is_none(sandbox):
  environment, _ = sandbox
  tools = Path(environment["SANDBOX"]) / "tools"
  old = "#!/bin/sh\nexit 1\n"
  for name in ("python3", "python3.11", "python3.12", "python3.13"):
    (tools / name).write_text(old)
    (tools / name).chmod(0o755)
  uv = Path(environment["SANDBOX"]) / ".local" / "bin" / "uv"
  uv.parent.mkdir(parents=True)
  uv.write_text(
      '#!/bin/sh\n[ "$*" = "venv --seed --python 3.12 .venv" ] && mkdir -p .venv/bin && '
      "echo : > .venv/bin/activate && cp /bin/sh .venv/bin/python\n"
  )
  uv.chmod(0o755)
  done = sky(sandbox, "setup")
  assert done.returncode == 0, done.stderr
  assert "install" in calls(environment, "python")[-1]


@pytest.mark.parametrize(
    "run, is_done",
    [
        ("", True),
        ("sys.exit(3)", False),
        ("import signal; os.kill(os.getppid(), signal.SIGTERM)", False),  # it has saved
    ],
)
def test_a_task_whose_machine_is_taken_back_is_not_done(sandbox, run, is_done):
  assert (sky(sandbox, "run", RUN=run).returncode == 0) == is_done


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
  if script.name.startswith("tpu_"):
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
