"""Stated budgets against the measured use of the teacher on the test set."""

from collections.abc import Sequence

import numpy as np

from kdtw_jax import data, losses
from kdtw_jax.evaluation.measure import PAIR_STAGE, Measure
from kdtw_jax.evaluation.methods import Setting
from kdtw_jax.evaluation.metrics import violation_rate
from kdtw_jax.evaluation.record import BudgetUse


def budget_uses(measure: Measure, duals: Sequence[float]) -> tuple[BudgetUse, ...]:
  """Measures training's budgets in its wordings and in new ones, and held-out budgets in new ones.

  Args:
    measure: measures the run.
    duals: λ at the K knots, nats per ask.
  """
  budgets, rows = measure.config.budgets, []
  for group, seen in ((budgets.seen, True), (budgets.held_out, False)):
    found = losses.interpolate_duals(
        np.asarray(duals), np.asarray(budgets.knots), np.asarray(group)
    )
    for i, (budget, dual) in enumerate(zip(group, found.tolist(), strict=True)):
      for template_seen in ((True, False) if seen else (False,)):
        wordings = data.TRAIN_WORDINGS if template_seen else data.HELD_OUT_WORDINGS
        wording = wordings[i % len(wordings)]
        setting = Setting("handover", 0.0, PAIR_STAGE, budget, wording=wording)
        outputs = measure.outputs("test", setting)
        rows.append(
            BudgetUse(
                budget=float(budget),
                seen=seen,
                template=wording.template(measure.config.data.task),
                template_seen=template_seen,
                asked=outputs.per_token("asks"),
                realised=outputs.teacher_share,
                violations=violation_rate(outputs.written, outputs.counts["length"], budget),
                dual=dual,
                predicted=measure.runner.predicted_share(
                    "test",
                    measure.students[PAIR_STAGE],
                    budget=budget,
                    wording=wording,
                    price=dual,
                    num_tokens=outputs.num_tokens,
                ),
            )
        )
  return tuple(rows)
