"""Runs that go on from the same earlier stages, for comparisons of ways to train."""

from pathlib import Path

import ml_collections

from kdtw_jax.run import open_run
from kdtw_jax.stages.stage import Run

# Where the teacher came from, and whether the gate, which learns only in `wheels`, trains the rest.
APART_FROM = ("teacher.checkpoint", "student.model.detach_gate_features")


def branch(config: ml_collections.ConfigDict, base: Path, workdir: Path, *stages: str) -> Run:
  """Opens a run that takes finished stages from another, and its teacher and tokenizer.

  Args:
    config: of the new run; it may differ in what comes after those stages, and in `APART_FROM`.
    base: workdir of the other run.
    workdir: of the new run.
    *stages: names of the stages.

  Raises:
    ValueError: if the config is impossible, the workdir belongs to another run, or the stages were
      made by another config.
  """
  config = config.copy_and_resolve_references()
  config.teacher.checkpoint = config.teacher.checkpoint or str(base)
  run = open_run(config, workdir)
  for stage in stages:
    run.workdir.adopt(stage, base, apart_from=APART_FROM)
  return run
