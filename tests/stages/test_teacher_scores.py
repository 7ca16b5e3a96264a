"""What the teacher gives to sequences is computed once, and training from it is the same."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdtw_jax import data, losses, run
from kdtw_jax.base import EOS_ID, PAD_ID
from kdtw_jax.data import teacher_scores as files
from kdtw_jax.models import shift_right
from kdtw_jax.stages import teacher_scores
from kdtw_jax.stages.stage import Run
from tests.test_config import load as load_config


@pytest.fixture(scope="module")
def teacher(finished, tmp_path_factory):
  """The workdir of a finished run's tokenizer and teacher alone."""
  workdir = tmp_path_factory.mktemp("teacher")
  for stage in ("tokenizer", "teacher"):
    shutil.copytree(finished[0] / "stages" / stage, workdir / "stages" / stage)
  return workdir


def config_of(teacher, top_k=500, own=False):
  """Matching the teacher's distribution with stored scores; or path consistency on its outputs."""
  config = load_config("demo", "smoke")
  config.stages = ("tokenizer", "warm_start")
  config.teacher.checkpoint = str(teacher)
  config.mesh.data = 1
  config.scores.top_k = top_k
  config.warm_start.teacher_scores = "stored"
  stage = config.distillation
  stage.teacher_scores, stage.on_policy_fraction = "stored", 0.0
  stage.immediate, stage.consistency_rows = "sampled", "off_policy"
  stage.losses.forward_kl.rows = "all"
  if own:
    stage.off_policy = "teacher"
  return config


def opened(config, workdir):
  """A run that holds its workdir, with its tokenizer made."""
  made = run.open_run(config, workdir)
  made.workdir.is_held = True
  return made


def log(workdir):
  lines = (workdir / "stages" / "warm_start" / "log.jsonl").read_text(encoding="utf-8")
  return [json.loads(line) for line in lines.splitlines()]


@pytest.fixture(scope="module")
def scored(teacher, tmp_path_factory):
  """A run that matched the teacher's whole distribution, as it was stored."""
  workdir = tmp_path_factory.mktemp("scored")
  run.train_and_evaluate(config_of(teacher), workdir)
  return workdir


def test_training_from_stored_scores_is_training_from_the_teacher(scored, finished):
  for stored, live in zip(log(scored), log(finished[0]), strict=True):
    for name in ("loss", "grad_norm"):
      assert stored[name] == pytest.approx(live[name], rel=2e-3), name


def test_scores_found_elsewhere_need_no_teacher(scored, teacher, tmp_path, monkeypatch):
  config = config_of(teacher)
  config.scores.path = str(scored / "data" / "scores")
  made, first = opened(config, tmp_path), opened(config_of(teacher), scored)
  monkeypatch.setattr(Run, "load", None)
  batch = next(made.batches("warm_start", config.warm_start))
  found, wanted = (
      teacher_scores.stored(each, config.warm_start).fill(batch) for each in (made, first)
  )
  jax.tree.map(np.testing.assert_array_equal, found, wanted)
  assert not (tmp_path / "data" / "scores").exists()


@pytest.mark.parametrize("other", ["top_k", "teacher", "data"])
def test_scores_of_something_else_are_refused(scored, teacher, tmp_path, other):
  config = config_of(teacher, top_k=499 if other == "top_k" else 500)
  config.scores.path = str(scored / "data" / "scores")
  if other == "teacher":
    changed = tmp_path / "teacher"
    shutil.copytree(teacher, changed)
    path = next((changed / "stages" / "teacher" / "params").rglob("checksums.json"))
    path.write_text(path.read_text(encoding="utf-8") + " ", encoding="utf-8")
    config.teacher.checkpoint = str(changed)
  if other == "data":
    config.data.seed = 1
  made = opened(config, tmp_path / "run")
  with pytest.raises(ValueError, match=rf"{other}.* was .*name another config.scores.path"):
    teacher_scores.stored(made, config.warm_start)


def test_what_a_kill_or_a_disk_spoiled_is_scored_again(teacher, tmp_path, monkeypatch):
  monkeypatch.setattr(files, "PART", 128)  # 590 examples: five parts
  monkeypatch.setattr(data, "PART", 128)
  config = config_of(teacher, top_k=4)
  made, write, written = opened(config, tmp_path), data.write_scores, []

  def killed_at_the_third(folder, part, scores, *, with_targets):
    written.append(part)
    if part == 2 and written.count(2) == 1:
      raise KeyboardInterrupt
    write(folder, part, scores, with_targets=with_targets)

  monkeypatch.setattr(data, "write_scores", killed_at_the_third)
  with pytest.raises(KeyboardInterrupt):
    teacher_scores.stored(made, config.warm_start)
  first = teacher_scores.stored(made, config.warm_start)
  assert written == [0, 1, 2, 2, 3, 4]
  batch = next(made.batches("warm_start", config.warm_start))
  whole = first.fill(batch)
  path = tmp_path / "data" / "scores" / "references" / "00001" / "log_probs.npy"
  damaged = bytearray(path.read_bytes())
  damaged[-3] ^= 4
  path.write_bytes(damaged)
  again = teacher_scores.stored(made, config.warm_start).fill(batch)
  assert written == [0, 1, 2, 2, 3, 4, 1]
  jax.tree.map(np.testing.assert_array_equal, whole, again)
  np.testing.assert_array_equal(whole.target, batch.target)


@pytest.mark.parametrize("own", [False, True])
def test_scores_are_those_of_the_teacher(teacher, tmp_path, own):
  """Of references in any bucket, and of outputs that it wrote itself."""
  config = config_of(teacher, top_k=3, own=own)
  config.scores.batch_size, config.scores.readout_chunk = 40, 7
  config.mesh.data = 1 if own else 8
  made = opened(config, tmp_path)
  section = config.distillation if own else config.warm_start
  scored = teacher_scores.stored(made, section)
  model, params = made.inputs.models.teacher, made.params("teacher")
  batches = made.batches("warm_start", config.warm_start)
  for batch in (next(batches) for _ in range(3)):
    filled = scored.fill(batch)
    same = np.array_equal(filled.target, batch.target)
    assert same is not own and filled.target.shape == batch.target.shape
    encoded = model.encode(params, batch.teacher_source)
    hidden = model.hidden(params, encoded, shift_right(jnp.asarray(filled.target)))
    logits = model.logits(params, hidden)
    mask = filled.target != PAD_ID
    expected = losses.taken_log_probs(logits, filled.target)
    np.testing.assert_allclose(filled.teacher_scores.log_probs[mask], expected[mask], atol=1e-4)
    assert not filled.teacher_scores.log_probs[~mask].any()
    top, ids = jax.lax.top_k(jax.nn.log_softmax(logits, axis=-1), 3)
    np.testing.assert_allclose(filled.teacher_scores.top_log_probs[mask], top[mask], atol=1e-2)
    assert np.mean(filled.teacher_scores.top_ids[mask] == ids[mask]) > 0.99  # but for ties
    ends = np.sum(filled.target == EOS_ID, axis=1)
    assert np.all(ends == 1) or (own and np.all(ends <= 1))


def test_path_consistency_on_stored_outputs_trains_without_the_teacher(
    teacher, finished, tmp_path, monkeypatch
):
  shutil.copytree(finished[0] / "stages" / "warm_start", tmp_path / "stages" / "warm_start")
  config = config_of(teacher, top_k=2, own=True)
  config.warm_start.teacher_scores, config.stages = "live", ("tokenizer", "distillation")
  made = tmp_path / "stages" / "warm_start" / "made_by.json"
  made_by = json.loads(made.read_text(encoding="utf-8"))
  made_by["config"]["scores"]["top_k"] = 2  # nothing that the stage read
  made_by["config"]["teacher"]["checkpoint"] = str(teacher)
  made.write_text(json.dumps(made_by), encoding="utf-8")
  monkeypatch.setattr(Run, "params", lambda self, stage: {"warm_start": self.load(stage)}[stage])
  run.train_and_evaluate(config, tmp_path)
  assert (tmp_path / "stages" / "distillation" / "summary.json").exists()
