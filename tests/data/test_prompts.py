"""Budgets in words."""

import pytest

from kdtw_jax.data import HELD_OUT_WORDINGS, TRAIN_WORDINGS, Wording, render, tokenizer_text

ALL = TRAIN_WORDINGS + HELD_OUT_WORDINGS
BARE = Wording("{percent}", "{percent}")
TASKS = ("", "summarize")


def test_wording_alone_and_after_a_task():
  wording = TRAIN_WORDINGS[0]
  assert render(0.2, wording) == "use the teacher for at most 20% of the tokens: "
  assert render(0, wording) == "use the teacher for at most 0% of the tokens: "
  assert render(1.0, wording) == "use the teacher for at most 100% of the tokens: "
  assert render(0.1, wording, "summarize") == (
      "summarize, using the teacher for at most 10% of the tokens: "
  )


@pytest.mark.parametrize("percent", range(101))
def test_whole_percents_are_exact(percent):
  assert render(percent / 100, BARE) == f"{percent}%: "


def test_parts_of_a_percent_are_kept():
  assert render(0.125, BARE) == "12.5%: "


@pytest.mark.parametrize("task", TASKS)
def test_wordings_are_different_and_hold_the_number(task):
  assert len(TRAIN_WORDINGS) >= 8
  assert len(HELD_OUT_WORDINGS) >= 3
  assert len({wording.template(task) for wording in ALL}) == len(ALL)
  for wording in ALL:
    assert wording.template(task).endswith(": ")
    assert wording.template(task).startswith(task)
    assert "7%" in render(0.07, wording, task)


@pytest.mark.parametrize("task", TASKS)
def test_held_out_wordings_reorder_the_words_of_the_training_wordings(task):
  def words(wording):
    return set(wording.template(task).replace(",", "").replace(":", "").split())

  known = set().union(*map(words, TRAIN_WORDINGS))
  for wording in HELD_OUT_WORDINGS:
    assert words(wording) <= known, wording


@pytest.mark.parametrize("task", TASKS)
def test_tokenizer_text_is_of_training_wordings_only(task):
  text = tokenizer_text(task)
  assert len(text) == 101 * len(TRAIN_WORDINGS) == len(set(text))
  assert render(0.2, TRAIN_WORDINGS[1], task) in text
  assert not any(render(0.2, wording, task) in text for wording in HELD_OUT_WORDINGS)


@pytest.mark.parametrize("budget", (-0.1, 1.2, 20, float("nan")))
def test_a_budget_outside_0_to_1_is_refused(budget):
  with pytest.raises(ValueError, match=r"share between 0 and 1"):
    render(budget, TRAIN_WORDINGS[0])


@pytest.mark.parametrize("text", ("no slot", "{percent} and {percent}"))
def test_a_wording_holds_one_slot(text):
  with pytest.raises(ValueError, match="exactly once"):
    render(0.1, Wording(text, text))
