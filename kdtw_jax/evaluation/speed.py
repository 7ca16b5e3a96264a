"""Speed of the pair: a few settings timed one sentence at a time and in batches.

Not here: the timing itself (latency.py).
"""

from collections.abc import Collection, Iterable

from kdtw_jax import data, decoding
from kdtw_jax.evaluation.latency import tokens_per_second
from kdtw_jax.evaluation.measure import PAIR_STAGE, Measure
from kdtw_jax.evaluation.methods import METHODS, Setting
from kdtw_jax.evaluation.record import EXACT_METHOD, HEADLINE_CALLS, Curve, Latency, Point


def latencies(measure: Measure, curves: Iterable[Curve]) -> tuple[Latency, ...]:
  """Times both models alone, the handover, and some settings of other methods, on test.

  Of exact speculation, its fastest setting, and of each other method of `evaluation.ours` the one
  that is nearest to HEADLINE_CALLS.

  Args:
    measure: measures the run.
    curves: the methods' points on test.
  """
  rows = [
      _latency(
          measure,
          who,
          policy,
          stage,
          quality=measure.runner.scores("test", measure.alone(stage or who))[measure.key],
      )
      for who, policy, stage in (
          ("teacher", decoding.TeacherAlone(), None),
          ("student", decoding.StudentAlone(), PAIR_STAGE),
      )
  ]
  for budget in measure.config.evaluation.compare_at:
    setting = Setting("handover", 0.0, PAIR_STAGE, budget)
    rows.append(
        _latency(
            measure,
            setting.method,
            setting.policy(),
            setting.stage,
            quality=measure.runner.scores("test", measure.outputs("test", setting))[measure.key],
            setting=f"{budget:.0%}",
            budget=budget,
        )
    )
  for curve in curves:
    point = _timed_point(curve, ours=measure.config.evaluation.ours)
    if point is not None:
      rows.append(
          _latency(
              measure,
              curve.method,
              METHODS[curve.method].make(point.dial),
              curve.student,
              quality=point.scores[measure.key],
              setting=point.label,
          )
      )
  return tuple(rows)


def _timed_point(curve: Curve, *, ours: Collection[str]) -> Point | None:
  """Returns the setting of a method that `latencies` times, None if there is none."""
  if curve.method == EXACT_METHOD:
    timed = [(p.seconds_per_sentence.mean, p) for p in curve.points if p.seconds_per_sentence]
    return min(timed, key=lambda pair: pair[0])[1]
  if curve.method in METHODS and curve.family in ours:  # not a paced threshold, nor a handover
    return min(curve.points, key=lambda p: abs(p.teacher_calls - HEADLINE_CALLS))
  return None


def throughput_batch(measure: Measure) -> int:
  """Returns the size of the timed batch: as configured, or the whole of a smaller test set."""
  return min(measure.config.evaluation.throughput_batch, len(measure.runner.examples["test"]))


def _latency(
    measure: Measure,
    method: str,
    policy: decoding.Policy,
    stage: str | None,
    *,
    quality: float,
    setting: str = "",
    budget: float = 0.0,
) -> Latency:
  batch = next(
      measure.runner.batches(
          "test",
          budget=budget,
          wording=data.TRAIN_WORDINGS[0],
          batch_size=throughput_batch(measure),
      )
  )
  batch = measure.runner.placed(batch)
  params = measure.students[stage] if stage else None
  throughput = tokens_per_second(lambda batch: measure.runner.decode(policy, params, batch), batch)
  return Latency(
      method=method,
      setting=setting,
      quality=quality,
      seconds_per_sentence=measure.seconds(policy, stage, budget=budget),
      tokens_per_second=throughput,
  )
