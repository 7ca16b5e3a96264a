"""The whole job from the command line: to its report, and through a kill."""

import json
import os
import re
import shutil
import signal
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors

from kdtw_jax import losses, pair, run
from kdtw_jax.base import PAD_ID
from kdtw_jax.published import tensors
from kdtw_jax.stages import rollouts, wheels
from tests import event_files
from tests.smoke_run import PACES, ROOT, command, environment, start
from tests.test_config import load as load_config


def test_the_run_leaves_a_report_and_says_where(finished):
  workdir, output = finished
  for name in (
      "metrics.json",
      "tradeoff.csv",
      "report.html",
      "config.json",
      "stages/tokenizer/tokenizer.model",
  ):
    assert (workdir / name).stat().st_size > 0
  assert list(workdir.glob("*.png")) and list(workdir.glob("*.svg"))
  assert "examples: train 600, validation 16, test 8\n" in output
  assert "report.html" in output and "tok/s" in output
  assert re.search(r"^sft +a baseline: .*\nsft +4/8  ETA \d+:\d\d  ", output, re.MULTILINE)
  total = re.search(r"^evaluation +0/(\d+)  ETA -:--  teacher and students", output, re.MULTILINE)
  assert total and re.search(
      rf"^evaluation +{total[1]}/{total[1]}  ETA 0:00 ", output, re.MULTILINE
  )
  written = (
      f"pair          write a sentence of your own: kdtw write --pair={workdir} --budget=0.2\n"
  )
  assert written in output


def test_stages_and_methods_are_runs_of_tensorboard(finished):
  shown = event_files.runs(finished[0] / "stages")
  metrics = json.loads((finished[0] / "metrics.json").read_text(encoding="utf-8"))
  trained = {stage["stage"] for stage in metrics["stages"] if stage["log"]}
  assert trained == {"teacher", "sft", "warm_start", "distillation", "wheels"}
  for stage in trained:
    assert len(shown[stage]["train/loss"]) == 2 and "train/tokens_per_second" in shown[stage]
  for curve in metrics["curves"]["test"]:
    points = shown[f"evaluation/{curve['method']}"]["evaluation/test/bleu"]
    assert len(points) == len(curve["points"])
  alone = {f"evaluation/{who}_alone" for who in metrics["alone"]}
  methods = {f"evaluation/{curve['method']}" for curve in metrics["curves"]["test"]}
  assert set(shown) == trained | alone | methods


def test_the_metrics_hold_every_part_of_the_comparison(finished):
  metrics = json.loads((finished[0] / "metrics.json").read_text(encoding="utf-8"))
  assert set(metrics["alone"]) == {"teacher", "student", "sft_student", "kl_student", "pcl_student"}
  methods = {curve["method"]: curve["points"] for curve in metrics["curves"]["test"]}
  assert set(methods) == {
      "handover",
      "handover_paced",
      "handover_hard",
      "handover_checked_2",
      "handover_offset",
      "random",
      "max_prob",
      "max_prob_paced",
      "oracle",
      "speculative",
      "lenient",
      "worth",
  }
  teacher = metrics["alone"]["teacher"]["scores"]["bleu"]
  assert methods["speculative"][0]["scores"]["bleu"] == pytest.approx(teacher)  # exact
  for point in methods["handover_hard"]:
    assert point["asked_share"] <= point["dial"] + 1e-6
  assert all(point["cost"] > 0 for point in methods["handover"])
  assert [row["budget"] for row in metrics["budgets"]] == [0.0, 0.0, 0.2, 0.2, 0.15]
  hulls = metrics["hulls"]
  assert [row["price"] for row in hulls[::2]] == ["calls", "share", *4 * ["cost"]]
  assert [row["step_ratio"] for row in hulls[4::2]] == [0.02, 0.1, 0.3, metrics["step_ratio"]]
  for row in hulls:
    assert row["family"] == "handover" and len(row["gaps"]) == 4
    assert row["others"]["settings"] == {
        "random": 2,
        "max_prob": 2,
        "max_prob_paced": 2,
        "speculative": 1,
        "lenient": 1,
        "worth": 1,
    }
  assert metrics["test"]["examples"] == 8
  for sample in metrics["samples"]:
    assert [out["budget"] for out in sample["outputs"]] == [0.0, 0.2] and sample["outputs"][0][
        "calls"
    ] == 0
  low, high = methods["handover"][1]["interval"]
  assert low <= methods["handover"][1]["scores"]["bleu"] <= high
  logs = {stage["stage"]: stage["log"] for stage in metrics["stages"]}
  assert {"asked", "budget", "dual_0.2", "loss", "step"} <= set(logs["wheels"])
  assert metrics["samples"] and metrics["difficulty"] and metrics["latency"]
  assert [s["stage"] for s in metrics["stages"]][:2] == ["teacher", "sft"]


def test_the_pair_loads_from_its_folder(finished):
  loaded = pair.load_pair(finished[0])
  assert len(loaded.duals) == len(loaded.config["budgets"]["knots"])
  assert {*loaded.paces} == {"paced", "hard", "prefix", "ledger"}
  assert {*loaded.paces.values()} <= {1.0, 8.0}
  assert loaded.tokenizer.vocab_size == loaded.student.config.vocab_size
  source = np.array([[5, 6, 1]], np.int32)
  hidden = loaded.teacher.hidden(
      loaded.teacher_params, loaded.teacher.encode(loaded.teacher_params, source), source
  )
  assert np.isfinite(np.asarray(hidden)).all()


def test_a_pair_that_cannot_be_saved_is_named_and_the_old_one_kept(finished, tmp_path, monkeypatch):
  workdir = tmp_path / "full"
  shutil.copytree(finished[0], workdir)
  (workdir / "pair" / "summary.json").unlink()  # a pair of earlier stages
  opened = run.open_run(load_config("demo", "smoke"), workdir)

  def full(*_, **__):
    raise safetensors.SafetensorError("I/O error: No space left on device (os error 28)")

  monkeypatch.setattr(tensors, "save_file", full)
  with pytest.raises(OSError) as refused:
    run.hand_on(opened)
  message = str(refused.value)
  assert message.startswith(f"pair {workdir / 'pair'} cannot be written (") and "\n" not in message
  assert "student.unfinished/part-0.safetensors: No space left on device)" in message
  assert message.endswith("Its stages are done, and the same command saves it")
  pair.load_pair(workdir)


def test_a_finished_run_is_not_trained_again(finished, cache):
  workdir, _ = finished
  before = {p: p.stat().st_mtime_ns for p in workdir.glob("*/**/summary.json")}
  again = start(cache, workdir, "--config.stages=('teacher','wheels','worth')", PACES)
  assert again.returncode == 0, again.stderr
  assert {p: p.stat().st_mtime_ns for p in workdir.glob("*/**/summary.json")} == before


def test_help_is_learned_by_two_heads_alone_and_handed_on(finished, cache, tmp_path):
  workdir = tmp_path / "again"
  shutil.copytree(finished[0], workdir)
  shutil.rmtree(workdir / "stages" / "worth")
  again = start(cache, workdir, "--config.stages=('worth',)")
  assert again.returncode == 0, again.stderr
  opened = run.open_run(load_config("demo", "smoke"), workdir)
  before, after = (opened.params(stage) for stage in ("wheels", "worth"))
  for name in before:
    same = jax.tree.map(np.array_equal, before[name], after[name])
    assert all(jax.tree.leaves(same)) == (name not in ("worth", "cost_value")), name
  first = run.open_run(load_config("demo", "smoke"), finished[0]).params("worth")
  jax.tree.map(np.testing.assert_array_equal, after, first)  # started over, to the last digit
  handed = pair.load_pair(workdir)
  jax.tree.map(np.testing.assert_array_equal, after["worth"], handed.student_params["worth"])
  texts = ["The flight takes 5 hours.", "Our shop is closed.", "Thank you."]
  none, some, most = (handed.write(texts, b, policy="worth") for b in (0, 0.1, 0.3))
  spent = [sum(out.calls for out in written) for written in (none, some, most)]
  assert spent[0] == 0 and spent == sorted(spent)
  two_calls = handed.reader.order("at most 2 calls", "share", "worth")
  assert (two_calls.form, two_calls.calls, two_calls.policy.price) == ("calls", 2, 0.0)
  with pytest.raises(ValueError, match="budget=None: policy='worth' takes its price from one"):
    handed.write(texts, policy="worth")


@pytest.mark.parametrize(
    "stage, number, line, status",
    [
        # Its last step is taken, its checkpoint perhaps half written.
        ("teacher", signal.SIGKILL, "8/8", -signal.SIGKILL),
        # Between the checkpoints of steps 4 and 8, unless the machine is slow.
        ("wheels", signal.SIGTERM, "4/8", 0),
    ],
)
def test_a_stage_ended_by_a_signal_resumes_to_the_same_numbers(
    finished, cache, tmp_path, stage, number, line, status
):
  whole, _ = finished
  workdir = tmp_path / "ended"
  shutil.copytree(whole, workdir)
  shutil.rmtree(workdir / "stages" / stage)
  flags = (f"--config.stages=('{stage}',)",)
  with subprocess.Popen(
      command(workdir, *flags),
      cwd=ROOT,
      env=environment(cache),
      text=True,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
  ) as process:
    for printed in process.stdout:
      if printed.startswith(stage) and line in printed:
        process.send_signal(number)
        break
    _, told = process.communicate()
  assert process.returncode == status
  if status == 0:
    saved = rf"SIGTERM: stage {stage} is saved at step [5-8]; the same command goes on from there"
    assert re.fullmatch(saved, told.splitlines()[-1])
  assert not (workdir / "stages" / stage / "summary.json").exists()
  resumed = start(cache, workdir, *flags)
  assert resumed.returncode == 0, resumed.stderr
  old, new = (
      json.loads((d / "stages" / stage / "summary.json").read_text()) for d in (whole, workdir)
  )
  old.pop("seconds"), new.pop("seconds")
  assert old == new  # the last loss and, for wheels, the calibrated duals, to the last digit


def test_user_errors_are_one_clear_line(finished, cache, tmp_path):
  workdir, _ = finished
  other = start(cache, workdir, "--config.seed=1")
  assert other.returncode == 1 and "Traceback" not in other.stderr
  assert "belongs to a run with another config" in other.stderr
  assert "config.seed: 0 != 1" in other.stderr
  unknown = start(cache, tmp_path, "--config.wheels.alfa=0.5")
  assert unknown.returncode != 0 and "alfa" in unknown.stderr
  missing = start(
      cache, tmp_path, f"--config.data.path={tmp_path}/none", config="configs/multi30k.py:smoke"
  )
  assert missing.returncode == 1 and "none" in missing.stderr and "Traceback" not in missing.stderr


def test_a_first_try_that_fails_does_not_block_the_second(tmp_path):
  """What is wrong in a later stage is said before the first one trains."""
  only = ("tokenizer", "teacher", "warm_start", "wheels")
  for field, value, message in (
      ("wheels.microbatches", 3, "config.wheels.microbatches=3: .*batch_size=16 must divide by it"),
      ("wheels.batch_size", 100_000, "config.wheels.batch_size=100000: the training split"),
      ("tokenizer.vocab_size", 90_000, "vocab_size=90000 on .*: the text supports at most"),
      ("evaluation.methods", ("randem",), "evaluation.methods: 'randem' is not a method"),
      ("data.prompt_length", 5, "config.data.prompt_length=5: the instruction"),
      ("stages", ("evaluation",), "stage 'evaluation' needs stage 'wheels'"),
      ("stages", ("worth",), "needs stage 'wheels', which is not done: add it to config.stages"),
  ):
    config = load_config("demo", "smoke")
    config.stages = only
    config.update_from_flattened_dict({field: value})
    with pytest.raises(ValueError, match=message):
      run.train_and_evaluate(config, tmp_path)
    assert not (tmp_path / "stages" / "teacher").exists()
  config = load_config("demo", "smoke")
  config.mesh.data, config.seed, config.stages = 1, 3, ("tokenizer", "sft")
  run.train_and_evaluate(config, tmp_path)


def test_a_resume_may_change_what_made_nothing(finished, cache, tmp_path):
  workdir = tmp_path / "moved"
  shutil.copytree(finished[0], workdir)
  for stage in ("wheels", "worth"):
    shutil.rmtree(workdir / "stages" / stage)
  done = start(
      cache,
      workdir,
      "--config.stages=('wheels',)",
      "--config.name=another",
      "--config.teacher.train.log_every=7",
      "--config.wheels.steps=4",
  )
  assert done.returncode == 0, done.stderr
  assert json.loads((workdir / "stages/wheels/summary.json").read_text())["steps"] == 4
  assert json.loads((workdir / "pair/summary.json").read_text())["steps"] == 4  # and is handed on
  other = start(cache, workdir, "--config.warm_start.steps=4", "--config.stages=('wheels',)")
  assert "stage 'warm_start' was made by (there != here) config.warm_start.steps: 8 != 4" in (
      other.stderr.replace("\n", " ")
  )


def test_a_stage_that_a_finished_one_was_made_without_is_refused(finished, cache, tmp_path):
  workdir = tmp_path / "short"
  shutil.copytree(finished[0], workdir)
  shutil.rmtree(workdir / "stages" / "distillation")
  late = start(cache, workdir, "--config.stages=('distillation',)")
  assert late.returncode == 1
  assert "stage 'wheels' was made without 'distillation'" in late.stderr.replace("\n", " ")


def test_a_token_gate_starts_at_its_log_odds(tmp_path):
  config = load_config("demo", "smoke")
  config.student.model.gate = "token"
  config.calibration.steps = 0
  opened = run.open_run(config, tmp_path)
  student = opened.inputs.models.student
  batch = next(opened.batches("wheels", config.wheels, budgets=config.budgets.train))
  references = jax.tree.map(jnp.asarray, rollouts.from_references(batch))
  params = student.init(jax.random.key(0))
  params["shared"]["embedding"] *= 3.0  # as training leaves it: logits of another sum

  def mean_log_odds(params):
    log_odds = wheels.gate_log_odds(student, params, references)
    return float(losses.token_mean(log_odds, references.tokens != PAD_ID).value())

  before = mean_log_odds(params)
  after = mean_log_odds(wheels.with_gate_at_start(student, params, references))
  assert abs(before - student.config.gate_bias_init) > 0.1
  assert after == pytest.approx(student.config.gate_bias_init, abs=1e-4)


@pytest.mark.real_data
def test_the_same_job_runs_on_real_text(cache, tmp_path):
  data = os.environ.get("KDTW_DATA")
  if not data:
    pytest.skip("KDTW_DATA names no data directory")
  done = start(
      cache,
      tmp_path,
      f"--config.data.path={data}/multi30k",
      "--config.tokenizer.vocab_size=500",  # the sizes, and so the programs, of the smoke run
      "--config.data.buckets=((40,40),)",
      "--config.data.over_long=truncate",
      "--config.decode.max_length=40",
      "--config.stages=('tokenizer','teacher','warm_start','wheels','evaluation')",
      "--config.evaluation.methods=('random',)",
      "--config.evaluation.time_every_method=False",
      config="configs/multi30k.py:smoke",
  )
  assert done.returncode == 0, done.stdout + done.stderr
  metrics = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
  assert metrics["name"] == "multi30k" and metrics["difficulty"][0]["kind"] == "word"
