"""Copies what is worth keeping of finished runs into a folder of results, one `seedN/` for each.

    python benchmarks/publish.py --out=results/multi30k runs/m30k-0 runs/m30k-1

Sample sentences stay behind (they are the data's), numbers are cut to six digits, and paths to what
they mean: `DIR` for the data, `runs/...` for the workdirs.
"""

from pathlib import Path
import shutil

from absl import app, flags

from kdtw_jax.files import write_json
from kdtw_jax.report.metrics_json import read_json

FILES = (
    "tradeoff.csv",
    "quality_share.png",
    "quality_calls.png",
    "quality_cost.png",
    "budget_calibration.png",
)

_OUT = flags.DEFINE_string("out", None, "Folder of this run's results", required=True)


def portable(value, paths: dict[str, str]):
  """A metrics value without this machine's paths and without digits that mean nothing."""
  if isinstance(value, dict):
    return {key: portable(item, paths) for key, item in value.items() if key != "samples"}
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
  metrics = read_json(workdir / "metrics.json")
  paths = {metrics["config"]["data"]["path"]: "DIR", f"{Path.cwd()}/": ""}
  write_json(folder / "metrics.json", portable(metrics, {k: v for k, v in paths.items() if k}))
  for name in FILES:
    shutil.copyfile(workdir / name, folder / name)


if __name__ == "__main__":
  app.run(main)
