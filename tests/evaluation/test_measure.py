"""A measured point is finished: counts, scores, cost and seconds of one setting, in one place."""

import copy

import pytest

from kdtw_jax import devices
from kdtw_jax.evaluation import speed, sweeps
from kdtw_jax.evaluation.comparing_hulls import Price, candidates
from kdtw_jax.evaluation.kept import Kept
from kdtw_jax.evaluation.measure import Measure
from kdtw_jax.evaluation.methods import handover_sweeps, method_sweep
from tests.evaluation.test_outputs import SENTENCES, parts, settings_of

__all__ = ["parts"]


def measure_of(parts, **fields):
  models, tokenizer, params, source = parts
  config, kept = settings_of(parts, batch_size=4)
  config.evaluation.update(num_latency=1, throughput_batch=32, metric="chrf", compare_at=(0.2,))
  config.evaluation.methods = ("random", "speculative")
  config.evaluation.dials.update(random=(0.1, 0.9), speculative=(2.0,))
  config.evaluation.baseline_students = ("distillation", "wheels")
  return Measure(
      config,
      models,
      devices.make_mesh(1, 1, 1),
      tokenizer,
      students={"distillation": params[0], "wheels": params[0]},
      teacher_params=params[1],
      sources={"validation": source, "test": source},
      tokenised={"validation": kept, "test": kept},
      paces={"hard": 3.0},
      **fields,
  )


@pytest.fixture(scope="module")
def measure(parts):
  return measure_of(parts, kept=Kept(None))


def test_a_point_is_what_its_outputs_say(measure):
  sweep = method_sweep("random", (0.1, 0.9), "wheels")
  curve = measure.curve("test", sweep)
  assert (curve.method, curve.family, curve.student) == ("random", sweep.family, "wheels")
  for point, (dial, label, setting) in zip(curve.points, sweep.settings, strict=True):
    outputs = measure.outputs("test", setting)
    assert (point.dial, point.label) == (dial, label)
    assert point.scores == measure.runner.scores("test", outputs)
    assert point.teacher_share == outputs.written.sum() / outputs.num_tokens
    assert point.cost == pytest.approx(
        measure.step_ratio * point.student_steps + point.teacher_passes
    )
    assert point.seconds_per_sentence.mean > 0 and point.seconds_per_sentence.tokens > 0
  assert curve.points[0].teacher_share < curve.points[1].teacher_share


def test_the_dial_of_a_handover_is_its_budget_and_validation_is_not_timed(measure):
  sweep = handover_sweeps((0.2,), ())[0]
  (point,) = measure.curve("validation", sweep).points
  assert (point.dial, point.label) == (0.2, "20%") and point.seconds_per_sentence is None
  assert measure.curve("validation", sweep).is_handover


def test_methods_that_need_no_time_are_not_timed(measure):
  measure.config.evaluation.time_every_method = False
  always, other = handover_sweeps((0.3,), ())[0], method_sweep("random", (0.2,), "wheels")
  assert measure.curve("test", always).points[0].seconds_per_sentence is not None
  assert measure.curve("test", other).points[0].seconds_per_sentence is None
  measure.config.evaluation.time_every_method = True


def test_each_setting_is_decoded_once(measure):
  setting = method_sweep("random", (0.9,), "wheels").settings[0][2]
  assert measure.outputs("test", setting) is measure.outputs("test", setting)


def test_a_batch_is_no_larger_than_the_test_set(measure):
  assert speed.throughput_batch(measure) == len(SENTENCES)
  found = [measure.curve("test", sweep) for sweep in sweeps.baselines(measure)]
  timed = copy.copy(measure)
  timed.config = copy.deepcopy(measure.config)
  timed.config.evaluation.ours = ("schedules",)
  rows = speed.latencies(timed, found)
  measured = [(row.method, row.setting) for row in rows]
  assert measured[:2] == [("teacher", ""), ("student", "")]
  assert measured[2] == ("handover", "20%") and measured[-1] == ("speculative", "2")
  random = min(found[0].points, key=lambda point: abs(point.teacher_calls - 0.1))
  assert measured[3] == ("random", random.label) and len(measured) == 5
  assert all(row.tokens_per_second > 0 for row in rows)


def test_as_many_points_are_measured_as_were_counted(measure):
  measured = []
  counted = copy.copy(measure)
  counted._on_point = lambda: measured.append(1)
  counted.config = copy.deepcopy(measure.config)
  counted.config.evaluation.update(tolerances=(2.0,), time_every_method=False)
  counted.config.evaluation.methods = ("random", "max_prob", "speculative", "lenient")
  with counted.config.unlocked():
    counted.config.evaluation.dials.update(max_prob=(0.5,), lenient=(1.0,))
  swept = [*sweeps.handovers(counted), *sweeps.baselines(counted)]
  for sweep in swept:
    for split in ("validation", "test"):
      counted.curve(split, sweep)
  assert [sweep.method for sweep in swept][-1] == "max_prob_paced"
  assert len(measured) == sweeps.num_points(counted)
  paced = counted.curve("test", swept[-1])
  assert speed._timed_point(paced, ours=("thresholds",)) is None  # no policy makes its setting


def test_baselines_are_the_methods_of_the_config(measure):
  found = sweeps.baselines(measure)
  assert [sweep.method for sweep in found] == ["random", "speculative"]


def test_what_may_carry_a_hull_is_every_setting_but_those_of_upper_bounds(measure):
  swept = [method_sweep("random", (0.1, 0.9), "wheels"), method_sweep("oracle", (0.5,), "wheels")]
  teacher, student, *settings = candidates(measure, swept)
  calls, cost = Price("calls"), Price("cost", 0.25)
  assert (teacher.method, teacher.student, calls.of(teacher.test)) == ("teacher", "", 1.0)
  assert (student.method, student.student, calls.of(student.test)) == ("student", "wheels", 0.0)
  assert cost.of(teacher.test) == 1.0 and cost.of(student.test) == 0.25
  assert teacher.family == student.family == ""
  points = measure.curve("test", swept[0]).points
  assert [(found.method, found.dial, found.family) for found in settings] == [
      ("random", 0.1, "schedules"),
      ("random", 0.9, "schedules"),
  ]
  for found, point in zip(settings, points, strict=True):
    assert found.scores == measure.runner.scores("validation", found.validation)
    assert calls.of(found.test) == point.teacher_calls
    assert Price("share").of(found.test) == point.teacher_share
    assert cost.of(found.test) == pytest.approx(0.25 * point.student_steps + point.teacher_passes)
