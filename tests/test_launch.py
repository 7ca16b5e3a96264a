"""The launch scripts: an environment is made once, and no interrupted try stays in the way."""

import json
import os
from pathlib import Path
import re
import shlex
import shutil
import signal
import subprocess
import sys
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

HOSTILE = (
    "--config.stages=('a','b')",
    "--config.name=$(touch executed) `touch executed`; touch executed",
    "--config.data.path=a 'b' \"c\" \\ * & | > executed",
)
RUN = sorted(set((ROOT / "launch").glob("*.sh")) - {ROOT / "launch" / "environment.sh"})
GCLOUD = """#!{python}
import json, os, shutil, subprocess, sys
log = os.environ["SANDBOX"] + "/gcloud.jsonl"
print(json.dumps(sys.argv[1:]), file=open(log, "a"))
vm = os.environ["SANDBOX"] + "/vm"
words = sys.argv[5:]
if sys.argv[4] == "scp":
  shutil.copy(words[0], vm + "/" + words[1].partition(":")[2])
else:
  command = words[-1].removeprefix("--command=")
  sys.exit(subprocess.run(["bash", "-c", command], cwd=vm).returncode)
"""
PYTHON = """#!{python}
import json, os, pathlib, sys
if sys.argv[1:3] == ["-m", "venv"]:
  (pathlib.Path(sys.argv[-1]) / "bin").mkdir(parents=True, exist_ok=True)
  (pathlib.Path(sys.argv[-1]) / "bin" / "activate").write_text("# nothing")
print(json.dumps(sys.argv[1:]), file=open(os.environ["SANDBOX"] + "/python.jsonl", "a"))
"""
COMMANDS_OF_SLURM = ("sbatch", "srun", "scancel", "scontrol")
SLURM = """#!{python}
import json, os, pathlib, shutil, signal, subprocess, sys, time
name, words = pathlib.Path(sys.argv[0]).name, sys.argv[1:]
sandbox = pathlib.Path(os.environ["SANDBOX"])
print(json.dumps(words), file=open(sandbox / (name + ".jsonl"), "a"))
if name == "sbatch":  # runs a copy of the script, here
  script = words.index("launch/slurm_job.sh")
  shutil.copy(words[script], sandbox / "slurm_script")
  os.environ.update(SLURM_JOB_ID="7", SLURM_CPUS_PER_TASK="8")
  sys.exit(subprocess.run([sandbox / "slurm_script", *words[script + 1 :]]).returncode)
if name == "srun" and "WARN" in os.environ:  # a run that goes on until it is signalled
  os.kill(os.getppid(), signal.SIGUSR1)
  while not (sandbox / "scancel.jsonl").exists():
    time.sleep(0.01)
  time.sleep(0.3)  # it saves
  (sandbox / "saved").touch()
elif name == "srun":
  assert os.environ["SRUN_CPUS_PER_TASK"] == "8"
  sys.exit(subprocess.run(words).returncode or int(os.environ.get("STATUS", 0)))
elif name == "scontrol":
  assert (sandbox / "saved").exists()
"""


@pytest.fixture
def sandbox(tmp_path):
  """(environment, checkout) with tools that record how they are called."""
  checkout, tools = tmp_path / "checkout", tmp_path / "tools"
  shutil.copytree(
      ROOT / "launch", checkout / "launch", ignore=shutil.ignore_patterns("__pycache__")
  )
  for folder in (tools, tmp_path / "vm", tmp_path / "tmp"):
    folder.mkdir()
  scripts = {"gcloud": GCLOUD, "python": PYTHON, "python3": PYTHON}
  for name, script in (scripts | dict.fromkeys(COMMANDS_OF_SLURM, SLURM)).items():
    (tools / name).write_text(script.format(python=sys.executable), encoding="utf-8")
    (tools / name).chmod(0o755)
  git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
  for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "a"]):
    subprocess.run([*git, *words], cwd=checkout, check=True)
  environment = {
      "PATH": f"{tools}:{os.environ['PATH']}",
      "SANDBOX": str(tmp_path),
      "TMPDIR": str(tmp_path / "tmp"),
      "TPU_NAME": "my tpu",
      "ZONE": "zone",
  }
  return environment, checkout


def calls(environment, name):
  path = Path(environment["SANDBOX"]) / f"{name}.jsonl"
  return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def executed(environment):
  return list(Path(environment["SANDBOX"]).rglob("executed"))


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


# Slurm --------------------------------------------------------------------------------------------


def submit(sandbox, **variables):
  environment, checkout = sandbox
  words = ["launch/slurm.sh", "configs/wmt.py", "my runs/$(touch executed)", *HOSTILE]
  return subprocess.run(
      words, cwd=checkout, env={**environment, **variables}, check=False, capture_output=True
  )


def test_a_job_of_slurm_installs_once_and_runs_whole_arguments_on_all_tasks(sandbox):
  environment, checkout = sandbox
  options = "--account=us --comment='a \"b\" $(touch executed)'"
  done = submit(sandbox, NODES="2", GPUS="4", TIME="1:00:00", SBATCH_OPTIONS=options, SAVE="60")
  assert done.returncode == 0, done.stderr
  (submitted,) = calls(environment, "sbatch")
  workdir = f"{checkout}/my runs/$(touch executed)"
  assert {
      f"--output={workdir}/slurm-%j.out",
      "--nodes=2",
      "--ntasks-per-node=4",  # JAX: a task for each GPU, which sees all of its node
      "--gpus-per-node=4",
      "--time=1:00:00",
      "--requeue",
      "--open-mode=append",
      "--signal=B:USR1@60",
      "--account=us",
      '--comment=a "b" $(touch executed)',
  } < set(submitted)
  assert not any(word.startswith(("--partition", "--gpus-per-task")) for word in submitted)
  assert Path(workdir).is_dir()  # for the output
  run = ["-m", "kdtw_jax.main", "--config=configs/wmt.py", f"--workdir={workdir}", *HOSTILE]
  assert calls(environment, "srun") == [["python", *run]]
  called = calls(environment, "python")
  assert called[-1] == run and sum("install" in call for call in called) == 1
  assert not executed(environment)
  assert not (Path(environment["SANDBOX"]) / "scontrol.jsonl").exists()


def test_a_job_whose_time_is_almost_over_saves_and_is_queued_again(sandbox):
  environment, _ = sandbox
  done = submit(sandbox, WARN="yes")
  assert done.returncode == 0, done.stderr
  assert calls(environment, "scancel") == [["--signal=TERM", "7"]]
  assert calls(environment, "scontrol") == [["requeue", "7"]]


def test_a_job_that_fails_is_not_queued_again(sandbox):
  environment, _ = sandbox
  assert submit(sandbox, STATUS="3").returncode == 3
  assert not (Path(environment["SANDBOX"]) / "scontrol.jsonl").exists()


def test_without_a_network_on_the_nodes_the_environment_is_made_before(sandbox):
  environment, _ = sandbox
  assert submit(sandbox, INSTALL="here").returncode == 0
  called = calls(environment, "python")
  assert sum("install" in call for call in called) == 1
  environment, checkout = sandbox
  job = ["launch/slurm_job.sh", "configs/wmt.py", "runs/wmt", "--dry-run"]
  shown = subprocess.run(
      job, cwd=checkout, env={**environment, "INSTALL": "here"}, text=True, capture_output=True
  ).stdout
  assert "activate" in shown and "install" not in shown


@pytest.mark.parametrize("script", RUN, ids=lambda path: path.name)
def test_a_dry_run_prints_the_commands_and_runs_none(sandbox, script):
  environment, checkout = sandbox
  before = sorted(Path(environment["SANDBOX"]).rglob("*"))
  words = [f"launch/{script.name}", "wmt", "my runs", *HOSTILE, "--dry-run"]
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
