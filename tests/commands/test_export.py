"""`kdtw export`: a folder for transformers with a card that says how to use it."""

import json
from pathlib import Path
import shutil

import jax
import numpy as np
import pytest

from kdtw_jax import data, published
from kdtw_jax.commands import cli
from kdtw_jax.pair import load_pair
from tests import exported_card, tiny_pair
from tests.t5_tokenizer import make_madlad

RESULTS = Path(__file__).parents[2] / "results/multi30k/seed0/metrics.json"
TEXTS = ["The flight takes 5 hours.", "The letter arrived.", "Thank you."]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  folder = tmp_path_factory.mktemp("run")
  tiny_pair.save(folder / "pair")
  return folder


def export(workdir, out, *flags):
  cli.main(["export", f"--pair={workdir}", f"--out={out}", *flags])
  return (out / "README.md").read_text("utf-8")


def test_the_folder_holds_the_student_and_the_card_its_results(workdir, tmp_path):
  shutil.copy(RESULTS, workdir / "metrics.json")
  card = export(workdir, tmp_path / "out", "--licence=apache-2.0")
  assert card.startswith("---\nlicense: apache-2.0\n")
  metrics = json.loads(RESULTS.read_text("utf-8"))
  teacher, student = (metrics["alone"][who]["scores"] for who in ("teacher", "student"))
  assert f"| teacher alone | – | {teacher['bleu']:.1f} | {teacher['chrf']:.1f} |" in card
  assert f"| student alone | 0 | {student['bleu']:.1f} | {student['chrf']:.1f} |" in card
  for curve in metrics["curves"]["test"]:
    shown = curve["method"] in ("handover", "worth")
    assert card.count(f"\n| {curve['title']}, ") == (len(curve["points"]) if shown else 0)
  ours, saved = published.load_model(tmp_path / "out"), load_pair(workdir)
  assert ours.model.config == saved.student.config and ours.duals.tolist() == [*saved.duals]
  jax.tree.map(np.testing.assert_array_equal, ours.params, saved.student_params)


def test_only_an_earlier_export_is_replaced(workdir, tmp_path):
  export(workdir / "pair", tmp_path / "out")
  export(workdir, tmp_path / "out", "--licence=mit")
  (tmp_path / "mine").mkdir()
  (tmp_path / "mine/thesis.txt").write_text("years of work", "utf-8")
  for out in (tmp_path / "mine", tmp_path / "mine/thesis.txt", workdir / "pair/teacher"):
    with pytest.raises(SystemExit, match="exists and is no earlier export: give another folder"):
      export(workdir, out)
  assert (tmp_path / "mine/thesis.txt").read_text("utf-8") == "years of work"


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")  # the library's own deprecations are not ours to fail on
@pytest.mark.parametrize("kind", ["t5", "causal", "madlad"])
def test_the_code_of_the_card_writes_what_the_student_writes_alone(kind, workdir, tmp_path):
  pytest.importorskip("torch")
  if kind != "t5":
    workdir = tmp_path / "run"
  if kind == "causal":
    tiny_pair.save(workdir / "pair", mode="causal_smoke")
  if kind == "madlad":  # reads `<2de>` before a source
    folder = make_madlad(tmp_path / "tokenizer", languages=("de", "fr"))
    tiny_pair.save(workdir / "pair", tokenizer=data.load_tokenizer(folder, ("", "de")))
  card = export(workdir, tmp_path / "out")
  code = exported_card.code(card)
  assert ("'<2de> " in code) == (kind == "madlad")
  alone = load_pair(workdir).write(TEXTS, 0)
  for text, expected in zip(TEXTS, alone, strict=True):
    assert exported_card.run(code, tmp_path / "out", text) == expected.text.strip()
