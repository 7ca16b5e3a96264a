"""Tokens on disk: the same batches, whole or absent, checked when read, in little memory."""

import itertools
import json
import logging
import signal
import subprocess
import sys
import textwrap
import tracemalloc

import numpy as np
import pytest

from kdtw_jax.base import EOS_ID
from kdtw_jax.data import (
    TrainingPlan,
    read_cache,
    tokenise,
    tokenised,
    tokenised_parts,
    tokenizer_text,
    tokens_digest,
    train_batches,
    train_tokenizer,
    write_cache,
)
from kdtw_jax.data.example import Example, InMemorySource
from kdtw_jax.data.phrasebook import PhrasebookSource
from kdtw_jax.data.tokenizer import Tokenizer
from tests.smoke_run import ROOT

BUCKETS = ((16, 18), (24, 26), (32, 36))
MADE_OF = {"text": "a hash", "data.buckets": [list(bucket) for bucket in BUCKETS], "held_out": 0.1}
OPTIONS = {"made_of": MADE_OF, "buckets": BUCKETS, "over_long": "drop"}


@pytest.fixture(scope="module")
def source():
  return PhrasebookSource("train", size=500, seed=0)


@pytest.fixture(scope="module")
def tokenizer(source):
  text = [side for i in range(500) for side in (source[i].source, source[i].target)]
  return train_tokenizer([*text, *tokenizer_text()], vocab_size=800)


def written(folder, source, tokenizer, **changed):
  buckets = changed.pop("buckets", BUCKETS)
  parts = tokenised_parts(source, tokenizer, buckets=buckets, **changed)
  write_cache(folder, parts, made_of=MADE_OF, buckets=buckets)
  return folder


@pytest.fixture
def folder(tmp_path, source, tokenizer, monkeypatch):
  """A cache of the source, written in parts of 64 examples."""
  monkeypatch.setattr(tokenised, "_CHUNK", 64)
  return written(tmp_path / "data" / "train", source, tokenizer)


def is_mapped(array):
  while isinstance(array, np.ndarray) and not isinstance(array, np.memmap):
    array = array.base
  return isinstance(array, np.memmap)


def test_a_cache_holds_the_split_to_the_last_bit(folder, source, tokenizer):
  cached = read_cache(folder, source, tokenizer, **OPTIONS, task="translate")
  split = tokenise(source, tokenizer, buckets=BUCKETS, task="translate")
  assert 0 < split.num_over_long == cached.split.num_over_long
  assert cached.split[4:] == split[4:]
  for found, array in zip(
      (*cached.split.source, *cached.split.target, *cached.split[2:4]),
      (*split.source, *split.target, *split[2:4]),
      strict=True,
  ):
    np.testing.assert_array_equal(found, array, strict=True)
    assert is_mapped(found) and not found.flags.writeable
  assert cached.digest == tokens_digest(split)
  names = [path for path in folder.iterdir() if path.suffix == ".npy"]
  assert cached.num_bytes == sum(path.stat().st_size for path in names)
  assert [path.name for path in folder.parent.iterdir()] == ["train"]


def test_batches_are_the_same_with_and_without_a_cache(folder, source, tokenizer):
  options = {"batch_size": 16, "budgets": (0.0, 0.1, 0.5), "seed": 3, "prompt_length": 24}
  from_disk = read_cache(folder, source, tokenizer, **OPTIONS).split
  in_memory = tokenise(source, tokenizer, buckets=BUCKETS)
  streams = [train_batches(split, tokenizer, **options) for split in (from_disk, in_memory)]
  for number, (batch, other) in enumerate(itertools.islice(zip(*streams, strict=True), 70)):
    for array, expected in zip(batch, other, strict=True):
      np.testing.assert_array_equal(array, expected, strict=True)
    if number == 40:
      streams[0].set_state(streams[1].get_state())


def test_the_counts_of_dropped_examples_are_said_each_time(folder, source, tokenizer, caplog):
  with caplog.at_level(logging.WARNING):
    tokenise(source, tokenizer, buckets=BUCKETS)
    read_cache(folder, source, tokenizer, **OPTIONS)
  first, second = caplog.messages
  assert first == second and "500 examples longer than the last bucket (32, 36)" in first


def test_no_cache_is_no_error_of_a_cache(tmp_path, source, tokenizer):
  with pytest.raises(FileNotFoundError, match="no tokens yet"):
    read_cache(tmp_path / "train", source, tokenizer, **OPTIONS)


def test_a_split_of_which_nothing_is_left_is_not_kept(tmp_path, source, tokenizer):
  folder = written(tmp_path / "train", source, tokenizer)
  with pytest.raises(ValueError, match="none of 500 examples is left: 0 .* 500 do not fit"):
    written(folder, source, tokenizer, buckets=((2, 2),))
  read_cache(folder, source, tokenizer, **OPTIONS)  # the old one stays
  with pytest.raises(ValueError, match=r"config\.data\.over_long='split'"):
    written(tmp_path / "new", source, tokenizer, over_long="split")
  assert [path.name for path in tmp_path.iterdir()] == ["train"]


@pytest.mark.parametrize("name", ["text", "data.buckets", "held_out"])
def test_a_cache_of_something_else_is_refused(folder, source, tokenizer, name):
  options = {**OPTIONS, "made_of": {**MADE_OF, name: "other"}}
  with pytest.raises(ValueError, match=f"train: made with another {name}$"):
    read_cache(folder, source, tokenizer, **options)


def cut(path):
  path.write_bytes(path.read_bytes()[:-4])


def flip(path):
  content = bytearray(path.read_bytes())
  content[-1] ^= 1
  path.write_bytes(content)


ARRAYS = "source_ids source_starts target_ids target_starts example_id bucket".split()


@pytest.mark.parametrize("harm", [cut, flip, lambda path: path.unlink()])
@pytest.mark.parametrize("name", [*(f"{name}.npy" for name in ARRAYS), "made_of.json"])
def test_a_damaged_cache_is_refused(folder, source, tokenizer, name, harm):
  read_cache(folder, source, tokenizer, **OPTIONS)
  harm(folder / name)
  with pytest.raises(ValueError, match="train.*: damaged") as refused:
    read_cache(folder, source, tokenizer, **OPTIONS)
  assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", ["[]", "{}", '{"format": 1}', '{"format": 1, "made_of": 3}'])
def test_a_foreign_folder_is_refused(folder, source, tokenizer, content):
  (folder / "made_of.json").write_text(content)
  with pytest.raises(ValueError, match="damaged|another version"):
    read_cache(folder, source, tokenizer, **OPTIONS)
  (folder / "checksums.json").unlink()
  (folder / "made_of.json").write_text(json.dumps({"format": 1, "made_of": MADE_OF}))
  with pytest.raises(ValueError, match=r"damaged, checksums\.json"):
    read_cache(folder, source, tokenizer, **OPTIONS)


def test_other_rules_of_tokenising_are_noticed(folder, source, tokenizer):
  class Upper(Tokenizer):

    def encode_batch(self, texts):
      return super().encode_batch([text.upper() for text in texts])

  other = Upper(tokenizer._processor.serialized_model_proto())
  with pytest.raises(ValueError, match="made by other rules of tokenising"):
    read_cache(folder, source, other, **OPTIONS)
  with pytest.raises(ValueError, match="made by other rules"):
    read_cache(folder, PhrasebookSource("train", size=20, seed=0), tokenizer, **OPTIONS)


def test_a_kill_in_the_midst_leaves_nothing_and_the_next_run_writes(tmp_path, source, tokenizer):
  tokenizer.save(tmp_path / "tokenizer")
  script = """
      import os, pathlib, signal, sys
      from kdtw_jax.data import load_tokenizer, tokenised, tokenised_parts, write_cache
      from kdtw_jax.data.phrasebook import PhrasebookSource

      class Deadly(PhrasebookSource):
        def __getitem__(self, index):
          if index == 400:
            size = sum(p.stat().st_size for p in folder.with_name("train.unfinished").iterdir())
            print("written", size, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
          return super().__getitem__(index)

      tokenised._CHUNK = 64
      folder, tokenizer = pathlib.Path(sys.argv[1]) / "train", load_tokenizer(sys.argv[2])
      source = Deadly("train", size=500, seed=0)
      parts = tokenised_parts(source, tokenizer, buckets=((16, 18),))
      write_cache(folder, parts, made_of={}, buckets=((16, 18),))
  """
  killed = subprocess.run(
      [sys.executable, "-c", textwrap.dedent(script), tmp_path / "data", tmp_path / "tokenizer"],
      cwd=ROOT,
      capture_output=True,
      text=True,
      timeout=300,
      check=False,
  )
  assert killed.returncode == -signal.SIGKILL and "written" in killed.stdout, killed.stderr
  assert [path.name for path in (tmp_path / "data").iterdir()] == ["train.unfinished"]
  folder = written(tmp_path / "data" / "train", source, tokenizer)
  assert len(read_cache(folder, source, tokenizer, **OPTIONS).split.bucket) > 400
  assert [path.name for path in (tmp_path / "data").iterdir()] == ["train"]


class Endless:
  """Examples that are made when they are read."""

  def __init__(self, size):
    self._size = size

  def __len__(self):
    return self._size

  def __getitem__(self, index):
    return Example(int(index), "a", "b", ("b",))


class Constant(Tokenizer):
  """Thirty tokens for every text, at once."""

  def __init__(self):
    self._row = list(range(5, 35))

  def encode_batch(self, texts):
    return [self._row] * len(texts)


def peak(action):
  """The most memory that Python and numpy held at a time above what they held before, bytes."""
  tracemalloc.start()
  try:
    result = action()
    return tracemalloc.get_traced_memory()[1], result
  finally:
    tracemalloc.stop()


def test_memory_does_not_grow_with_the_tokens(tmp_path):
  size, source, tokenizer = 150_000, Endless(150_000), Constant()
  most, folder = peak(lambda: written(tmp_path / "train", source, tokenizer))
  reading, cached = peak(lambda: read_cache(folder, source, tokenizer, **OPTIONS))
  assert cached.num_bytes > 37e6 and len(cached.split.bucket) == size
  assert cached.split.target.row(size - 1).tolist() == [*range(5, 35), EOS_ID]
  assert most < 12e6 and reading < 12e6
  few, _ = peak(lambda: tokenise(Endless(15_000), tokenizer, buckets=BUCKETS))
  assert few > 3.7e6  # what a tenth takes without a cache
  options = {"batch_size": 1, "budgets": (), "seed": 0, "prompt_length": 0}
  planning, plan = peak(lambda: TrainingPlan(cached.split, tokenizer, **options))
  assert planning < 64 * size  # arrays of numbers: a Python object per batch takes hundreds
  assert plan.batches_per_epoch == size
  batches, _ = peak(lambda: [plan[i].target[0, 0] for i in range(0, size, 150)])
  assert batches < 2e6


def test_rows_keep_their_ids_from_memory_to_disk(tmp_path, tokenizer):
  rows = (("one two", "eins zwei"), ("\u200b", "leer"), ("three", "drei " * 40), ("four", "vier"))
  source = InMemorySource(rows)
  folder = written(tmp_path / "train", source, tokenizer, over_long="truncate")
  split = read_cache(folder, source, tokenizer, **{**OPTIONS, "over_long": "truncate"}).split
  assert split.example_id.tolist() == [0, 2, 3]
  assert split.target.row(2).tolist() == [*tokenizer.encode("vier"), EOS_ID]
  assert split.target.row(1).tolist() == [*tokenizer.encode("drei " * 40)[:35], EOS_ID]
