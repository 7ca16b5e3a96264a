"""A smoke run of the demo in a process of its own; conftest.py makes its fixtures known."""

import os
from pathlib import Path
import subprocess
import sys

import filelock
import pytest

ROOT = Path(__file__).parent.parent
SMOKE = "configs/demo.py:smoke"
PACES = "--config.decode.paces=(1.0,8.0)"


def environment(cache):
  """One CPU device, and compiled programs shared between runs."""
  env = {
      **os.environ,
      "JAX_COMPILATION_CACHE_DIR": str(cache),
      "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
      "COLUMNS": "120",
      "PYTHONUNBUFFERED": "1",
  }
  env.pop("XLA_FLAGS", None)
  return env


@pytest.fixture(scope="session")
def cache():
  """The programs that all tests share, those of processes of their own included."""
  return Path(os.environ["JAX_COMPILATION_CACHE_DIR"])


def command(workdir, *flags, config=SMOKE):
  return [
      sys.executable,
      "-m",
      "kdtw_jax.main",
      f"--config={config}",
      f"--workdir={workdir}",
      *flags,
  ]


def start(cache, workdir, *flags, config=SMOKE):
  return subprocess.run(
      command(workdir, *flags, config=config),
      cwd=ROOT,
      text=True,
      capture_output=True,
      env=environment(cache),
      timeout=600,
      check=False,
  )


@pytest.fixture(scope="session")
def finished(cache, tmp_path_factory, worker_id):
  """A smoke run to its report, made by the first worker to need it: (workdir, terminal output)."""
  folder = tmp_path_factory.getbasetemp()
  if worker_id != "master":  # beside other workers of pytest-xdist
    folder = folder.parent
  workdir, output = folder / "run", folder / "run.txt"
  with filelock.FileLock(folder / "run.lock"):
    if not output.exists():
      done = start(cache, workdir, PACES)
      assert done.returncode == 0, done.stdout + done.stderr
      output.write_text(done.stdout + done.stderr, encoding="utf-8")
  return workdir, output.read_text(encoding="utf-8")
