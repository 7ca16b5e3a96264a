"""Runs that go on from the same earlier stages, for comparisons of ways to train."""

from pathlib import Path
import shutil

import ml_collections

from kdtw_jax.run import open_run
from kdtw_jax.stages.stage import Run


def branch(config: ml_collections.ConfigDict, base: Path, workdir: Path, *stages: str) -> Run:
  """Opens a run that takes finished stages from another, and its teacher and tokenizer.

  Args:
    config: of the new run; it may differ in what comes after those stages.
    base: workdir of the other run.
    workdir: of the new run.
    *stages: names of the stages.

  Raises:
    ValueError: if the config is impossible, or the workdir belongs to another run.
  """
  config = config.copy_and_resolve_references()
  config.teacher.checkpoint = config.teacher.checkpoint or str(base)
  run = open_run(config, workdir)
  for stage in stages:
    source, copy = (folder / "stages" / stage for folder in (base, workdir))
    if not (copy / "summary.json").exists():  # copied last, just as it is written last
      run.workdir.begin(stage, data={})
      shutil.copytree(source / "params", copy / "params", dirs_exist_ok=True)
      shutil.copyfile(source / "summary.json", copy / "summary.json")
  return run
