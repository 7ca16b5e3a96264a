"""Matched comparisons on methods whose share and cost are known functions of their dial."""

import dataclasses
import math

import numpy as np
import pytest

from kdtw_jax.evaluation.comparing import comparisons, matched_dial
from kdtw_jax.evaluation.methods import Setting, Sweep
from kdtw_jax.evaluation.outputs import Outputs
from kdtw_jax.evaluation.record import Curve, Point

REFERENCES = [("a b c d e f",), ("g h i j k l",)]


def sweep(method, dials, **fields):
  settings = tuple((dial, f"{dial:g}", Setting(method, dial, "wheels")) for dial in dials)
  kinds = dict(continuous=True, family=method, bound=False, by_token=True, never=0.0)
  return Sweep(method, method.title(), "dial", settings, **{**kinds, **fields})


class Known:
  """Share of the handover is its budget, of others half the dial; cost is the share and 0.1."""

  def __init__(self):
    self.decoded = []

  def outputs(self, split, setting):
    text = "a b c d e f" if setting.method == "handover" else "a b c d x y"
    return Outputs([text, "g h i j k l"], [[], []], [np.zeros(0, bool)] * 2, {})

  def point(self, split, setting):
    self.decoded.append((split, setting.dial))
    share = setting.budget if setting.method == "handover" else setting.dial / 2
    return Point(
        dial=setting.dial,
        label="",
        scores={"bleu": 50.0},
        asked_share=share,
        teacher_share=share,
        teacher_calls=share,
        teacher_passes=share,
        teacher_tokens=share,
        student_steps=1.0,
        cost=share + 0.1,
    )

  def curve(self, split, sweep):
    points = tuple(self.point(split, setting) for _, _, setting in sweep.settings)
    return Curve(
        method=sweep.method,
        title=sweep.title,
        family=sweep.family,
        bound=sweep.bound,
        is_handover=sweep.is_handover,
        dial_name=sweep.dial_name,
        student="wheels",
        points=points,
    )


def compared(sweeps, known=None, budgets=(0.2,)):
  return comparisons(
      known or Known(),
      sweeps,
      budgets=budgets,
      references=REFERENCES,
      vocab_size=100,
      metric="bleu",
      seed=0,
      num_resamples=20,
  )


def test_each_method_is_matched_in_share_and_in_cost():
  asking = sweep("asking", (0.2, 0.6))
  drafting = dataclasses.replace(sweep("drafting", (0.2, 0.6)), by_token=False)
  bound = dataclasses.replace(sweep("bound", (0.2,)), bound=True)
  rows = compared([sweep("handover", (0.2,)), asking, drafting, bound])
  assert [(row.baseline, row.equal) for row in rows] == [
      ("asking", "share"),
      ("asking", "cost"),
      ("drafting", "cost"),
  ]
  for row in rows:
    assert row.dial == pytest.approx(0.4) and row.reached and row.budget == 0.2
    assert row.baseline_share == pytest.approx(row.handover_share) == pytest.approx(0.2)
    assert row.baseline_cost == pytest.approx(row.handover_cost) == pytest.approx(0.3)
    assert row.handover == pytest.approx(100.0) and row.delta > 0
    assert row.delta == row.handover - row.baseline_score
    assert row.interval[0] <= row.delta <= row.interval[1]


def test_a_method_of_few_settings_gives_its_nearest_and_says_so():
  rows = compared([sweep("whole", (0.1, 0.9), continuous=False)])
  assert {row.dial for row in rows} == {0.1} and not any(row.reached for row in rows)


@pytest.mark.parametrize("never, dial", [(0.0, 0.1), (math.log, 0.1), (None, 0.4)])
def test_a_dial_that_never_asks_reaches_shares_below_the_sweep(never, dial):
  known = Known()
  method = sweep("asking", (0.4, 0.6), never=never)
  if never is math.log:  # an entropy: the higher the dial the fewer asks, none at log V
    known.point = lambda split, setting: dataclasses.replace(
        Known().point(split, setting), teacher_share=0.5 * (1 - setting.dial / math.log(100))
    )
    found = matched_dial(known, method, "share", 0.05, vocab_size=100)
    assert found == pytest.approx(0.9 * math.log(100))
    return
  assert matched_dial(known, method, "share", 0.05, vocab_size=100) == pytest.approx(dial)
  assert matched_dial(known, method, "cost", 0.15, vocab_size=100) == pytest.approx(0.4)
