"""A run on one table of one's own, by `configs/own.py`: divided once, and the same ever after."""

import json
import shutil

import pytest

from tests.own_data import rows_of, write
from tests.smoke_run import start

OWN = "configs/own.py:smoke"
FIELDS = ("--config.data.source_field=en", "--config.data.target_field=de")
PAIRS = [(f"A dog runs {n} times.", f"Ein Hund läuft {n} mal.") for n in range(300)]


def run(cache, workdir, path, *flags, kind="csv"):
  place = (f"--config.data.source={kind}", f"--config.data.path={path}")
  return start(cache, workdir, *place, *FIELDS, *flags, config=OWN)


@pytest.mark.slow
def test_one_table_is_enough(cache, tmp_path):
  short = "--config.stages=('tokenizer','sft')"
  file = write(tmp_path, "csv", rows_of(PAIRS))
  done = run(cache, tmp_path / "run", file, short, "--config.data.held_out=10")
  assert done.returncode == 0, done.stdout + done.stderr
  assert "examples: train 280; validation and test held out of train\n" in done.stdout
  summary = json.loads((tmp_path / "run/stages/tokenizer/summary.json").read_text())
  assert 60 < summary["tokens"] < 2000
  assert (tmp_path / "run/stages/sft/summary.json").is_file()

  # The next stage finds the same examples in a folder.
  more = "--config.stages=('teacher',)"
  folder = tmp_path / "folder"
  folder.mkdir()
  shutil.copy(file, folder / "train.csv")
  again = run(cache, tmp_path / "run", folder, more, "--config.data.held_out=10")
  assert again.returncode == 0, again.stdout + again.stderr

  # Other divisions, and files that appear later, are other data.
  other = run(cache, tmp_path / "run", file, more, "--config.data.held_out=11")
  assert other.returncode == 1 and "config.data.held_out: 10.0 != 11.0" in other.stderr
  write(folder, "csv", rows_of(PAIRS[:20]), split="test")
  changed = run(
      cache,
      tmp_path / "run",
      folder,
      "--config.stages=('warm_start',)",
      "--config.data.held_out=10",
  )
  assert changed.returncode == 1 and "was made from other data" in changed.stderr


def test_a_mistake_is_one_clear_line(cache, tmp_path):
  file = write(tmp_path, "csv", rows_of(PAIRS))
  nothing = run(cache, tmp_path / "run", file, "--config.data.held_out=0")
  assert nothing.returncode == 1 and "Traceback" not in nothing.stderr
  assert "config.data.held_out=0 holds nothing out of train" in nothing.stderr
  missing = run(cache, tmp_path / "run", file, "--config.data.target_field=fr")
  assert missing.returncode == 1 and "Traceback" not in missing.stderr
  assert "no column 'fr', only 'en', 'de': set config.data.target_field" in missing.stderr
  assert not (tmp_path / "run").exists()
