"""A run, top to bottom: its inputs, its eight stages, and the pair that training produces.

A finished stage is loaded, and an interrupted one resumes. A stage that the config leaves out is
loaded if it exists. Each stage is a file in `stages/`.
"""

import contextlib
from pathlib import Path
import shlex
from typing import Any

import ml_collections
import numpy as np

from kdtw_jax import config as config_lib
from kdtw_jax import devices, pair, processes, tracking
from kdtw_jax.files import not_written, write_json
from kdtw_jax.inputs import Inputs
from kdtw_jax.plugins import load_plugins
from kdtw_jax.stages import (
    checks,
    distillation,
    evaluation,
    paces,
    sft,
    teacher,
    tokenizer,
    warm_start,
    wheels,
    worth,
)
from kdtw_jax.stages.stage import Run
from kdtw_jax.terminal import print_line
from kdtw_jax.workdir import Workdir


def train_and_evaluate(config: ml_collections.ConfigDict, workdir: str | Path) -> Path | None:
  """Runs the stages of the config that are not done yet.

  Args:
    config: see `kdtw_jax.config.defaults`.
    workdir: folder of the results; made if missing, and held against a second run.

  Returns:
    The path of the report page; None if the config leaves out the evaluation.

  Raises:
    FileNotFoundError: if data or a published model are missing.
    OSError: if a checkpoint or the pair cannot be written.
    SystemExit: if a signal asked the run to end, and a stage was saved.
    ValueError: if the config, the data or a checkpoint is unusable, or the workdir belongs to
      another run, or one is in it.
    training.loop.NonFiniteError: if training diverged.
  """
  with processes.together():
    run = open_run(config, workdir)
  _check_same("config", config_lib.to_json(run.config))
  with processes.together():
    checks.check_inputs(run)
    read = _read(run) if processes.count() > 1 else {}
  _check_same("data", read)
  with contextlib.ExitStack() as stack:
    stack.enter_context(run.workdir.held())
    folder, shown = run.workdir.path, config_lib.to_json(run.config)
    tracked = tracking.open_run(run.config.log.wandb, folder, shown)
    place = processes.first_alone(lambda: stack.enter_context(tracked))
    if place:
      print_line("wandb", place)
    return _run_stages(run)


def _read(run: Run) -> dict[str, str]:
  """Returns hashes of what a process reads."""
  splits = {split: run.inputs.text_fingerprint(split) for split in checks.splits(run)}
  return {**splits, "tokenizer": run.inputs.tokenizer.digest()}


def _check_same(what: str, found: dict[str, Any]) -> None:
  """Refuses processes that were given different configs, or read different data."""
  first = processes.of_first(found)
  with processes.together():
    if lines := config_lib.differences(first, found, what):
      raise ValueError(
          f"process {processes.index()} differs from process 0 (there != here)"
          f" {'; '.join(lines[:5])}; give all processes the same command and the same files"
      )


def _run_stages(run: Run) -> Path | None:
  """Runs the stages of `train_and_evaluate`."""
  config, workdir = run.config, run.workdir.path
  run.workdir.check()  # again: another run may have been in it meanwhile
  checks.check_tokens(run)
  tokenizer.make(run)  # every other stage reads it
  stages = {
      "teacher": teacher.train,
      "sft": sft.train,
      "warm_start": warm_start.train,
      "distillation": distillation.train,
      "wheels": wheels.train,
      "worth": worth.train,
  }
  for name, stage in stages.items():
    if name in config.stages:
      stage(run)
  hand_on(run)
  page = evaluation.measure(run) if "evaluation" in config.stages else None
  if (workdir / "pair").is_dir():
    command = f"kdtw write --pair={shlex.quote(str(workdir))} --budget=0.2"
    print_line("pair", f"write a sentence of your own: {command}")
    print_line("pair", f"write a file, line by line: {command} < in.txt > out.txt")
  return page


def open_run(config: ml_collections.ConfigDict, workdir: str | Path) -> Run:
  """Validates the config and finds what the workdir holds; writes and trains nothing.

  Raises:
    ValueError: if the config is impossible, or the workdir belongs to another run.
  """
  config_lib.validate(config)
  load_plugins(config.plugins)
  folder = Workdir(workdir, config)
  folder.check()
  mesh = devices.make_mesh(**config.mesh)
  return Run(config, folder, Inputs(config, folder, mesh), mesh)


def hand_on(run: Run) -> None:
  """Saves the trained pair as `pair/`, unless it is already there; raises OSError if it cannot."""
  config = config_lib.to_json(run.config)
  folder, summary = run.workdir.path / "pair", run.workdir.summary(run.pair_stage)
  if not summary:
    return
  made_by = {**summary, **{section: config[section] for section in ("budgets", "decode")}}
  if run.workdir.summary_of(folder) == made_by:
    return
  parts = {
      "config": config,
      "models": run.inputs.models,
      "tokenizer": run.inputs.tokenizer,
      "student_params": processes.to_first(run.params(run.pair_stage)),
      "teacher_params": processes.to_first(run.stored("teacher")),
      "duals": np.asarray(summary["duals"]),
      "shortest": run.inputs.shortest_output(),
      "prices": summary.get("prices"),
      "paces": paces.chosen(run),
  }

  def save() -> None:
    pair.save_pair(folder, **parts)
    write_json(folder / "summary.json", made_by)

  try:
    processes.first_alone(save, makes=folder / "summary.json")
  except OSError as error:
    remedy = "Its stages are done, and the same command saves it"
    raise not_written(f"pair {folder}", error, remedy=remedy) from error
