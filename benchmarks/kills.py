"""Ends runs at random moments and resumes them: does every number stay the same?

    python -m benchmarks.kills --num=50
    python -m benchmarks.kills --num=50 --signal=SIGTERM --out=runs/kills/sigterm.json

A run of the demo's smoke config is ended again and again, each time at a random moment after it has
loaded its data and within the seconds that an unbroken run then takes, until it is done; then
another begins. Of each, the summary of every stage (but its seconds), the state of its last
checkpoint and the weights of the pair are held against those of the unbroken run, bit for bit.
Where a run was ended is counted by the last line that it had printed. Compiled programs are kept
between runs.
"""

import argparse
import collections
import json
import math
import os
from pathlib import Path
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import orbax.checkpoint as ocp

from kdtw_jax.files import write_json

STAGES = ("teacher", "sft", "warm_start", "distillation", "wheels", "worth")
ENDED = {  # the status that a run may have
    "SIGKILL": (0, -signal.SIGKILL),
    "SIGTERM": (0, 128 + signal.SIGTERM, -signal.SIGTERM),  # the last before Python has begun
}


def start(workdir: Path, stages: tuple[str, ...]) -> subprocess.Popen:
  """Starts a run, or goes on with it; its output is in `<workdir>.log`."""
  command = [sys.executable, "-m", "kdtw_jax.main", "--config=configs/demo.py:smoke"]
  command += [f"--workdir={workdir}", f"--config.stages={('tokenizer', *stages)}"]
  environment = os.environ | {
      "JAX_COMPILATION_CACHE_DIR": str(workdir.parent / "compiled"),
      "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
      "PYTHONUNBUFFERED": "1",
  }
  with workdir.with_suffix(".log").open("w") as log:
    return subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)


def is_done(workdir: Path, stages: tuple[str, ...]) -> bool:
  """Returns True if the run has its last stage and its pair."""
  done = workdir / "stages" / stages[-1] / "summary.json"
  return done.is_file() and (workdir / "pair" / "summary.json").is_file()


def wait_for_training(process: subprocess.Popen, workdir: Path) -> None:
  """Waits until a process has loaded and checked everything, or has ended."""
  while process.poll() is None and "\nmodels " not in workdir.with_suffix(".log").read_text():
    time.sleep(0.05)


def finish(workdir: Path, stages: tuple[str, ...]) -> float:
  """Runs to the end; returns the seconds it took after its start."""
  process = start(workdir, stages)
  wait_for_training(process, workdir)
  started = time.monotonic()
  if process.wait() != 0:
    sys.exit(f"a run failed:\n{workdir.with_suffix('.log').read_text()}")
  return time.monotonic() - started


def where(workdir: Path) -> str:
  """Returns the stage of the last line of progress; "start" before there is one."""
  words = [line.split()[0] for line in workdir.with_suffix(".log").read_text().splitlines() if line]
  return next((w for w in reversed(words) if w in (*STAGES, "calibration", "pair")), "start")


def results(workdir: Path, stages: tuple[str, ...]) -> dict[str, object]:
  """Returns what is compared, by name."""
  found: dict[str, object] = {}
  for stage in stages:
    folder = workdir / "stages" / stage
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    found[f"{stage}, summary"] = {k: v for k, v in summary.items() if k != "seconds"}
    if (folder / "checkpoints").is_dir():
      with ocp.CheckpointManager((folder / "checkpoints").absolute()) as manager:
        args = ocp.args.Composite(state=ocp.args.PyTreeRestore(restore_args=None))
        found[f"{stage}, checkpoint"] = as_bytes(manager.restore(manager.latest_step(), args=args))
  for path in sorted((workdir / "pair").rglob("*.safetensors")):
    found[f"pair, {path.parent.name}/{path.name}"] = path.read_bytes()
  return found


def as_bytes(restored: ocp.args.Composite) -> dict[str, bytes]:
  """Returns the bytes of every array of a checkpoint, by its place."""
  leaves = ocp.tree.to_flat_dict(restored.state)
  return {str(path): np.asarray(leaf).tobytes() for path, leaf in leaves.items()}


def main() -> None:
  """Measures, prints a tally and writes it."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--num", type=int, default=20, help="signals to send")
  parser.add_argument("--signal", choices=sorted(ENDED), default="SIGKILL")
  parser.add_argument("--stages", default=",".join(STAGES), help="stages to train, with commas")
  parser.add_argument("--seed", type=int, default=0, help="of the moments")
  parser.add_argument(
      "--minutes", type=float, default=60.0, help="sends no further signal after them"
  )
  parser.add_argument("--workdir", type=Path, default=Path("runs/kills"))
  parser.add_argument("--out", type=Path, default=Path("runs/kills/kills.json"))
  args = parser.parse_args()
  stages, began = tuple(args.stages.split(",")), time.monotonic()
  moments = random.Random(args.seed)
  args.workdir.mkdir(parents=True, exist_ok=True)
  whole, ended = args.workdir / "whole", args.workdir / "ended"
  if not is_done(whole, stages):
    finish(whole, stages)  # compiles
  shutil.rmtree(whole)
  seconds = finish(whole, stages)
  expected, at, different, waits, runs = results(whole, stages), collections.Counter(), [], [], 0

  def begin_more() -> bool:
    return at.total() < args.num and time.monotonic() - began < 60 * args.minutes

  while begin_more():
    shutil.rmtree(ended, ignore_errors=True)
    while not is_done(ended, stages):
      process = start(ended, stages)
      wait_for_training(process, ended)
      started = time.monotonic()
      delay = moments.uniform(0, seconds) if begin_more() else math.inf
      try:
        status = process.wait(delay)
      except subprocess.TimeoutExpired:
        process.send_signal(signal.Signals[args.signal])
        status = process.wait()
        at[where(ended)] += 1
        waits.append(time.monotonic() - started - delay)
      if status not in ENDED[args.signal]:
        sys.exit(f"status {status} of a run:\n{ended.with_suffix('.log').read_text()}")
    found = results(ended, stages)
    different += [f"run {runs}: {name}" for name in expected if found[name] != expected[name]]
    runs += 1
    print(f"{at.total()} x {args.signal}, {runs} runs, {len(different)} differences", flush=True)
  tally = {
      "signal": args.signal,
      "sent": at.total(),
      "at": dict(at),
      "runs": runs,
      "compared_per_run": len(expected),
      "different": different,
      "longest_wait_seconds": round(max(waits, default=0.0), 1),
      "seconds_of_training": round(seconds, 1),
  }
  print(json.dumps(tally, indent=1))
  write_json(args.out, tally)


if __name__ == "__main__":
  main()
