"""Stage `evaluation`: every method measured, compared and reported.

It runs every time. One that was ended goes on after the last point that it measured.
"""

import dataclasses
import functools
from pathlib import Path
import time

from kdtw_jax import config as config_lib
from kdtw_jax import processes, tensorboard
from kdtw_jax.evaluation.evaluate import evaluate
from kdtw_jax.evaluation.kept import Kept
from kdtw_jax.evaluation.measure import PAIR_STAGE
from kdtw_jax.evaluation.record import Metrics, Stage
from kdtw_jax.evaluation.scalars import curves_by_run
from kdtw_jax.pair_checks import read_saved
from kdtw_jax.report import print_summary, write_report
from kdtw_jax.stages.stage import Run
from kdtw_jax.terminal import Bar, print_line, read_log

STUDENTS = ("sft", "warm_start", "distillation", "wheels")


def measure(run: Run) -> Path:
  """Measures the trained pair and the run's other students, and writes the report and its scalars.

  Returns:
    The path of the report page.

  Raises:
    ValueError: if `wheels` is not done.
  """
  started = time.monotonic()
  wheels = run.workdir.summary("wheels")
  if wheels is None:
    raise ValueError("stage 'evaluation' needs stage 'wheels': add it to config.stages")
  students = {name: run.params(name) for name in STUDENTS if run.workdir.summary(name)}
  print_line("evaluation", "every method at every setting, on validation and test, and compared")
  parts = {
      "students": {**students, PAIR_STAGE: run.params(run.pair_stage)},
      "teacher_params": run.params("teacher"),
      "duals": tuple(wheels["duals"]),
      "sources": {split: run.inputs.source(split) for split in ("train", "validation", "test")},
      "tokenised": {split: run.inputs.tokenised(split) for split in ("validation", "test")},
      "paces": read_saved(run.workdir.path / "pair" / "pair.json").paces,
  }
  summaries = {name: run.workdir.summary(name) for name in config_lib.STAGES}
  made_of = {
      "config": config_lib.to_json(run.config),
      "stages": summaries,
      "data": {split: run.inputs.fingerprint(split) for split in parts["sources"]},
      "hardware": [device.device_kind for device in run.mesh.devices.flat],
  }
  kept = Kept(run.workdir.folder("evaluation") / "kept", made_of)
  with Bar("evaluation") as bar:
    metrics = evaluate(
        run.config, run.inputs.models, run.mesh, run.inputs.tokenizer, **parts, kept=kept, bar=bar
    )
  stages = [
      dataclasses.replace(Stage.from_summary(found), log=read_log(run.workdir.folder(name)))
      for name, found in summaries.items()
      if found is not None and "steps" in found
  ]
  stages.append(Stage(stage="evaluation", seconds=time.monotonic() - started))
  metrics = dataclasses.replace(metrics, stages=tuple(stages))
  report = Path(processes.first_alone(functools.partial(_report, run, metrics)))
  kept.clear()
  return report


def _report(run: Run, metrics: Metrics) -> str:
  """Writes the scalars and the report, and shows its summary; returns the path of the page."""
  tensorboard.write_runs(run.workdir.folder("evaluation"), curves_by_run(metrics))
  report = write_report(metrics, run.workdir.path)
  print_summary(metrics, report)
  return str(report)
