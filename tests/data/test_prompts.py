"""Budgets in words."""

import pytest

from kdtw_jax.data import HELD_OUT_TEMPLATES, TRAIN_TEMPLATES, render, tokenizer_text

ALL = TRAIN_TEMPLATES + HELD_OUT_TEMPLATES


def test_wording():
  template = "use the teacher for at most {percent} of the tokens: "
  assert template in TRAIN_TEMPLATES
  assert render(0.2, template) == "use the teacher for at most 20% of the tokens: "
  assert render(0, template) == "use the teacher for at most 0% of the tokens: "
  assert render(1.0, template) == "use the teacher for at most 100% of the tokens: "


@pytest.mark.parametrize("percent", range(101))
def test_whole_percents_are_exact(percent):
  assert render(percent / 100, "{percent}") == f"{percent}%"


def test_parts_of_a_percent_are_kept():
  assert render(0.125, "{percent}") == "12.5%"


def test_templates_are_different_and_held_out_ones_are_unseen():
  assert len(TRAIN_TEMPLATES) >= 8
  assert len(HELD_OUT_TEMPLATES) >= 3
  assert len(set(ALL)) == len(ALL)
  for template in ALL:
    assert template.endswith(": ")
    assert "7%" in render(0.07, template)


def test_held_out_templates_reorder_the_words_of_the_training_templates():
  known = {word for template in TRAIN_TEMPLATES for word in template.replace(",", "").split()}
  known |= {word + ":" for word in known} | {word.rstrip(":") for word in known}
  for template in HELD_OUT_TEMPLATES:
    assert set(template.replace(",", "").split()) <= known, template


def test_tokenizer_text_is_of_training_templates_only():
  text = tokenizer_text()
  assert len(text) == 101 * len(TRAIN_TEMPLATES) == len(set(text))
  assert render(0.2, TRAIN_TEMPLATES[1]) in text
  assert not any(render(0.2, template) in text for template in HELD_OUT_TEMPLATES)


@pytest.mark.parametrize("budget", (-0.1, 1.2, 20, float("nan")))
def test_a_budget_outside_0_to_1_is_refused(budget):
  with pytest.raises(ValueError, match=r"share between 0 and 1"):
    render(budget, TRAIN_TEMPLATES[0])


@pytest.mark.parametrize("template", ("no slot: ", "{percent} and {percent}: "))
def test_a_template_holds_one_slot(template):
  with pytest.raises(ValueError, match="exactly once"):
    render(0.1, template)
