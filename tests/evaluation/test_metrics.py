"""Corpus scores against sacrebleu and rouge-score, and hand-counted shares."""

import numpy as np
import pytest
import sacrebleu

from kdtw_jax.evaluation import metrics

HYPOTHESES = ["the cat sat on the mat", "a dog barks at night ."]
REFERENCES = [("the cat sat on a mat",), ("a dog barks in the night .", "the dog barks at night .")]


def test_bleu_and_chrf_are_sacrebleus_with_one_reference():
  references = [(texts[0],) for texts in REFERENCES]
  streams = [[texts[0] for texts in references]]
  scores = metrics.corpus_scores(HYPOTHESES, references)
  bleu = sacrebleu.corpus_bleu(HYPOTHESES, streams)
  assert scores["bleu"] == bleu.score
  assert scores["chrf"] == sacrebleu.corpus_chrf(HYPOTHESES, streams).score
  assert scores["length_ratio"] == 12 / 13 == bleu.sys_len / bleu.ref_len


def test_a_second_reference_counts():
  one = metrics.corpus_scores(HYPOTHESES, [(texts[0],) for texts in REFERENCES])
  two = metrics.corpus_scores(HYPOTHESES, REFERENCES)
  bleu = sacrebleu.metrics.BLEU()
  streams = [["the cat sat on a mat", REFERENCES[1][0]], [None, REFERENCES[1][1]]]
  assert two["bleu"] == bleu.corpus_score(HYPOTHESES, streams).score
  assert two["bleu"] > one["bleu"] and two["chrf"] > one["chrf"]


def test_signature_is_what_sacrebleu_reports():
  bleu, chrf = sacrebleu.metrics.BLEU(), sacrebleu.metrics.CHRF()
  streams = metrics.reference_streams(REFERENCES)
  bleu.corpus_score(HYPOTHESES, streams)
  chrf.corpus_score(HYPOTHESES, streams)
  expected = f"BLEU|{bleu.get_signature().format()}; chrF2|{chrf.get_signature().format()}"
  assert metrics.signature(REFERENCES) == expected
  assert "nrefs:var" in expected
  assert "nrefs:1|" in metrics.signature([("a",), ("b",)])
  assert "stemmer:porter" in metrics.signature(REFERENCES, metric="rouge")


def test_rouge_by_hand():
  # Unigrams: 2 of 3 output words and 2 of 4 reference words match: F = 2·(2/3)(1/2)/(7/6) = 4/7.
  # Bigrams: 1 of 2 and 1 of 3: F = 2·(1/2)(1/3)/(5/6) = 2/5.
  scores = metrics.corpus_scores(["red car stops"], [("red car drives away",)], metric="rouge")
  assert scores["rouge1"] == pytest.approx(400 / 7)
  assert scores["rouge2"] == pytest.approx(40)
  assert scores["rougeL"] == pytest.approx(400 / 7)
  assert scores["length_ratio"] == 3 / 4


def test_rouge_stems_and_takes_the_best_reference():
  references = [("nothing in common", "the running dogs")]
  assert metrics.corpus_scores(["the run dog"], references, metric="rouge")["rouge1"] == 100
  assert metrics.corpus_scores(["the ran dog"], references, metric="rouge")["rouge1"] < 100


def test_lsum_takes_sentences_and_l_does_not():
  # The sentences are swapped: as one sequence half of the words match, by sentence all do.
  scores = metrics.corpus_scores(
      ["cats sleep. dogs bark."], [("dogs bark.\ncats sleep.",)], metric="rougeLsum"
  )
  assert scores["rougeLsum"] == 100
  assert scores["rougeL"] == 50


def test_newline_sentences():
  assert metrics.newline_sentences(" One. Two! Three ") == "One.\nTwo!\nThree"
  assert metrics.newline_sentences("One. Two.\nThree.") == "One. Two.\nThree."
  assert metrics.newline_sentences("3.5 km") == "3.5 km"


@pytest.mark.parametrize(
    ("hypotheses", "references", "words"),
    [
        ([], [], "0 texts"),
        (["a"], [("a",), ("b",)], "1 hypotheses but 2"),
        (["a"], ["a"], "is a text"),
        (["a"], [()], "no reference"),
    ],
)
def test_unscorable_corpora_are_refused(hypotheses, references, words):
  with pytest.raises(ValueError, match=words):
    metrics.corpus_scores(hypotheses, references)


def test_unknown_metric_is_refused():
  with pytest.raises(ValueError, match="meteor"):
    metrics.corpus_scores(["a"], [("a",)], metric="meteor")


def test_violations_count_rows_strictly_above_the_budget():
  written, lengths = np.array([1, 2, 3, 0, 0]), np.array([10, 10, 10, 10, 0])
  assert metrics.violation_rate(written, lengths, 0.2) == 1 / 5
  assert metrics.violation_rate(written, lengths, 0.0) == 3 / 5
  assert metrics.violation_rate(written, lengths, 1.0) == 0.0


@pytest.mark.parametrize("percent", range(0, 101))
def test_meeting_a_float32_budget_exactly_is_no_violation(percent):
  budget = float(np.float32(percent / 100))
  assert metrics.violation_rate(np.array([percent]), np.array([100]), budget) == 0.0
  if percent < 100:
    assert metrics.violation_rate(np.array([percent + 1]), np.array([100]), budget) == 1.0


def test_calibration_error_by_hand():
  assert metrics.calibration_error([0.1, 0.2], [0.13, 0.19]) == pytest.approx(0.02)
  with pytest.raises(ValueError, match="2 budgets and 1"):
    metrics.calibration_error([0.1, 0.2], [0.1])


def test_impossible_counts_are_refused():
  with pytest.raises(ValueError, match="between 0 and"):
    metrics.violation_rate(np.array([3]), np.array([2]), 0.5)
  with pytest.raises(ValueError, match="shape"):
    metrics.violation_rate(np.array([1, 1]), np.array([2]), 0.5)
  with pytest.raises(ValueError, match="budget=20"):
    metrics.violation_rate(np.array([1]), np.array([2]), 20.0)


# Each output by itself --------------------------------------------------------------------------


def test_each_output_has_the_mean_of_its_own_scores():
  hypotheses, references = ["a red house", "no"], [("a red house", "a house"), ("yes",)]
  found = metrics.each_score(hypotheses, references)
  assert found.tolist() == pytest.approx([100.0, 0.0])
  alone = metrics.corpus_scores(["the old red house"], [("the red house is old",)])
  (mean,) = metrics.each_score(["the old red house"], [("the red house is old",)])
  assert abs(mean - alone["chrf"]) > 1 and 0 < mean < 100  # BLEU counts as much as chrF


def test_each_output_by_rouge_has_the_mean_of_all_of_them():
  rows = metrics.rouge_per_sentence(["a red house"], [("the red house",)])
  found = metrics.each_score(["a red house"], [("the red house",)], metric="rougeLsum")
  assert found[0] == pytest.approx(np.mean([rows[key][0] for key in metrics.ROUGE_KEYS]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("She pays 3 + 4 = 7.\n#### 7", "7"),
        ("It costs $1,200.50 in all.", "1200.5"),
        ("#### 1,000 dollars, for 3 days", "1000"),
        ("minus -4.0", "-4"),
        ("10 of 20", "20"),
        ("  The House\n is RED. ", "the house is red"),
        ("", ""),
    ],
)
def test_an_answer_is_what_a_text_ends_with(text, expected):
  assert metrics.answer(text) == expected


def test_exact_match_counts_right_answers():
  hypotheses = ["so 12", "#### 13", "I do not know", "14 of 15"]
  references = [("#### 12",), ("#### 12", "#### 13.0"), ("#### 5",), ("#### 14",)]
  assert metrics.compared_scores("exact_match") == ("exact_match",)
  assert metrics.corpus_scores(hypotheses, references, metric="exact_match")["exact_match"] == 50.0
  each = metrics.each_score(hypotheses, references, metric="exact_match")
  np.testing.assert_array_equal(each, [100.0, 100.0, 0.0, 0.0])
  assert "nrefs:var|answer:" in metrics.signature(references, metric="exact_match")
