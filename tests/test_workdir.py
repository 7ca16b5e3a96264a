"""Whose a workdir is: decided stage by stage, by what makes a stage, and by nothing else."""

import errno
import fcntl
import json
import os
from pathlib import Path
import subprocess
import sys

import pytest

from kdtw_jax import config as config_lib
from kdtw_jax.workdir import MADE_BY, Workdir


def config(**overrides):
  made = config_lib.defaults()
  made.update_from_flattened_dict(overrides)
  return made


def begun(path, *stages, data=None, **overrides):
  workdir = Workdir(path, config(**overrides))
  for stage in stages:
    workdir.begin(stage, data=data or {})
    workdir.finish(stage, {"stage": stage})
  return workdir


def test_nothing_is_written_before_a_stage_begins(tmp_path):
  workdir = Workdir(tmp_path / "run", config())
  workdir.check()
  assert workdir.summary("teacher") is None
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("path", ["", " ", "gs://bucket/run", "s3://bucket/run"])
def test_paths_that_are_no_folder_are_refused(path):
  with pytest.raises(ValueError, match="--workdir="):
    Workdir(path, config())


@pytest.mark.parametrize(
    "field, value",
    [
        ("name", "other"),
        ("xla_flags", "--xla_cpu_enable_fast_math=true"),
        ("mesh.tensor", 2),
        ("teacher.sharding", "whole"),
        ("evaluation.num_latency", 3),
        ("teacher.train.log_every", 7),
        ("teacher.train.checkpoint_every", 7),
        ("data.path", "/moved"),
        ("data.num_test", 3),
        ("wheels.batch_size", 16),
        ("wheels.losses.reverse_kl.weight", 1.0),
        ("calibration.steps", 1),
        ("budgets.train", (0.0, 0.2)),
        ("data.test_split", "dev"),
        ("student.model.d_model", 8),
    ],
)
def test_what_does_not_touch_a_begun_stage_may_change(tmp_path, field, value):
  begun(tmp_path, "tokenizer", "teacher")
  Workdir(tmp_path, config(**{field: value})).check()


@pytest.mark.parametrize(
    "field, value, stage",
    [
        ("seed", 1, "tokenizer"),
        ("tokenizer.vocab_size", 100, "tokenizer"),
        ("data.task", "translate", "tokenizer"),
        ("tokenizer.path", "elsewhere", "tokenizer"),
        ("data.join", 2, "tokenizer"),
        ("data.held_out", 0.1, "tokenizer"),
        ("data.prompt_length", 5, "teacher"),
        ("teacher.train.steps", 7, "teacher"),
        ("teacher.model.d_ff", 64, "teacher"),
        ("decode.max_length", 50, "distillation"),
        ("distillation.gamma", 0.5, "distillation"),
        ("decode.max_length", 50, "wheels"),
        ("calibration.steps", 7, "wheels"),
        ("decode.max_length", 50, "worth"),
        ("evaluation.metric", "rouge", "worth"),
    ],
)
def test_what_makes_a_begun_stage_may_not(tmp_path, field, value, stage):
  begun(tmp_path, stage)
  with pytest.raises(ValueError, match=f"stage '{stage}' was made by.*config.{field}: .* != "):
    Workdir(tmp_path, config(**{field: value})).check()


def test_a_tokenizer_is_not_bound_to_lengths(tmp_path):
  begun(tmp_path, "tokenizer")
  Workdir(tmp_path, config(**{"data.prompt_length": 5, "data.buckets": ((3, 3),)})).check()


def test_every_student_has_a_price_for_each_knot():
  assert all("budgets.knots" in MADE_BY[stage] for stage in ("sft", "warm_start", "wheels"))


def test_later_stages_depend_on_earlier_ones(tmp_path):
  for stage in ("warm_start", "distillation", "wheels"):
    fields = set(MADE_BY[stage])
    assert {"teacher.train", "student", "warm_start", stage, "budgets.train"} <= fields
  assert "distillation" in MADE_BY["wheels"] and "teacher.train" not in MADE_BY["sft"]


def test_eight_bits_make_another_student_and_the_same_teacher(tmp_path):
  begun(tmp_path, "teacher")
  Workdir(tmp_path, config(**{"teacher.int8": True})).check()
  begun(tmp_path, "warm_start", **{"teacher.int8": True})
  with pytest.raises(ValueError, match="'warm_start' was made by .* config.teacher.int8: True != "):
    Workdir(tmp_path, config()).check()


def test_a_stage_is_taken_only_from_a_run_that_made_the_same(tmp_path):
  base = tmp_path / "base"
  begun(base, "warm_start", data={"train": "a"}, **{"warm_start.steps": 300})
  (base / "stages/warm_start/params").mkdir()
  (base / "stages/warm_start/params/0").write_text("numbers")
  other = Workdir(tmp_path / "other", config(**{"warm_start.steps": 400}))
  with pytest.raises(
      ValueError,
      match="its stage 'warm_start' was made by another .*warm_start.steps: 300 != 400. ",
  ):
    other.adopt("warm_start", base)
  assert not other.begun("warm_start")
  for folder, stage in ((base, "sft"), (tmp_path / "nowhere", "warm_start")):
    with pytest.raises(ValueError, match=f"{folder}: has no finished stage '{stage}'; finish"):
      other.adopt(stage, folder)
  changes = {"warm_start.steps": 300, "teacher.checkpoint": str(base), "wheels.steps": 7}
  same = Workdir(tmp_path / "same", config(**changes))
  for _ in range(2):
    same.adopt("warm_start", base)
  same.check()
  assert same.summary("warm_start") == {"stage": "warm_start"}
  assert (tmp_path / "same/stages/warm_start/params/0").read_text() == "numbers"
  with pytest.raises(ValueError, match="was made from other data"):
    same.begin("wheels", data={"train": "b"})


def test_a_stage_without_a_checkpoint_has_nothing_to_lose(tmp_path):
  Workdir(tmp_path, config()).begin("teacher", data={"train": "a"})
  other = Workdir(tmp_path, config(**{"teacher.train.steps": 7}))
  other.check()
  other.begin("teacher", data={"train": "b"})
  (tmp_path / "stages/teacher/checkpoints/7").mkdir(parents=True)
  with pytest.raises(ValueError, match="teacher.train.steps: 7 != 1000"):
    Workdir(tmp_path, config()).check()


def test_other_data_are_refused_for_all_stages_of_a_run(tmp_path):
  workdir = begun(tmp_path, "teacher", data={"train": "a"})
  workdir.begin("sft", data={"train": "a", "validation": "v"})
  with pytest.raises(ValueError, match="stage 'teacher' was made from other data"):
    workdir.begin("warm_start", data={"train": "b"})


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"a": "\xff"'])
@pytest.mark.parametrize("name", ["summary.json", "made_by.json"])
def test_damaged_files_name_the_file_and_the_remedy(tmp_path, name, content):
  workdir = begun(tmp_path, "teacher")
  path = tmp_path / "stages/teacher" / name
  path.write_bytes(content.encode("latin-1"))
  with pytest.raises(ValueError, match=f"{name}: damaged, .*delete .*teacher"):
    workdir.check()
    workdir.summary("teacher")


def test_a_stage_of_another_version_is_named(tmp_path):
  workdir = begun(tmp_path, "teacher")
  (tmp_path / "stages/teacher/made_by.json").unlink()
  with pytest.raises(ValueError, match="made_by.json: missing: the stage was made by another ver"):
    workdir.check()


def test_the_config_of_the_newest_stage_is_kept(tmp_path):
  begun(tmp_path, "teacher", name="mine")
  assert json.loads((tmp_path / "config.json").read_text())["name"] == "mine"


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(ValueError, match="cannot be written .*; choose a folder with free space"):
    Workdir(tmp_path / "file" / "run", config()).begin("teacher", data={})


def test_a_second_run_is_refused_and_told_whose_process_holds_the_folder(tmp_path):
  (tmp_path / "run.lock").write_text("process 7 on a host that is gone, with a longer name\n")
  with Workdir(tmp_path, config()).held():
    with pytest.raises(ValueError) as refused, Workdir(tmp_path, config()).held():
      raise AssertionError("two runs in one folder")
    assert f"--workdir={tmp_path}: a run is in it, process {os.getpid()} on " in str(refused.value)
    assert "gone" not in str(refused.value) and "\n" not in str(refused.value)
  with Workdir(tmp_path, config()).held():
    pass


def test_a_killed_process_holds_nothing(tmp_path):
  script = """
import sys, time
from kdtw_jax import config
from kdtw_jax.workdir import Workdir
with Workdir(sys.argv[1], config.defaults()).held():
  print("held", flush=True)
  time.sleep(60)
"""
  with subprocess.Popen(
      [sys.executable, "-c", script, str(tmp_path)],
      cwd=Path(__file__).parent.parent,
      stdout=subprocess.PIPE,
      text=True,
  ) as process:
    assert process.stdout.readline() == "held\n"
    with pytest.raises(ValueError, match=f"process {process.pid} on"):
      with Workdir(tmp_path, config()).held():
        pass
    process.kill()
  with Workdir(tmp_path, config()).held():
    pass


def test_a_run_is_refused_before_it_writes(tmp_path):
  from kdtw_jax import run
  from tests.test_config import load

  smoke = load("demo", "smoke")
  smoke.mesh.data = 1
  with Workdir(tmp_path, config()).held():
    with pytest.raises(ValueError, match="a run is in it, process"):
      run.train_and_evaluate(smoke, tmp_path)
  assert [path.name for path in tmp_path.iterdir()] == ["run.lock"]


def test_a_file_system_without_locks_is_used_after_a_warning(tmp_path, monkeypatch, capsys):
  def flock(*_):
    raise OSError(errno.ENOTSUP, "Operation not supported")

  monkeypatch.setattr(fcntl, "flock", flock)
  with Workdir(tmp_path, config()).held():
    pass
  assert capsys.readouterr().err == (
      f"warning: --workdir={tmp_path}: cannot be locked (Operation not supported); start no second"
      " run in it\n"
  )


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(ValueError, match="cannot be written .*; choose a folder with free space"):
    with Workdir(tmp_path / "file" / "run", config()).held():
      pass
