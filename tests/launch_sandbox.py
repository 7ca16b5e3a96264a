"""A checkout of launch/, and tools that record how they are called by its scripts, for tests."""

import json
import os
from pathlib import Path
import shutil
import subprocess
import sys

ROOT = Path(__file__).parent.parent
HOSTILE = (
    "--config.stages=('a','b')",
    "--config.name=$(touch executed) `touch executed`; touch executed",
    "--config.data.path=a 'b' \"c\" \\ * & | > executed",
)
GCLOUD = """#!{python}
import json, os, shutil, subprocess, sys
log = os.environ["SANDBOX"] + "/gcloud.jsonl"
print(json.dumps(sys.argv[1:]), file=open(log, "a"))
vm = os.environ["SANDBOX"] + "/vm"
words = sys.argv[5:]
if sys.argv[4] == "create":
  open(os.environ["SANDBOX"] + "/asked", "w")
elif sys.argv[4] == "describe":
  if not os.path.exists(os.environ["SANDBOX"] + "/asked"):
    sys.exit("not found")
  states = os.environ["STATES"].split()  # the first is that of the first look, and so on
  slept = os.environ["SANDBOX"] + "/sleep.jsonl"
  print(states[len(open(slept).readlines()) if os.path.exists(slept) else 0])
elif sys.argv[4] == "scp":
  shutil.copy(words[0], vm + "/" + words[1].partition(":")[2])
elif sys.argv[4] == "ssh":
  command = words[-1].removeprefix("--command=")
  sys.exit(subprocess.run(["bash", "-c", command], cwd=vm).returncode)
"""
PYTHON = """#!{python}
import json, os, pathlib, sys
if sys.argv[1:3] == ["-m", "venv"]:
  (pathlib.Path(sys.argv[-1]) / "bin").mkdir(parents=True, exist_ok=True)
  (pathlib.Path(sys.argv[-1]) / "bin" / "activate").write_text("# nothing")
print(json.dumps(sys.argv[1:]), file=open(os.environ["SANDBOX"] + "/python.jsonl", "a"))
if sys.argv[1:3] == ["-m", "kdtw_jax.main"]:
  exec(os.environ.get("RUN", ""))
"""
RECORDED = ("sbatch", "srun", "scancel", "scontrol", "sleep")
RECORD = """#!{python}
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
  assert os.getppid() > 1
  os.kill(os.getppid(), signal.SIGUSR1)
  end = time.monotonic() + 20
  while not (sandbox / "scancel.jsonl").exists():
    assert time.monotonic() < end
    time.sleep(0.01)
  time.sleep(0.3)  # it saves
  (sandbox / "saved").touch()
elif name == "srun":
  assert os.environ["SRUN_CPUS_PER_TASK"] == "8"
  sys.exit(subprocess.run(words).returncode or int(os.environ.get("STATUS", 0)))
elif name == "scontrol":
  assert (sandbox / "saved").exists()
"""


def make(folder):
  """Makes in a folder, and returns: an environment for the scripts, and a checkout of them."""
  checkout, tools = folder / "checkout", folder / "tools"
  shutil.copytree(
      ROOT / "launch", checkout / "launch", ignore=shutil.ignore_patterns("__pycache__")
  )
  for place in (tools, folder / "vm", folder / "tmp"):
    place.mkdir()
  scripts = {"gcloud": GCLOUD, "python": PYTHON, "python3": PYTHON}
  for name, script in (scripts | dict.fromkeys(RECORDED, RECORD)).items():
    (tools / name).write_text(script.format(python=sys.executable), encoding="utf-8")
    (tools / name).chmod(0o755)
  git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
  for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "a"]):
    subprocess.run([*git, *words], cwd=checkout, check=True)
  environment = {
      "PATH": f"{tools}:{os.environ['PATH']}",
      "SANDBOX": str(folder),
      "TMPDIR": str(folder / "tmp"),
      "TPU_NAME": "my tpu",
      "ZONE": "zone",
      "ACCELERATOR": "v5litepod-8",
      "RUNTIME": "v2-alpha-tpuv5-lite",
      "CUDA_VISIBLE_DEVICES": "",
  }
  return environment, checkout


def calls(environment, name):
  """The arguments of each call of a tool."""
  path = Path(environment["SANDBOX"]) / f"{name}.jsonl"
  return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def executed(environment):
  """Files that a hostile argument made."""
  return list(Path(environment["SANDBOX"]).rglob("executed"))
