"""The published tasks, each by its `:smoke`: the whole path on made-up data and tiny models."""

import json
import math
import signal
import subprocess
import sys

import pytest
import transformers

from kdtw_jax import data, pair
from tests.smoke_run import ROOT, environment

# One task of encoder-decoders runs whole, one of causal models with fewer stages; the others differ
# in data alone.
SHORT = (
    "--config.stages=('tokenizer','warm_start','wheels','evaluation')",
    "--config.evaluation.methods=('prompt_lookup',)",
)
TASKS = {"aeslc": (), "gsm8k --causal": SHORT}


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


@pytest.mark.parametrize("task", ["wmt --nllb", "cnn_dailymail", "samsum"])
def test_a_task_trains_on_its_data(cache, tmp_path, task):
  done = smoke(cache, task, tmp_path, "--config.stages=('tokenizer','warm_start')")
  assert done.returncode == 0, done.stdout + done.stderr
  assert math.isfinite(loss_of(tmp_path))


def test_a_teacher_is_trained_first_where_steps_say_so(cache, tmp_path):
  done = smoke(
      cache,
      "xsum",
      tmp_path,
      "--config.teacher.train.steps=4",
      "--config.stages=('tokenizer','teacher','warm_start')",
  )
  assert done.returncode == 0, done.stdout + done.stderr
  for stage, steps in (("teacher", 4), ("warm_start", 8)):
    summary = (tmp_path / "stages" / stage / "summary.json").read_text(encoding="utf-8")
    assert json.loads(summary)["steps"] == steps


def test_a_published_student_learns_from_a_teacher_trained_from_nothing(cache, tmp_path):
  first = smoke(
      cache,
      "xsum",
      tmp_path / "a",
      "--config.teacher.pretrained=",
      "--config.teacher.train.steps=4",
      "--config.stages=('tokenizer','teacher','warm_start')",
  )
  assert first.returncode == 0, first.stdout + first.stderr
  second = smoke(
      cache,
      "xsum",
      tmp_path / "b",
      "--config.teacher.pretrained=",
      f"--config.teacher.checkpoint={tmp_path}/a",
      "--config.stages=('warm_start',)",
  )
  assert second.returncode == 0, second.stdout + second.stderr
  assert loss_of(tmp_path / "a") == loss_of(tmp_path / "b")  # the same teacher, the same student


def loss_of(workdir, stage="warm_start"):
  summary = (workdir / "stages" / stage / "summary.json").read_text(encoding="utf-8")
  return json.loads(summary)["loss"]


def test_a_run_from_published_models_resumes_to_the_same_numbers_after_a_kill(cache, tmp_path):
  flags = ("--config.stages=('warm_start',)",)
  whole = smoke(cache, "xsum", tmp_path / "whole", *flags)
  assert whole.returncode == 0, whole.stdout + whole.stderr
  killed = tmp_path / "killed"
  with subprocess.Popen(
      command("xsum", killed, *flags),
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
  assert not (killed / "stages/warm_start/summary.json").exists()
  resumed = smoke(cache, "xsum", killed, *flags)
  assert resumed.returncode == 0, resumed.stdout + resumed.stderr
  assert loss_of(tmp_path / "whole") == loss_of(killed)


def test_files_of_ones_own_take_the_place_of_the_data_set(cache, tmp_path):
  own = tmp_path / "own"
  own.mkdir()
  rows = [
      json.dumps({"document": f"Paul kommt aus Kenia {i}.", "summary": "Paul kommt."})
      for i in range(40)
  ]
  (own / "train.jsonl").write_text("\n".join(rows), encoding="utf-8")
  for field, text in (("document", "Paul kommt aus Kenia."), ("summary", "Paul kommt.")):
    (own / f"{field}.train.txt").write_text(f"{text}\n" * 40, encoding="utf-8")
  for source in ("jsonl", "text"):
    done = smoke(
        cache,
        "xsum",
        tmp_path / source,
        f"--config.data.source={source}",
        f"--config.data.path={own}",
        "--config.stages=('tokenizer','sft')",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / source / "stages" / "sft" / "summary.json").is_file()


def test_user_errors_are_one_clear_line(cache, tmp_path):
  folder = tmp_path / "byt5"
  transformers.ByT5Tokenizer().save_pretrained(str(folder))
  (folder / "config.json").write_text('{"model_type": "t5"}', encoding="utf-8")
  other = smoke(cache, "wmt", tmp_path / "a", f"--config.student.pretrained={folder}")
  assert other.returncode == 1 and "Traceback" not in other.stderr
  assert "different vocabularies: tokens are 384 and" in other.stderr.replace("\n", " ")
  missing = smoke(cache, "wmt", tmp_path / "b", "--config.teacher.pretrained=./nowhere")
  assert missing.returncode == 1 and "Traceback" not in missing.stderr
  assert "config.teacher.pretrained='./nowhere': ./nowhere: no such folder" in missing.stderr
  short = smoke(cache, "wmt", tmp_path / "d", "--config.data.prompt_length=9")
  assert short.returncode == 1 and "config.data.prompt_length=9: the instruction" in short.stderr
  assert not (tmp_path / "d" / "stages").exists()  # said before anything is kept
  unknown = smoke(cache, "wmt", tmp_path / "c", "--config.data.tfds_name=wmt99_translate")
  assert unknown.returncode == 1 and "Traceback" not in unknown.stderr
  assert "`tfds build wmt99_translate --file_format=array_record`" in unknown.stderr
