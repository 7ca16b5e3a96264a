"""`kdtw evaluate`: scores and costs of a pair on texts of one's own, measured once."""

import dataclasses
import json

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU

from kdtw_jax import devices
from kdtw_jax.commands import cli, spending
from kdtw_jax.commands.evaluate import SCORES_FILE, _Kept, usual_settings
from kdtw_jax.files import write_json
from kdtw_jax.pair import Pair, load_pair
from tests import tiny_pair

SOURCES = ["The flight takes 5 hours.", "", "The letter arrived.", "Thank you."]
REFERENCES = ["Der Flug dauert 5 Stunden.", "", "Der Brief kam an.", "Danke."]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return tiny_pair.save(tmp_path_factory.mktemp("run") / "pair")


@pytest.fixture
def evaluate(folder, monkeypatch, capsys, tmp_path):
  monkeypatch.setattr(devices, "keep_programs", lambda: None)
  for name, lines in (("en.txt", SOURCES), ("de.txt", REFERENCES)):
    (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

  def run(*settings, **flags):
    paths = {"source": tmp_path / "en.txt", "reference": tmp_path / "de.txt", "out": tmp_path / "o"}
    flags = [f"--{name}={value}" for name, value in {**paths, **flags}.items()]
    failure = None
    try:
      cli.main(["evaluate", f"--pair={folder}", *flags, *settings])
    except SystemExit as exit_:
      failure = exit_.code
    return capsys.readouterr().out, failure

  return run


def test_outputs_scores_and_costs_are_kept_and_not_measured_again(
    evaluate, folder, tmp_path, monkeypatch
):
  settings = ("student", "0.2", "margin:0.5@0.2/hard", "random:0.2", "random:0.5@0.2/paced")
  table, failure = evaluate(*settings)
  assert failure is None and [name for name in settings if name in table] == [*settings]
  lines = (tmp_path / "o/margin-at-0.5-for-0.2_hard.txt").read_text("utf-8").splitlines()
  expected = [out.text for out in load_pair(folder).write(SOURCES[:1] + SOURCES[2:], 0)]
  assert (tmp_path / "o/student.txt").read_text("utf-8").splitlines() == [
      expected[0],
      "",
      *expected[1:],
  ]
  kept = (tmp_path / "o/margin-at-0.5-for-0.2_hard.jsonl").read_text("utf-8").splitlines()
  costs = [json.loads(line) for line in kept]
  calls, tokens = sum(c["calls"] for c in costs), sum(len(c["tokens"]) for c in costs)
  row = json.loads((tmp_path / "o/scores.json").read_text("utf-8"))["settings"][settings[2]]
  assert row["calls"] == calls / tokens and 0 < row["calls"] <= 0.2
  assert row["bleu"] == pytest.approx(BLEU(force=True).corpus_score(lines, [REFERENCES]).score)

  monkeypatch.setattr(Pair, "write_stream", lambda *_, **__: pytest.fail("measured again"))
  assert evaluate(*settings) == (table, None)


def test_without_settings_it_measures_both_models_and_the_budgets_of_training(folder):
  pair = load_pair(folder)
  assert usual_settings(pair) == ["student", "0.2", "speculative:4", "teacher"]
  prices = ((0.1, 0.2), (2.0, 1.0))
  priced = usual_settings(dataclasses.replace(pair, prices=prices))
  assert priced == ["student", "0.2", "worth@0.2", "speculative:4", "teacher"]
  for name in priced:
    spending.read_setting(name)


def test_results_of_other_texts_are_not_mixed(evaluate, tmp_path):
  assert evaluate("student")[1] is None
  _, failure = evaluate("student", metric="rouge")
  assert "has results of another pair, other texts or another metric" in failure
  (tmp_path / "de.txt").write_text("a\nb\nc\nd\n", encoding="utf-8")
  assert "has results of another pair" in evaluate("student")[1]
  (tmp_path / "de.txt").write_text("a\nb\nc\n", encoding="utf-8")
  assert "de.txt: has 3 lines, and --source=" in evaluate("student")[1]
  (tmp_path / "o/scores.json").write_text("{", encoding="utf-8")
  (tmp_path / "de.txt").write_text("a\nb\nc\nd\n", encoding="utf-8")
  assert "damaged, not JSON" in evaluate("student")[1]


@pytest.mark.parametrize("part", ["teacher_params", "shortest", "paces"])
def test_results_of_another_teacher_or_other_terms_are_not_mixed(folder, tmp_path, part):
  pair = load_pair(folder)
  kept = _Kept(tmp_path, pair, SOURCES, [REFERENCES], "bleu")
  write_json(tmp_path / SCORES_FILE, {"made_by": kept._made_by, "settings": {}})
  _Kept(tmp_path, pair, SOURCES, [REFERENCES], "bleu")
  other = {"teacher_params": {"w": np.ones(3)}, "shortest": (2.5, 0.25), "paces": {"hard": 3.0}}
  with pytest.raises(ValueError, match="has results of another pair"):
    _Kept(tmp_path, dataclasses.replace(pair, **{part: other[part]}), SOURCES, [REFERENCES], "bleu")


@pytest.mark.parametrize(
    "setting, said",
    [
        ("stduent", "error: policy='stduent': unknown; choose one of"),
        ("margin:x", "error: policy margin:x: 'x' is no number"),
        ("0.9", "error: budget=0.9: states 90%"),
        ("margin:0.5@0.2", "error: budget=0.2: policy 'margin' does not keep to a budget"),
        ("worth@0.2", "error: policy='worth': this pair's student has not learned"),
    ],
)
def test_a_setting_that_cannot_be(evaluate, setting, said):
  assert evaluate(setting)[1].startswith(said)


@pytest.mark.parametrize(
    "text, budget, form, policy",
    [
        ("0.2", 0.2, "share", None),
        ("20%", "20%", "share", None),
        ("2/calls", 2, "calls", None),
        ("at most twice", "at most twice", "share", None),
        ("worth@0.1/ledger", 0.1, "ledger", "worth"),
        ("teacher", None, "share", "teacher"),
        ("speculative:4", None, "share", "speculative"),
        ("random:0.1@at most 3 calls", "at most 3 calls", "share", "random"),
    ],
)
def test_settings_as_words(text, budget, form, policy):
  setting = spending.read_setting(text)
  assert (setting.budget, setting.form) == (budget, form)
  assert getattr(setting.policy, "name", setting.policy) == policy
