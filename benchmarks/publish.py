"""Copies the files of a finished run that are worth keeping into a folder of results.

    python -m benchmarks.publish --out=results/multi30k/seed0 runs/m30k-0

Sample sentences are left out, because they belong to the data, and so are logs of training. Numbers
are rounded to six digits, and paths are replaced by their meaning: `DIR` for the data, `runs/...`
for the workdirs.
"""

import dataclasses
from pathlib import Path
import shutil
from typing import Any

from absl import app, flags

from kdtw_jax.evaluation.record import Metrics, read_metrics, write_metrics
from kdtw_jax.evaluation.typed_json import from_json, to_json

FILES = (
    "tradeoff.csv",
    "quality_hull.png",
    "quality_share.png",
    "quality_calls.png",
    "quality_cost.png",
    "budget_calibration.png",
)

_OUT = flags.DEFINE_string("out", None, "Folder of this run's results", required=True)


def portable(value: Any, paths: dict[str, str]) -> Any:
  """Removes this machine's paths and meaningless digits from a JSON value."""
  if isinstance(value, dict):
    return {key: portable(item, paths) for key, item in value.items()}
  if isinstance(value, list):
    return [portable(item, paths) for item in value]
  if isinstance(value, float):
    return float(f"{value:.6g}")
  if isinstance(value, str):
    for path, name in paths.items():
      value = value.replace(path, name)
  return value


def main(argv):
  """Publishes a workdir."""
  if len(argv) != 2:
    raise app.UsageError("name one workdir")
  workdir, folder = Path(argv[1]), Path(_OUT.value)
  metrics = read_metrics(workdir / "metrics.json")
  stages = tuple(dataclasses.replace(stage, log=None) for stage in metrics.stages)
  metrics = dataclasses.replace(metrics, samples=(), stages=stages)
  paths = {metrics.config["data"]["path"]: "DIR", f"{Path.cwd()}/": ""}
  record = portable(to_json(metrics), {path: name for path, name in paths.items() if path})
  write_metrics(from_json(Metrics, record), folder / "metrics.json")
  for name in FILES:
    shutil.copyfile(workdir / name, folder / name)


if __name__ == "__main__":
  app.run(main)
