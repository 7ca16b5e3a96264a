"""Budgets as users state them: what they say is kept, or refused with what is possible."""

import re

import jax.numpy as jnp
import numpy as np
import pytest

from kdtw_jax import data
from kdtw_jax.data import HELD_OUT_WORDINGS, TRAIN_WORDINGS, state_budget, stated_calls

SAID = "use the teacher for at most {} of the tokens: "


@pytest.mark.parametrize(
    "budget, share, instruction",
    [
        (0, 0.0, SAID.format("0%")),
        (0.2, 0.2, SAID.format("20%")),
        (np.float32(0.2), 0.2, SAID.format("20%")),
        (0.125, 0.125, SAID.format("12.5%")),
        (1e-6, 0.0, SAID.format("0%")),  # what cannot be said is not meant
        ("20%", 0.2, SAID.format("20%")),
        (" at most 20 %  of it : ", 0.2, "at most 20% of it: "),
        ("at most 12,5% of it", 0.125, "at most 12.5% of it: "),
        ("of 100 tokens at most 7%", 0.07, "of 100 tokens at most 7%: "),
        ("nothing, 0%", 0.0, "nothing, 0%: "),
    ],
)
def test_a_budget_is_read_and_said(budget, share, instruction):
  assert state_budget(budget, largest=0.5) == (pytest.approx(share), instruction)


@pytest.mark.parametrize("task", ["", "summarize"])
@pytest.mark.parametrize("wording", [*TRAIN_WORDINGS, *HELD_OUT_WORDINGS])
def test_every_wording_of_the_project_is_read_as_it_was_rendered(wording, task):
  for percent in (0, 7, 50):
    said = data.render(percent / 100, wording, task)
    assert state_budget(said, largest=0.5, task=task) == (percent / 100, said)


def test_a_task_comes_first_and_once():
  said = "summarize, with 5% help: "
  for words in ("with 5% help", "summarize, with 5% help"):
    assert state_budget(words, largest=0.5, task="summarize").instruction == said
  said = "summarize, using the teacher for at most 5% of the tokens: "
  assert state_budget(0.05, largest=0.5, task="summarize").instruction == said


@pytest.mark.parametrize(
    "budget, reason",
    [
        (0.7, "states 70%"),
        (0.5001, "states 50.01%"),
        (1, "states 100%"),
        (20, "states 2000%"),
        (-0.1, "states -10%"),
        (float("nan"), "states nan%"),
        (float("inf"), "states inf%"),
        ("100%", "states 100%"),
        ("use the teacher for at most 70% of the tokens", "states 70%"),
        ("at most -5%", "states -5%"),
        ("", "states no share"),
        ("no limit", "states no share"),
        ("as you like", "states no share"),
        ("at most 0.2 of the tokens", "states no share"),
        ("a few %", "states no share"),
        ("1,000%", "states no share"),
        ("x20%", "states no share"),
        ("20-30%", "states no share"),
        ("at most 10% or 20%", "states several shares"),
        ("10% of a few %", "states several shares"),
        (None, "neither a number nor words"),
        (True, "neither a number nor words"),
        ([0.2], "neither a number nor words"),
        (b"20%", "neither a number nor words"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_what_can(budget, reason):
  with pytest.raises(ValueError, match=re.escape(f"budget={budget!r}: {reason}")) as refused:
    state_budget(budget, largest=0.5)
  message = str(refused.value)
  assert "from 0 to 0.5" in message and "'teacher'" in message and "'speculative'" in message
  assert "\n" not in message


@pytest.mark.parametrize("share", [0.1 * 3, np.float32(0.3), np.array(0.3), jnp.float32(0.3)])
def test_a_share_may_be_a_rounding_error_above_the_largest(share):
  assert state_budget(share, largest=0.3).share == 0.3


# Calls --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "budget, calls",
    [
        ("at most 3 calls", 3),
        ("use the teacher at most twice", 2),
        ("Once, if you must", 1),
        ("no more than two calls to the teacher", 2),
        ("ask it up to ten times", 10),
        ("with no calls at all", 0),
        ("never ask the teacher", 0),
        ("at most\n12  calls", 12),
    ],
)
@pytest.mark.parametrize("form", ["share", "calls"])
def test_calls_in_words_are_read(budget, calls, form):
  assert stated_calls(budget, form) == calls


@pytest.mark.parametrize("budget", [3, np.int32(3), np.array(3), jnp.int32(3)])
def test_a_whole_number_is_calls_only_by_its_form(budget):
  assert stated_calls(budget, "calls") == 3
  assert stated_calls(budget) is None


@pytest.mark.parametrize("wording", [*TRAIN_WORDINGS, *HELD_OUT_WORDINGS])
def test_no_wording_of_a_share_states_calls(wording):
  assert stated_calls(data.render(0.2, wording)) is None


@pytest.mark.parametrize(
    "budget",
    [
        -1,
        0.2,
        2.0,
        True,
        None,
        "20%",
        "at most 20% or 3 calls",
        "3 calls, or 4 times",
        "3-5 calls",
        "-3 calls",
        "2.5 calls",
        "some calls",
        "3 callers",
        "twice-baked",
        [3],
        float("nan"),
    ],
)
def test_what_states_no_calls_is_refused_by_their_form(budget):
  message = f"budget={budget!r}: form='calls' takes a whole number of calls from 0, as budget=3"
  with pytest.raises(ValueError, match=re.escape(message)) as refused:
    stated_calls(budget, "calls")
  assert "\n" not in str(refused.value)
  assert stated_calls(budget) is None


def test_calls_are_refused_by_the_forms_of_a_share():
  for form in ("paced", "hard", "prefix", "ledger"):
    message = f"states calls, and form='{form}' takes a share, as 0.2: leave out the form"
    with pytest.raises(ValueError, match=re.escape(message)):
      stated_calls("at most 3 calls", form)
    assert stated_calls(0.2, form) is None
