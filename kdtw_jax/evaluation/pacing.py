"""The pace of a budget, chosen on validation: how strictly an asker is steered.

A lax pace lets calls go where an output needs them most, a strict one keeps each output near its
budget. How much strictness costs depends on the student, so validation decides.
"""

from collections.abc import Callable, Sequence

import ml_collections

from kdtw_jax import decoding
from kdtw_jax.base import Params
from kdtw_jax.evaluation import metrics
from kdtw_jax.evaluation.outputs import Runner

PACED_FORMS: tuple[str, ...] = ("paced", "hard", "prefix", "ledger")  # those that read a pace
PACED_BY = 0.2  # the budget under which the pace is chosen, unless training stated only smaller
SLACK = 0.01  # by which use on validation may exceed it
GIVEN = 0.5  # points of score that the strictest pace may cost


def choose_pace(
    paces: Sequence[float], budget: float, try_pace: Callable[[float], tuple[float, float]]
) -> float:
  """Returns the strictest pace that keeps the budget and is nearly as good as the best.

  Args:
    paces: the κ to choose from.
    budget: B of the trials.
    try_pace: `κ -> (use, score)`, calls per token and score of validation outputs.

  Returns:
    One of `paces`; the strictest if none keeps the budget. A single one is not tried.
  """
  if len(paces) == 1:
    return paces[0]
  tried = {pace: try_pace(pace) for pace in paces}
  kept = {pace: score for pace, (use, score) in tried.items() if use <= budget + SLACK}
  if not kept:
    return max(paces)
  return max(pace for pace, score in kept.items() if score >= max(kept.values()) - GIVEN)


def pace_on_validation(
    runner: Runner,
    policy: decoding.Policy,
    params: Params,
    form: str,
    *,
    config: ml_collections.ConfigDict,
) -> float:
  """Returns the pace under which a policy keeps a form of budget on the validation split.

  Args:
    runner: decodes it.
    policy: who asks.
    params: the student's parameters.
    form: what the budget promises, one of decoding.FORMS.
    config: the run's config: `decode.paces`, the trained budgets and the metric.
  """
  if form not in PACED_FORMS:
    return 0.0
  budget = min(PACED_BY, max(config.budgets.train))
  count = "teacher_calls" if policy.drafts else "asks"
  key = metrics.primary_score(config.evaluation.metric)

  def try_pace(pace: float) -> tuple[float, float]:
    outputs = runner.run("validation", policy, params, budget=budget, form=form, pace=pace)
    return outputs.per_token(count), runner.scores("validation", outputs)[key]

  return choose_pace(config.decode.paces, budget, try_pace)
