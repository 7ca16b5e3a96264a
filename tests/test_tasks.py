"""The published tasks, each by its `:smoke`: the whole path on made-up data and tiny models."""

import json
import math
import re
import signal
import subprocess
import sys

from flax import traverse_util
import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
import transformers

from kdtw_jax import data, pair, published, run
from kdtw_jax.models import low_rank
from tests.smoke_run import ROOT, environment
from tests.test_config import load as load_config

# A task of encoder-decoders and one of causal models are measured; the others differ in data alone.
MEASURED = (
    "--config.evaluation.methods=('prompt_lookup',)",
    "--config.evaluation.time_every_method=False",
)
SHORT = ("--config.stages=('tokenizer','warm_start','wheels','evaluation')", *MEASURED)
TASKS = {"aeslc": SHORT, "gsm8k --causal": SHORT}


def command(task, workdir, *flags):
  return [sys.executable, "launch/smoke.py", *task.split(), f"--workdir={workdir}", *flags]


def smoke(cache, task, workdir, *flags):
  return subprocess.run(
      command(task, workdir, *flags),
      cwd=ROOT,
      env=environment(cache),
      text=True,
      capture_output=True,
      timeout=600,
      check=False,
  )


@pytest.mark.slow
@pytest.mark.parametrize("task, flags", TASKS.items(), ids=TASKS)
def test_a_task_runs_to_its_report(cache, tmp_path, task, flags):
  done = smoke(cache, task, tmp_path, *flags)
  assert done.returncode == 0, done.stdout + done.stderr
  metrics = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
  assert metrics["metric"] == ("rougeLsum" if task == "aeslc" else "exact_match")
  assert {curve["method"] for curve in metrics["curves"]["test"]} >= {"handover", "prompt_lookup"}
  assert metrics["metric"] in metrics["alone"]["teacher"]["intervals"]
  told = {row["template"] for row in metrics["budgets"]}
  said = metrics["config"]["data"]["task"]
  assert said and all(text.startswith(f"{said}, ") for text in told)
  assert (tmp_path / "report.html").stat().st_size > 0
  loaded = pair.load_pair(tmp_path)
  assert isinstance(loaded.tokenizer, data.PublishedTokenizer)
  assert not (tmp_path / "pair" / "teacher").exists()  # published: named, not copied
  rows = {loaded.student.config.vocab_size, loaded.teacher.config.vocab_size}
  assert rows == {loaded.tokenizer.vocab_size}
  text = "Zwei M\u00e4nner kochen <|im_end|>"
  written = loaded.write(text, budget=0.2)
  assert "".join(piece.text for piece in loaded.stream(text, budget=0.2)) == written.text


TRAINED = "--config.stages=('tokenizer','warm_start')"


@pytest.fixture(scope="module")
def wmt(cache, tmp_path_factory):
  """The workdir of a short run of wmt."""
  workdir = tmp_path_factory.mktemp("wmt")
  done = smoke(cache, "wmt", workdir, TRAINED)
  assert done.returncode == 0, done.stdout + done.stderr
  return workdir


def loss_of(workdir, stage="warm_start"):
  summary = (workdir / "stages" / stage / "summary.json").read_text(encoding="utf-8")
  return json.loads(summary)["loss"]


def test_two_nllb_train_with_their_languages(cache, tmp_path):
  done = smoke(cache, "wmt --nllb", tmp_path, TRAINED)
  assert done.returncode == 0, done.stdout + done.stderr
  assert math.isfinite(loss_of(tmp_path))


@pytest.mark.parametrize("task", ["cnn_dailymail", "samsum"])
def test_a_task_trains_on_its_data(wmt, tmp_path, task):
  config = smoke_config(wmt, task)
  config.stages = ("tokenizer", "warm_start")
  with tfds.testing.mock_data(num_examples=64):
    run.train_and_evaluate(config, tmp_path)
  assert math.isfinite(loss_of(tmp_path))


def smoke_config(wmt, task):
  """What `launch/smoke.py` runs, on the models of a run that it made."""
  config = load_config(task, "smoke")
  config.mesh.data = 1
  for who in ("teacher", "student"):
    config[who].pretrained = str(wmt / "published" / who)
  return config


def test_a_run_from_published_models_resumes_to_the_same_numbers_after_a_kill(cache, tmp_path, wmt):
  with subprocess.Popen(
      command("wmt", tmp_path, TRAINED),
      cwd=ROOT,
      env=environment(cache),
      text=True,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
  ) as process:
    for line in process.stdout:
      if line.startswith("warm_start") and "8/8" in line:
        process.send_signal(signal.SIGKILL)
        break
  assert process.returncode == -signal.SIGKILL
  assert not (tmp_path / "stages/warm_start/summary.json").exists()
  resumed = smoke(cache, "wmt", tmp_path, TRAINED)
  assert resumed.returncode == 0, resumed.stdout + resumed.stderr
  assert loss_of(tmp_path) == loss_of(wmt)


@pytest.mark.parametrize("start", ["published", "nothing"])
def test_a_teacher_is_trained_first_where_steps_say_so(wmt, tmp_path, start):
  """From a published one, or from nothing; another run takes the teacher and trains the same."""
  config = smoke_config(wmt, "xsum")
  config.teacher.train.steps = 4
  config.stages = ("tokenizer", "teacher", "warm_start")
  if start == "nothing":
    config.teacher.pretrained = ""
  with tfds.testing.mock_data(num_examples=64):
    run.train_and_evaluate(config, tmp_path / "a")
    config.teacher.checkpoint, config.stages = str(tmp_path / "a"), ("warm_start",)
    run.train_and_evaluate(config, tmp_path / "b")
  for stage, steps in (("teacher", 4), ("warm_start", 8)):
    summary = (tmp_path / "a" / "stages" / stage / "summary.json").read_text(encoding="utf-8")
    assert json.loads(summary)["steps"] == steps
  assert not (tmp_path / "b" / "stages" / "teacher").exists()
  assert loss_of(tmp_path / "a") == loss_of(tmp_path / "b")


def test_a_published_student_is_changed_by_low_rank(wmt, tmp_path):
  config = smoke_config(wmt, "wmt")
  config.stages, config.student.lora_rank = ("tokenizer", "warm_start"), 2
  with tfds.testing.mock_data(num_examples=64):
    run.train_and_evaluate(config, tmp_path)
  opened = run.open_run(config, tmp_path)
  after, model = opened.params("warm_start"), opened.inputs.models.student
  before = published.load_params(config.student.pretrained, model.config, None)
  for path, kernel in traverse_util.flatten_dict(before).items():
    now = traverse_util.flatten_dict(after)[path]
    if path[-1] in low_rank.KERNELS:
      change = np.asarray(now - kernel).reshape(len(kernel), -1)
      assert np.linalg.matrix_rank(change, tol=1e-6) == 2
    else:
      np.testing.assert_array_equal(now, kernel)


def test_a_published_teacher_may_be_read_in_eight_bits(wmt, tmp_path):
  config = smoke_config(wmt, "wmt")
  config.stages, config.teacher.int8 = ("tokenizer", "warm_start"), True
  with tfds.testing.mock_data(num_examples=64):
    run.train_and_evaluate(config, tmp_path)
  teacher = run.open_run(config, tmp_path).params("teacher")
  kernels = [leaf for leaf in jax.tree.leaves(teacher) if leaf.dtype == np.int8]
  assert kernels and loss_of(tmp_path) != loss_of(wmt)
  assert loss_of(tmp_path) == pytest.approx(loss_of(wmt), rel=1e-3)


@pytest.mark.parametrize("source", ["jsonl", "text"])
def test_files_of_ones_own_take_the_place_of_the_data_set(wmt, tmp_path, source):
  own = tmp_path / "own"
  own.mkdir()
  rows = [
      json.dumps({"document": f"Paul kommt aus Kenia {i}.", "summary": "Paul kommt."})
      for i in range(40)
  ]
  (own / "train.jsonl").write_text("\n".join(rows), encoding="utf-8")
  for field, text in (("document", "Paul kommt aus Kenia."), ("summary", "Paul kommt.")):
    (own / f"{field}.train.txt").write_text(f"{text}\n" * 40, encoding="utf-8")
  config = smoke_config(wmt, "xsum")
  config.data.source, config.data.path, config.stages = source, str(own), ("tokenizer", "sft")
  run.train_and_evaluate(config, tmp_path)
  assert math.isfinite(loss_of(tmp_path, "sft"))


def test_user_errors_are_one_clear_line(cache, tmp_path):
  folder = tmp_path / "byt5"
  transformers.ByT5Tokenizer().save_pretrained(str(folder))
  (folder / "config.json").write_text('{"model_type": "t5"}', encoding="utf-8")
  other = smoke(cache, "wmt", tmp_path / "a", f"--config.student.pretrained={folder}")
  assert other.returncode == 1 and "Traceback" not in other.stderr
  assert "different vocabularies: tokens are 384 and" in other.stderr.replace("\n", " ")
  assert not (tmp_path / "a" / "stages").exists()  # said before anything is kept


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("teacher.pretrained", "./nowhere", "config.teacher.pretrained='./nowhere': ./nowhere: no"),
        ("data.tfds_name", "wmt99_translate", "`tfds build wmt99_translate --file_format=array"),
        ("data.prompt_length", 9, "config.data.prompt_length=9: the instruction"),
    ],
)
def test_what_a_task_lacks_is_said_before_anything_is_kept(wmt, tmp_path, field, value, message):
  config = smoke_config(wmt, "wmt")
  config.update_from_flattened_dict({field: value})
  with (
      tfds.testing.mock_data(num_examples=64),
      pytest.raises((FileNotFoundError, ValueError), match=re.escape(message)),
  ):
    run.train_and_evaluate(config, tmp_path / "run")
  assert not (tmp_path / "run" / "stages").exists()
