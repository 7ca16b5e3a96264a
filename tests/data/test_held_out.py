"""Examples held out of train: who is where depends on a source text and a seed, and on no more."""

import functools
import itertools

import numpy as np
import pytest

from kdtw_jax import data
from tests.own_data import ONE_FILE, config_of, pairs_of, rows_of, write
from tests.refusing import refused

SPLITS = ("train", "validation", "test")
KINDS = ("text", *ONE_FILE)
NUMBER = 600
MANY = [(f"Source {i} is here.", f"Ziel {i}.") for i in range(NUMBER)]


def splits_of(config):
  return {split: pairs_of(data.load_split(config, split)) for split in SPLITS}


def where(parts):
  """The split of each source; fails if one is in two."""
  found = {}
  for split, pairs in parts.items():
    for source, _ in pairs:
      assert found.setdefault(source, split) == split, source
  return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_with_train_alone_is_divided(tmp_path, kind):
  write(tmp_path, kind, rows_of(MANY))
  config = config_of(kind, tmp_path, held_out=0.1)
  assert data.divided_splits(config) == ("validation", "test")
  parts = splits_of(config)
  assert sorted(itertools.chain(*parts.values())) == sorted(MANY)
  assert len(where(parts)) == NUMBER
  for split in ("validation", "test"):  # within four standard deviations of the share
    assert abs(len(parts[split]) - 60) < 4 * (60 * 0.9) ** 0.5
  assert [pair for pair in MANY if pair in parts["train"]] == parts["train"]  # in the file's order


def test_the_division_is_the_same_in_every_format(tmp_path):
  found = []
  for kind in KINDS:
    (tmp_path / kind).mkdir()
    file = write(tmp_path / kind, kind, rows_of(MANY))
    found.append(splits_of(config_of(kind, tmp_path / kind, held_out=0.1)))
    if kind in ONE_FILE:
      found.append(splits_of(config_of(kind, file, held_out=0.1)))
  assert len(found) == 9 and all(parts == found[0] for parts in found)


def test_known_sources_stay_where_they_were(tmp_path):
  """A change of the hash would move examples of users from test into train."""
  pairs = [(word, "x") for word in "one two three four five six seven eight nine ten".split()]
  parts = splits_of(config_of("csv", write(tmp_path, "csv", rows_of(pairs)), held_out=0.2))
  assert {split: [source for source, _ in pairs] for split, pairs in parts.items()} == {
      "train": ["six", "seven", "nine"],
      "validation": ["one", "two", "four", "five"],
      "test": ["three", "eight", "ten"],
  }


@pytest.mark.parametrize("held_out", (0.1, 60))
def test_equal_sources_are_in_one_split(tmp_path, held_out):
  copies = [
      (f"{source}{space}", f"{target} {n}")
      for source, target in MANY
      for n, space in enumerate(("", " ", ""))
  ]
  parts = splits_of(config_of("csv", write(tmp_path, "csv", rows_of(copies)), held_out=held_out))
  found = where({k: [(s.strip(), t) for s, t in pairs] for k, pairs in parts.items()})
  assert len(found) == NUMBER and {*found.values()} == {*SPLITS}
  assert sorted(itertools.chain(*parts.values())) == sorted(copies)


def test_order_does_not_matter_and_added_examples_move_no_other(tmp_path):
  before = where(splits_of(config_of("csv", write(tmp_path, "csv", rows_of(MANY)), held_out=0.1)))
  more = [*MANY, *((f"New {i}", "neu") for i in range(500))]
  order = np.random.default_rng(0).permutation(len(more))
  file = write(tmp_path, "csv", rows_of([more[i] for i in order]), split="more")
  after = where(splits_of(config_of("csv", file, held_out=0.1)))
  assert len(after) == len(more)
  assert {source: after[source] for source, _ in MANY} == before


def test_the_seed_divides_anew(tmp_path):
  file = write(tmp_path, "csv", rows_of(MANY))
  first, second = (splits_of(config_of("csv", file, held_out=0.1, seed=s)) for s in (0, 1))
  assert first["test"] != second["test"]


def test_a_number_is_met_exactly(tmp_path):
  file = write(tmp_path, "csv", rows_of(MANY))
  parts = splits_of(config_of("csv", file, held_out=25))
  assert [len(parts[split]) for split in SPLITS] == [NUMBER - 50, 25, 25]
  assert len(where(parts)) == NUMBER


def test_a_split_with_a_file_is_read_and_the_other_divided(tmp_path):
  write(tmp_path, "csv", rows_of(MANY))
  both = splits_of(config_of("csv", tmp_path, held_out=0.1))
  write(tmp_path, "csv", rows_of([("given", "gegeben")]), split="validation")
  config = config_of("csv", tmp_path, held_out=0.1)
  assert data.divided_splits(config) == ("test",)
  parts = splits_of(config)
  assert parts["validation"] == [("given", "gegeben")]
  assert parts["test"] == both["test"]
  assert sorted(parts["train"] + parts["test"]) == sorted(MANY)
  write(tmp_path, "csv", rows_of([("last", "letzte")]), split="test")
  assert data.divided_splits(config) == ()
  assert splits_of(config)["train"] == MANY


def test_limits_cut_the_parts_and_joining_follows(tmp_path):
  file = write(tmp_path, "csv", rows_of(MANY))
  whole = splits_of(config_of("csv", file, held_out=0.1))
  config = config_of("csv", file, held_out=0.1, num_train=7, num_test=2, join=2)
  parts = splits_of(config)
  assert [len(parts["train"]), len(parts["test"])] == [7, 2]
  assert parts["test"][0][0] == f"{whole['test'][0][0]} {whole['test'][1][0]}"


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_held_out_unless_it_is_said(tmp_path, kind):
  file = write(tmp_path, kind, rows_of(MANY))
  config = config_of(kind, tmp_path)
  assert data.divided_splits(config) == ()
  assert len(data.load_split(config, "train")) == NUMBER
  remedy = "config.data.held_out=0 holds nothing out of train: set it, e.g. to 0.05"
  for split in ("validation", "test"):
    call = functools.partial(data.load_split, config, split)
    refused(call, "no such file", remedy, str(tmp_path))
  if kind in ONE_FILE:
    config.path = str(file)
    assert len(data.load_split(config, "train")) == NUMBER
    refused(lambda: data.load_split(config, "test"), f"path='{file}': one file", remedy)


def test_a_split_that_is_there_but_cannot_be_read_is_not_divided_over(tmp_path):
  write(tmp_path, "text", rows_of(MANY))
  (tmp_path / "en.test.txt").write_text("a\n")
  config = config_of("text", tmp_path, held_out=0.1)
  refused(lambda: data.load_split(config, "test"), "de.test.txt: no such file")
  (tmp_path / "en.validation.txt").symlink_to("/nowhere/at/all")
  refused(lambda: data.load_split(config, "validation"), "en.validation.txt: no such file")


@pytest.mark.parametrize(
    "pairs, held_out, said",
    (
        (
            MANY[:3],
            0.01,
            "held_out=0.01: divides 3 examples into 3 of train, 0 of validation, 0 of",
        ),
        (MANY[:6], 3, "held_out=3: divides 6 examples into 0 of train, 3 of validation, 3 of test"),
        (MANY[:6], 5, "held_out=5: divides 6 examples into 0 of train"),
        (MANY[:6], 100, "held_out=100: divides 6 examples into 0 of train"),
        ([("same", "x")] * 50, 0.1, "each split needs some of its own; change it, or give more"),
        ([("same", "x")] * 50, 5, "into 0 of train"),
    ),
)
def test_a_division_without_an_example_for_each_is_refused(tmp_path, pairs, held_out, said):
  config = config_of("csv", write(tmp_path, "csv", rows_of(pairs)), held_out=held_out)
  for split in SPLITS:
    refused(functools.partial(data.load_split, config, split), "config.data.held_out", said)
