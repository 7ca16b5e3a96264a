"""The choice of a pace on validation."""

import pytest

from kdtw_jax import decoding
from kdtw_jax.evaluation import pacing
from kdtw_jax.evaluation.pacing import choose_pace
from tests.evaluation.test_measure import measure
from tests.evaluation.test_outputs import parts

__all__ = ["measure", "parts"]


@pytest.mark.parametrize(
    "tried,chosen",
    [
        ({1.0: (0.19, 30.0), 2.0: (0.2, 29.6), 4.0: (0.2, 29.4)}, 2.0),  # half a point may go
        ({1.0: (0.25, 33.0), 2.0: (0.209, 29.6), 4.0: (0.2, 29.0)}, 2.0),  # 1 is above the budget
        ({1.0: (0.19, 30.0), 2.0: (0.2, 29.0), 4.0: (0.2, 29.6)}, 4.0),  # not monotonic: fine
        ({1.0: (0.3, 33.0), 4.0: (0.25, 29.6), 2.0: (0.25, 29.0)}, 4.0),  # none keeps it
    ],
)
def test_the_strictest_of_the_good_is_chosen(tried, chosen):
  assert choose_pace(tuple(tried), 0.2, tried.__getitem__) == chosen


def test_a_single_pace_is_not_tried():
  assert choose_pace((8.0,), 0.2, {}.__getitem__) == 8.0


def test_a_pace_is_that_of_validation_or_the_pairs_own(measure, monkeypatch):
  own = measure.pace("handover", 0.0, "wheels", "hard")
  assert own == 3.0  # as the pair has it, though config.decode.paces does not offer it
  assert measure.pace("handover", 0.0, "wheels", "share") == 0.0
  asked, run = [], measure.runner.run

  def seen(split, policy, params, *, budget, form, pace):
    asked.append((split, policy.name, budget, form, pace))
    return run(split, policy, params, budget=budget, form=form, pace=pace)

  monkeypatch.setattr(measure.runner, "run", seen)
  measure.config.decode.paces = (0.5, 8.0)
  found = measure.pace("max_prob", 0.99, "wheels", "paced")
  assert asked == [("validation", "max_prob", 0.2, "paced", pace) for pace in (0.5, 8.0)]
  uses = {
      pace: run(
          "validation",
          decoding.make_policy("max_prob", 0.99),
          measure.students["wheels"],
          budget=0.2,
          form="paced",
          pace=pace,
      ).per_token("asks")
      for pace in (0.5, 8.0)
  }
  assert uses[8.0] <= 0.2 + pacing.SLACK < uses[0.5] and found == 8.0
