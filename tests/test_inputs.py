"""A run's inputs: the tokens of train are files of its workdir, made once for the same data."""

import hashlib
import os
import shutil

import numpy as np
import pytest

from kdtw_jax import data, files, inputs, processes, run
from kdtw_jax.stages import checks
from tests.test_config import load

PLACES = ("Bern", "Wien", "Graz", "Linz", "Chur")


def write(folder, *, changed=-1, number=60):
  """Aligned files; `changed` is the number of a pair that says something else."""
  for split in ("train", "validation", "test"):
    for side, text in (
        ("en", "the train to {} leaves at {}"),
        ("de", "der Zug nach {} geht um {}"),
    ):
      lines = [
          text.format(PLACES[i % 5] if i != changed or split != "train" else "Basel", i)
          for i in range(number)
      ]
      (folder / f"{side}.{split}.txt").write_text("\n".join(lines), encoding="utf-8")


def opened(folder, workdir, **fields):
  config = load("demo", "smoke")
  config.data.update(source="text", path=str(folder), num_train=0)
  config.tokenizer.path = str(folder / "tokenizer.model")
  config.mesh.data = 1
  config.update_from_flattened_dict(fields)
  return run.open_run(config, workdir)


@pytest.fixture
def folder(tmp_path):
  (tmp_path / "text").mkdir()
  write(tmp_path / "text")
  text = (tmp_path / "text" / "en.train.txt").read_text("utf-8").splitlines()
  data.train_tokenizer([*text, *data.tokenizer_text()], vocab_size=100).save(tmp_path / "text")
  return tmp_path / "text"


@pytest.fixture
def workdir(tmp_path, folder):
  """A workdir with the tokens of train."""
  assert is_mapped(tokens(folder, tmp_path / "run"))
  return tmp_path / "run"


def tokens(folder, workdir, **fields):
  """Tokenises train in a run that holds its workdir."""
  made = opened(folder, workdir, **fields)
  with made.workdir.held():
    return made.inputs.tokenised("train")


def is_mapped(split):
  return not split.source.ids.flags.writeable


def test_nothing_is_written_by_a_run_that_does_not_hold_its_workdir(folder, tmp_path):
  looking = opened(folder, tmp_path / "run")
  checks.check_inputs(looking)
  assert not is_mapped(looking.inputs.tokenised("train"))
  assert not (tmp_path / "run").exists()


def test_a_second_run_reads_what_the_first_has_written_and_says_so(folder, workdir, capsys):
  before = {path: path.stat().st_mtime_ns for path in (workdir / "data").rglob("*")}
  capsys.readouterr()
  again = opened(folder, workdir)
  with again.workdir.held():
    split = again.inputs.tokenised("train")
  assert is_mapped(split) and len(split.bucket) == 60
  assert {path: path.stat().st_mtime_ns for path in (workdir / "data").rglob("*")} == before
  said = capsys.readouterr().out
  assert said.startswith(f"data          train as tokens: 60 examples in {workdir}/data/train, ")
  assert said.endswith(" s saved\n") and said.count("\n") == 1
  looking = opened(folder, workdir)  # as a benchmark does
  assert is_mapped(looking.inputs.tokenised("train"))
  assert not is_mapped(looking.inputs.tokenised("validation"))
  # What stages are bound to does not depend on where the tokens lie.
  digest = hashlib.blake2b(digest_size=16)
  shutil.rmtree(workdir / "data")
  in_memory = opened(folder, workdir)
  for array in (*split.source, *split.target, split.example_id):
    digest.update(array.tobytes())
  assert again.inputs.fingerprint("train") == digest.hexdigest()
  assert in_memory.inputs.fingerprint("train") == digest.hexdigest()


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"data.buckets": ((30, 30), (40, 40))}, "made with another data.buckets"),
        ({"data.over_long": "truncate"}, "made with another data.over_long"),
        ({"data.num_train": 50}, "made with another text, data.num_train"),
        (
            {"data.join": 2, "data.over_long": "truncate"},
            "made with another text, data.over_long, data.join",
        ),
        ({"data.train_split": "spare"}, "made with another data.train_split"),
    ],
)
def test_other_settings_of_the_data_make_other_tokens(folder, workdir, capsys, fields, said):
  for side in ("en", "de"):
    shutil.copy(folder / f"{side}.train.txt", folder / f"{side}.spare.txt")
  capsys.readouterr()
  tokens(folder, workdir, **fields)
  first, second = capsys.readouterr().out.splitlines()
  assert first == f"data          {workdir}/data/train: {said}; tokenised again"
  assert "train as tokens: " in second and " made in " in second


def test_settings_that_make_the_same_tokens_keep_them(folder, workdir, capsys, tmp_path):
  moved = tmp_path / "moved"
  shutil.copytree(folder, moved)
  capsys.readouterr()
  changed = {"data.task": "translate", "data.num_test": 3, "wheels.batch_size": 16, "seed": 4}
  split = tokens(moved, workdir, **changed)
  assert split.task == "translate" and "tokenised again" not in capsys.readouterr().out


def test_one_other_pair_among_many_is_other_text(folder, workdir, capsys, monkeypatch):
  # The fingerprint of texts reads some of them; that of files, all.
  monkeypatch.setattr(inputs.Inputs, "text_fingerprint", lambda self, split: "the same")
  tokens(folder, workdir)
  capsys.readouterr()
  write(folder, changed=33)
  split = tokens(folder, workdir)
  assert f"{workdir}/data/train: made with another files; tok" in capsys.readouterr().out
  write(folder)
  assert not np.array_equal(split.source.ids, tokens(folder, workdir).source.ids)


def test_a_damaged_cache_is_made_again(folder, workdir, capsys):
  expected = np.array(tokens(folder, workdir).target.ids)
  path = workdir / "data" / "train" / "target_ids.npy"
  os.truncate(path, path.stat().st_size - 8)
  capsys.readouterr()
  np.testing.assert_array_equal(tokens(folder, workdir).target.ids, expected)
  assert ": damaged, target_ids.npy is not as it was written; tokenised again" in (
      capsys.readouterr().out
  )


def test_a_full_disk_is_one_line(folder, tmp_path, monkeypatch):
  def full(*_):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(files, "_crc32", full)
  with pytest.raises(OSError, match="run/data/train cannot be written .No space left") as refused:
    tokens(folder, tmp_path / "run")
  assert "\n" not in str(refused.value) and not any((tmp_path / "run" / "data").iterdir())


def test_of_several_processes_one_writes_and_the_others_wait_for_it(folder, tmp_path, monkeypatch):
  waited = []

  def wait(action):
    waited.append(action)
    monkeypatch.undo()
    tokens(folder, tmp_path / "run")  # of the first process

  second = opened(folder, tmp_path / "run")
  monkeypatch.setattr(processes, "first_alone", wait)
  assert is_mapped(second.inputs.tokenised("train"))
  assert len(waited) == 1


def test_a_tokenizer_of_much_text_is_trained_on_a_sample(folder, tmp_path, monkeypatch):
  tokenizer = data.load_tokenizer(folder)

  def trained_on(most):
    texts = []
    monkeypatch.setattr(inputs, "_MOST_PAIRS", most)
    with monkeypatch.context() as patched:
      patched.setattr(data, "train_tokenizer", lambda text, **_: texts.extend(text) or tokenizer)
      opened(folder, tmp_path / "run").inputs._trained_tokenizer()
    return [text for text in texts if text.startswith("the train")]

  assert len(trained_on(60)) == 60
  few = trained_on(20)
  assert len({*few}) == 20 and few == trained_on(20)
