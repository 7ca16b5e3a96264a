"""An evaluation as curves: each method a run, its scores over teacher calls per 1000 tokens."""

import dataclasses

from kdtw_jax.evaluation.scalars import curves_by_run
from tests.report.conftest import full_metrics

__all__ = ["full_metrics"]


def test_each_method_is_a_run_and_the_models_alone_are_the_ends(full_metrics):
  found = curves_by_run(full_metrics)
  assert set(found) == {
      *("teacher_alone", "student_alone", "sft_student_alone"),
      *("handover", "max_prob", "oracle", "speculative"),
  }
  assert found["teacher_alone"]["evaluation/test/bleu"] == [(1000, 40.0)]
  assert found["student_alone"]["evaluation/test/chrf"] == [(0, 50.0)]
  test, validation = (
      full_metrics.curves[split][i] for split, i in (("test", 1), ("validation", 0))
  )
  for split, curve in (("test", test), ("validation", validation)):
    assert found["max_prob"][f"evaluation/{split}/bleu"] == [
        (round(1000 * point.teacher_calls), point.scores["bleu"]) for point in curve.points
    ]
  assert found["max_prob"]["evaluation/test/bleu"][1] == (200, 34.0)


def test_steps_ascend_whatever_the_dial_does(full_metrics):
  curve = full_metrics.curves["test"][0]
  backwards = dataclasses.replace(curve, points=curve.points[::-1])
  metrics = dataclasses.replace(full_metrics, curves={"test": (backwards,)})
  steps = [step for step, _ in curves_by_run(metrics)["handover"]["evaluation/test/bleu"]]
  assert steps == sorted(steps) and len({*steps}) == 4
