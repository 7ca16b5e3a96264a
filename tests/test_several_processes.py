"""A run of two real processes, interrupted twice, is the run of one; and what they refuse."""

import json
import re
import signal
import socket
import subprocess
import time

import jax
import numpy as np
import pytest

from kdtw_jax.pair import load_pair
from tests.smoke_run import ROOT, command, environment

pytestmark = pytest.mark.usefixtures("heard_signals")
SMALL = (
    "--config.stages=('tokenizer','teacher','warm_start','wheels','worth','evaluation')",
    "--config.data.buckets=((40,6),)",
    "--config.data.over_long=truncate",
    "--config.decode.max_length=6",  # each token takes a few messages
    "--config.teacher.train.steps=40",
    "--config.teacher.train.checkpoint_every=20",
    "--config.evaluation.batch_size=4",
    "--config.evaluation.time_every_method=False",
    "--config.evaluation.methods=('random',)",
    "--config.evaluation.offset_shares=()",
    "--config.evaluation.tolerances=()",
    "--config.budgets.seen=(0.2,)",
)
CLOCKS = ("seconds_per_sentence", "cost")


class Processes:
  """Two processes of one run on this machine, one device each; ended with the block."""

  def __init__(self, cache, workdir, *flags, differing=((), ())):
    with socket.socket() as found:
      found.bind(("localhost", 0))
      port = found.getsockname()[1]
    self.all = [
        subprocess.Popen(
            [
                *command(workdir, *SMALL, *flags, *own),
                f"--coordinator=localhost:{port}",
                "--processes=2",
                f"--process={number}",
            ],
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(cache) | {"JAX_PLATFORMS": "cpu"},
        )
        for number, own in enumerate(differing)
    ]

  def __enter__(self):
    return self

  def __exit__(self, *unused):
    for process in self.all:
      process.kill()
      process.communicate()

  def ended(self):
    """Waits for both; gives the status, the output and the errors of each."""
    found = [process.communicate(timeout=500) for process in self.all]
    return [(p.returncode, *said) for p, said in zip(self.all, found, strict=True)]

  def wait_for(self, seen):
    end = time.monotonic() + 240
    while not seen():
      assert time.monotonic() < end and all(process.poll() is None for process in self.all)
      time.sleep(0.02)


def rows(workdir, stage):
  path = workdir / "stages" / stage / "log.jsonl"
  return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def without_clocks(point):
  return {name: value for name, value in point.items() if name not in CLOCKS}


@pytest.fixture(scope="module")
def workdir(cache, tmp_path_factory):
  """The workdir of a run of two processes that was asked to end, then lost one, then finished."""
  workdir = tmp_path_factory.mktemp("several") / "run"
  with Processes(cache, workdir) as both:
    both.wait_for(lambda: rows(workdir, "teacher"))
    both.all[1].send_signal(signal.SIGTERM)
    found = both.ended()
  assert [status for status, *_ in found] == [0, 0], found
  first, second = (re.search(r"stage teacher is saved at step (\d+)", e) for *_, e in found)
  assert first and second and first[1] == second[1] and 0 < int(first[1]) < 40
  with Processes(cache, workdir) as both:
    both.wait_for(lambda: rows(workdir, "teacher")[-1]["step"] > int(first[1]))
    both.all[1].kill()
    started = time.monotonic()
    assert both.all[0].wait(timeout=60) != 0  # it ends too, and does not wait for ever
    assert time.monotonic() - started < 45
  assert not (workdir / "metrics.json").exists()
  with Processes(cache, workdir) as both:
    found = both.ended()
  assert [status for status, *_ in found] == [0, 0], found
  assert "Report: " in found[0][1] and "Report: " not in found[1][1]  # one of them speaks
  return workdir


@pytest.fixture(scope="module")
def of_one(cache, tmp_path_factory):
  """The workdir of one process with as many devices."""
  workdir = tmp_path_factory.mktemp("one") / "run"
  env = environment(cache) | {
      "JAX_PLATFORMS": "cpu",
      "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
  }
  subprocess.run(command(workdir, *SMALL), cwd=ROOT, env=env, check=True, capture_output=True)
  return workdir


@pytest.mark.slow
def test_each_step_is_that_of_one_process(workdir, of_one):
  for stage in ("teacher", "warm_start", "wheels"):
    found, wanted = rows(workdir, stage), rows(of_one, stage)
    assert [row["step"] for row in found] == [row["step"] for row in wanted]
    for row, other in zip(found, wanted, strict=True):
      np.testing.assert_allclose([*row.values()], [*other.values()], rtol=1e-4, atol=1e-5)
  for stage in ("wheels", "worth"):
    found, wanted = (
        json.loads((folder / "stages" / stage / "summary.json").read_text())
        for folder in (workdir, of_one)
    )
    np.testing.assert_allclose(found["duals"], wanted["duals"], rtol=1e-4)
    np.testing.assert_allclose(found["loss"], wanted["loss"], rtol=1e-4)


@pytest.mark.slow
def test_the_pair_is_that_of_one_process(workdir, of_one):
  found, wanted = (load_pair(folder) for folder in (workdir, of_one))
  for part in ("student_params", "teacher_params"):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
        getattr(found, part),
        getattr(wanted, part),
    )


@pytest.mark.slow
def test_outputs_scores_and_counts_are_those_of_one_process(workdir, of_one):
  found, wanted = (
      json.loads((folder / "metrics.json").read_text()) for folder in (workdir, of_one)
  )
  assert found["hardware"].startswith("2 x ")
  assert found["samples"] == wanted["samples"] and found["alone"] == wanted["alone"]
  for split, curves in wanted["curves"].items():
    for curve, other in zip(found["curves"][split], curves, strict=True):
      assert [*map(without_clocks, curve["points"])] == [*map(without_clocks, other["points"])]
  assert len(wanted["curves"]["test"]) > 2 and (workdir / "report.html").is_file()


def test_processes_with_different_configs_are_refused(cache, tmp_path):
  different = ((), ("--config.seed=1",))
  with Processes(cache, tmp_path / "run", differing=different) as both:
    found = both.ended()
  said = "process 1 differs from process 0 (there != here) config.seed: 0 != 1; give all"
  assert [status for status, *_ in found] == [1, 1]
  assert all(said in error for *_, error in found) and not (tmp_path / "run").exists()


def test_some_flags_without_the_others_are_refused(tmp_path):
  flags = ("--coordinator=localhost:1234", "--processes=2")
  done = subprocess.run(
      command(tmp_path, *flags), cwd=ROOT, text=True, capture_output=True, check=False
  )
  assert done.returncode == 1
  assert done.stderr == (
      "error: --coordinator=localhost:1234 --processes=2: --process missing: give all three flags, "
      "or none\n"
  )
