"""Weights & Biases gets TensorBoard's scalars once, in one run of a workdir, and harms nothing."""

import json
import logging
import sys

import pytest
from rich.console import Console
import wandb

from kdtw_jax import tensorboard, terminal, tracking
from tests.event_files import logged, runs
from tests.refusing import refused
from tests.wandb_files import history

CONFIG = {"seed": 3, "sft": {"steps": 8}}
CURVES = {"worth": {"evaluation/test/bleu": [(100, 30.0), (200, 31.0)]}}


@pytest.fixture(autouse=True)
def offline(monkeypatch):
  monkeypatch.setenv("WANDB_MODE", "offline")


def stage(workdir, first_step, *steps):
  """Logs steps of a stage as training does."""
  folder = workdir / "stages" / "sft"
  progress = terminal.StageProgress(
      "sft", first_step=first_step, steps=8, folder=folder, console=Console(quiet=True)
  )
  with progress:
    for step in steps:
      progress.log(step, {"loss": 1 / step}, tokens=3)


def test_a_run_that_goes_on_is_the_same_and_has_each_step_once(tmp_path):
  (tmp_path / "stages/sft").mkdir(parents=True)
  with pytest.raises(SystemExit), tracking.open_run("mine", tmp_path, CONFIG) as place:
    assert place.startswith(f"{tmp_path / 'wandb'}, until `wandb sync` uploads it: ")
    stage(tmp_path, 0, 1, 2, 3, 4)
    sys.exit(0)
  for _ in range(2):  # the second has nothing new to say
    with tracking.open_run("mine", tmp_path, CONFIG):
      stage(tmp_path, 2, 3, 4, 5)
      tensorboard.write_runs(tmp_path / "stages" / "evaluation", CURVES)
  stage(tmp_path, 2, 3, 4, 5, 6)  # not in a run of W&B
  found, ids = history(tmp_path)
  of_stage = [row for row in found if "sft/step" in row]
  assert [(row["sft/step"], row["sft/train/loss"]) for row in of_stage] == [
      (step, 1 / step) for step in (1, 2, 3, 4, 5)
  ]
  assert all(row["sft/train/tokens_per_second"] > 0 for row in of_stage)
  name = "evaluation/worth"
  assert [row for row in found if row not in of_stage] == [
      {f"{name}/step": calls, f"{name}/evaluation/test/bleu": bleu}
      for calls, bleu in CURVES["worth"]["evaluation/test/bleu"]
  ]
  saved = json.loads((tmp_path / tracking.RUN_FILE).read_text("utf-8"))
  assert ids == {saved["id"]} and saved["project"] == "mine"
  assert runs(tmp_path / "stages" / "evaluation") == CURVES
  drawn = logged(tmp_path / "stages" / "sft")["train/loss"]
  assert drawn == [(step, pytest.approx(1 / step)) for step in range(1, 7)]


def test_another_project_gets_another_run(tmp_path, monkeypatch):
  asked = []

  def init(**fields):
    asked.append((fields["entity"], fields["project"], fields["id"], fields["resume"]))
    raise wandb.errors.CommError("no network\nat all")

  monkeypatch.setattr(wandb, "init", init)
  (tmp_path / tracking.RUN_FILE).write_text('{"project": "us/one", "id": "abc"}', "utf-8")
  for project in ("us/one", "two"):
    with pytest.raises(ValueError, match="CommError: no network"):
      tracking.open_run(project, tmp_path, CONFIG).__enter__()
  assert asked[0] == ("us", "one", "abc", "allow") and asked[1][:2] == (None, "two")
  assert asked[1][2] != "abc"


def test_nobody_is_logged_in(tmp_path, monkeypatch):
  def init(**fields):
    raise wandb.errors.UsageError("No API key configured. Use `wandb login` to log in.")

  monkeypatch.setattr(wandb, "init", init)
  said = (
      "config.log.wandb='mine': no run could be opened (UsageError: No API key",
      "`wandb login`",
  )
  refused(lambda: tracking.open_run("mine", tmp_path, CONFIG).__enter__(), *said, "WANDB_MODE=off")
  assert not (tmp_path / tracking.RUN_FILE).exists()


def test_without_the_library_the_command_that_installs_it_is_said(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "wandb", None)
  said = ("config.log.wandb='mine': needs wandb", "pip install 'kdtw_jax[wandb]'")
  refused(lambda: tracking.open_run("mine", tmp_path, CONFIG).__enter__(), *said)
  with tracking.open_run("", tmp_path, CONFIG) as place:
    assert place == ""


class Broken:
  """A run of wandb whose process has died."""

  url, dir, offline = "https://wandb/mine", "/nowhere", False

  def define_metric(self, *args, **fields):
    raise RuntimeError("the process is gone")

  log = finish = define_metric


def test_a_failure_in_the_middle_is_a_warning(tmp_path, monkeypatch, caplog):
  monkeypatch.setattr(wandb, "init", lambda **fields: Broken())
  (tmp_path / "stages/sft").mkdir(parents=True)
  with caplog.at_level(logging.WARNING), tracking.open_run("mine", tmp_path, CONFIG) as place:
    assert place == Broken.url
    stage(tmp_path, 0, 1, 2)
  said = "W&B failed (the process is gone); TensorBoard's files have all scalars"
  assert caplog.text.count(said) == 2  # of the first step, and at the end
  assert [step for step, _ in logged(tmp_path / "stages" / "sft")["train/loss"]] == [1, 2]
