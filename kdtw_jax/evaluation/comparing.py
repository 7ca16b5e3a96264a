"""The handover against every other method where both cost the same: paired bootstrap.

A method's dial is set on validation, on trajectories of its own, to what the handover has there:
the share of tokens that the teacher wrote (for methods that ask token by token), and the sequential
cost (for all). What both really have on the split that is scored is stated.
"""

from typing import Any

from kdtw_jax.evaluation import bootstrap
from kdtw_jax.evaluation.methods import Setting, Sweep
from kdtw_jax.evaluation.tradeoff import Point, dial_for_share

_CLOSE = 0.03  # a dial this near to the target, relative, is not refined


def comparisons(e: Any, sweeps: list[Sweep], split: str = "test") -> list[dict]:
  """Compares the handover with each sweep at the budgets of `evaluation.compare_at`.

  Args:
    e: the Evaluator.
    sweeps: the other methods; the handover itself and upper bounds are passed over.
    split: which one is scored.

  Returns:
    Rows with both scores, their difference, its 95% interval and p-value, and for both systems the
    share and the cost; `equal` says which of the two was matched, `reached` whether the method has
    such a point on validation (to a tenth).
  """
  rows = []
  for share in e.config.evaluation.compare_at:
    setting = Setting("handover", 0.0, "wheels", share)
    target, system = e.point("validation", setting), e.point(split, setting)
    for sweep in sweeps:
      if sweep.method == "handover" or sweep.bound:
        continue
      for equal in ("share", "cost") if sweep.by_token else ("cost",):
        dial = matched_dial(e, sweep, equal, _value(target, equal))
        other = sweep.at(dial)
        on_validation, measured = e.point("validation", other), e.point(split, other)
        wanted, got = _value(target, equal), _value(on_validation, equal)
        found = bootstrap.paired_bootstrap(
            e.outputs(split, setting).texts,
            e.outputs(split, other).texts,
            e.runner.references[split],
            metric=e.config.evaluation.metric,
            seed=e.config.seed,
            num_resamples=e.config.evaluation.num_resamples,
        ).to_json()
        rows.append(
            {
                "baseline": sweep.method,
                "title": sweep.title,
                "share": share,
                "equal": equal,
                "reached": bool(abs(got - wanted) <= 0.1 * wanted),
                "dial": dial,
                "student": other.stage,
                "handover_share": system.teacher_share,
                "baseline_share": measured.teacher_share,
                "handover_cost": system.cost,
                "baseline_cost": measured.cost,
                "handover": found["score"],
                **{k: found[k] for k in ("baseline_score", "delta", "interval", "p_value")},
            }
        )
  return rows


def matched_dial(e: Any, sweep: Sweep, equal: str, target: float) -> float:
  """The dial at which a method has a share or cost on validation.

  Interpolated and measured; for a method of few settings the nearest one. The dial
  at which a rule never asks is known, so a share below the sweep's is found too.
  """
  curve = e.curve("validation", sweep)
  dials = [p.dial for p in curve.points]
  values = [_value(p, equal) for p in curve.points]
  never = sweep.never(e.tokenizer.vocab_size) if callable(sweep.never) else sweep.never
  if never is not None and equal == "share":
    dials.append(never)
    values.append(0.0)
  nearest = min(abs(value - target) for value in values)
  if sweep.continuous and len(dials) > 1 and nearest > _CLOSE * target:
    estimate = dial_for_share(dials, values, target)
    if not estimate.clamped and estimate.dial not in dials:
      dials.append(estimate.dial)
      values.append(_value(e.point("validation", sweep.at(estimate.dial)), equal))
  return min(zip(dials, values, strict=True), key=lambda pair: abs(pair[1] - target))[0]


def _value(measured: Point, equal: str) -> float:
  return measured.teacher_share if equal == "share" else measured.cost
