"""The launch scripts of runs that have several processes: on one machine, and under Slurm."""

from pathlib import Path
import re
import signal
import subprocess
import sys
import time

import pytest

from tests import launch_sandbox
from tests.launch_sandbox import HOSTILE, ROOT, calls, executed


@pytest.fixture
def sandbox(tmp_path):
  return launch_sandbox.make(tmp_path)


# Several processes on this machine ----------------------------------------------------------------


def start(sandbox, *words, **variables):
  environment, checkout = sandbox
  return subprocess.Popen(
      ["launch/local.sh", *words],
      cwd=checkout,
      env={**environment, **variables},
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
  )


def finished(process):
  """The status and the output of a script that ends by itself."""
  with process:
    return process.wait(timeout=60), process.stdout.read()


WHICH = "which = int(sys.argv[5].removeprefix('--process=')); "


def test_local_processes_are_told_of_each_other_and_get_whole_arguments(sandbox):
  environment, checkout = sandbox
  words = ["3", "configs/wmt.py", "my runs/$(touch executed)", *HOSTILE]
  say = "print('process', which, 'has', os.environ['CUDA_VISIBLE_DEVICES'], flush=True)"
  devices = "0,1,2,GPU-3,4,5"
  process = start(sandbox, *words, RUN=WHICH + say, CUDA_VISIBLE_DEVICES=devices)
  assert finished(process) == (0, "process 0 has 0,1\n")
  workdir = checkout / "my runs" / "$(touch executed)"
  files = sorted((workdir / "processes").iterdir())
  assert [(file.name, file.read_text()) for file in files] == [
      ("1.txt", "process 1 has 2,GPU-3\n"),
      ("2.txt", "process 2 has 4,5\n"),
  ]
  called = sorted(call for call in calls(environment, "python") if call[1] == "kdtw_jax.main")
  coordinator = called[0][2]
  assert re.fullmatch(r"--coordinator=localhost:6[1-5]\d\d\d", coordinator)
  flags = ["--config=configs/wmt.py", f"--workdir={workdir}", *HOSTILE]
  assert called == [
      ["-m", "kdtw_jax.main", coordinator, "--processes=3", f"--process={number}", *flags]
      for number in range(3)
  ]
  assert not executed(environment)


def test_gpus_that_cannot_be_shared_evenly_are_refused(sandbox):
  status, said = finished(start(sandbox, "2", "a", "b", CUDA_VISIBLE_DEVICES="0,1,2"))
  assert status == 2 and "NUMBER=2: must divide the number of GPUs, which is 3" in said


@pytest.mark.parametrize("statuses, expected", [([0, 3, 4], 3), ([0, 0, 4], 4), ([5, 3, 0], 5)])
def test_the_first_status_that_is_not_zero_is_that_of_the_script(sandbox, statuses, expected):
  leave = f"time = __import__('time'); time.sleep(0.2 * (3 - which)); sys.exit({statuses}[which])"
  assert finished(start(sandbox, "3", "a", "b", RUN=WHICH + leave))[0] == expected


@pytest.mark.parametrize("number, status", [("TERM", 0), ("INT", 130), ("HUP", 0)])
def test_a_signal_reaches_all_local_processes_once_and_they_are_waited_for(
    sandbox, heard_signals, number, status
):
  _, checkout = sandbox
  program = f"""import os, signal, time
def handle(*_):  # it may come while `print` below is at work, which is not reentrant
  os.write(1, b"heard\\n")
  time.sleep(0.3 * which)
  os.write(1, b"saved\\n")
  os._exit({status})
{WHICH}
for name in ("TERM", "INT", "HUP"):
  assert signal.getsignal(getattr(signal, "SIG" + name)) != signal.SIG_IGN
signal.signal(signal.SIG{number}, handle)
print("waits", flush=True)
time.sleep(50)
"""
  process = start(sandbox, "3", "a", "b", RUN=program)
  files = [checkout / "b" / "processes" / f"{number}.txt" for number in (1, 2)]
  with process:
    assert process.stdout.readline() == "waits\n"
    end = time.monotonic() + 30
    while not all(file.exists() and file.read_text() == "waits\n" for file in files):
      assert time.monotonic() < end and process.poll() is None
      time.sleep(0.02)
    process.send_signal(getattr(signal, f"SIG{number}"))
    said = process.stdout.read()
    assert (process.wait(timeout=30), said) == (status, "heard\nsaved\n")
  assert [file.read_text() for file in files] == ["waits\nheard\nsaved\n"] * 2


def test_local_processes_are_real_ones(sandbox):
  real = f"os.execv({sys.executable!r}, [{sys.executable!r}, *sys.argv[1:]])"
  words = ["2", f"{ROOT}/configs/demo.py:smoke", "b", "--config.wheels.alpha=-1.0"]
  process = start(sandbox, *words, RUN=real, PYTHONPATH=str(ROOT))
  status, said = finished(process)
  refused = "error: config.wheels.alpha=-1.0: must be > 0"  # of its flags, none was refused before
  file = sandbox[1] / "b" / "processes" / "1.txt"
  assert status == 1 and refused in said and refused in file.read_text()


# Slurm --------------------------------------------------------------------------------------------


def submit(sandbox, **variables):
  environment, checkout = sandbox
  words = ["launch/slurm.sh", "configs/wmt.py", "my runs/$(touch executed)", *HOSTILE]
  return subprocess.run(
      words,
      cwd=checkout,
      env={**environment, **variables},
      check=False,
      capture_output=True,
      timeout=60,
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
