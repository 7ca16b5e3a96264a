"""Comparisons of the handover with every other method at equal share or cost, by paired bootstrap.

A method's dial is set on validation, where the method decodes by itself, to match the handover. The
match is in the share of tokens that the teacher wrote (for methods that ask token by token) and in
sequential cost (for all methods). The result states both methods' actual share and cost on the
split that is scored.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, Protocol, runtime_checkable

from kdtw_jax.evaluation.bootstrap import paired_bootstrap
from kdtw_jax.evaluation.methods import Setting, Sweep
from kdtw_jax.evaluation.outputs import Outputs
from kdtw_jax.evaluation.record import Comparison, Curve, Point
from kdtw_jax.evaluation.tradeoff import dial_for_share

Equal = Literal["share", "cost"]

_CLOSE = 0.03  # relative distance from the target at which a dial is not refined
_REACHED = 0.1  # relative distance at which a method has reached the target


@runtime_checkable
class Measured(Protocol):
  """The part of `measure.Measure` that comparisons need."""

  def outputs(self, split: str, setting: Setting) -> Outputs:
    """Returns the outputs of a setting."""
    ...

  def point(self, split: str, setting: Setting) -> Point:
    """Returns the scores and costs of a setting."""
    ...

  def curve(self, split: str, sweep: Sweep) -> Curve:
    """Returns the points of a method."""
    ...


def comparisons(
    measured: Measured,
    sweeps: Iterable[Sweep],
    *,
    budgets: Sequence[float],
    references: Sequence[Sequence[str]],
    vocab_size: int,
    metric: str,
    seed: int,
    num_resamples: int,
    split: str = "test",
) -> tuple[Comparison, ...]:
  """Compares the handover with each sweep at each budget.

  Args:
    measured: the settings' outputs and points.
    sweeps: the other methods; the handover itself and upper bounds are skipped.
    budgets: budgets stated to the handover, 0..1.
    references: references of the split's sentences.
    vocab_size: V, which decides where some dials never ask.
    metric: see `paired_bootstrap`.
    seed: seed of the resampling.
    num_resamples: number of resamples.
    split: the split that is scored.

  Returns:
    The comparisons, budget by budget.
  """
  rows = []
  for budget in budgets:
    setting = Setting("handover", 0.0, "wheels", budget)
    target, ours = measured.point("validation", setting), measured.point(split, setting)
    for sweep in sweeps:
      if sweep.method == setting.method or sweep.bound:
        continue
      for equal in ("share", "cost") if sweep.by_token else ("cost",):
        wanted = _value(target, equal)
        dial = matched_dial(measured, sweep, equal, wanted, vocab_size=vocab_size)
        other = sweep.at(dial)
        got = _value(measured.point("validation", other), equal)
        theirs = measured.point(split, other)
        found = paired_bootstrap(
            measured.outputs(split, setting).texts,
            measured.outputs(split, other).texts,
            references,
            metric=metric,
            seed=seed,
            num_resamples=num_resamples,
        )
        rows.append(
            Comparison(
                baseline=sweep.method,
                title=sweep.title,
                is_handover=sweep.is_handover,
                budget=float(budget),
                equal=equal,
                reached=abs(got - wanted) <= _REACHED * wanted,
                dial=dial,
                student=other.stage,
                handover=found.score,
                baseline_score=found.baseline_score,
                delta=found.delta,
                interval=found.interval,
                handover_share=ours.teacher_share,
                baseline_share=theirs.teacher_share,
                handover_cost=ours.cost,
                baseline_cost=theirs.cost,
            )
        )
  return tuple(rows)


def matched_dial(
    measured: Measured, sweep: Sweep, equal: Equal, target: float, *, vocab_size: int
) -> float:
  """Finds the dial at which a method has a given share or cost on validation.

  The dial is interpolated and then measured; a method with few settings uses its nearest one. Since
  the dial at which a rule never asks is known, shares below the sweep's range can be matched too.

  Args:
    measured: the settings' points.
    sweep: the method.
    equal: whether the share or the cost is matched.
    target: the wanted share or cost.
    vocab_size: V.
  """
  curve = measured.curve("validation", sweep)
  dials = [point.dial for point in curve.points]
  values = [_value(point, equal) for point in curve.points]
  never = sweep.never(vocab_size) if callable(sweep.never) else sweep.never
  if never is not None and equal == "share":
    dials.append(never)
    values.append(0.0)
  nearest = min(abs(value - target) for value in values)
  if sweep.continuous and len(dials) > 1 and nearest > _CLOSE * target:
    estimate = dial_for_share(dials, values, target)
    if not estimate.clamped and estimate.dial not in dials:
      dials.append(estimate.dial)
      values.append(_value(measured.point("validation", sweep.at(estimate.dial)), equal))
  return min(zip(dials, values, strict=True), key=lambda pair: abs(pair[1] - target))[0]


def _value(point: Point, equal: Equal) -> float:
  return point.teacher_share if equal == "share" else point.cost
