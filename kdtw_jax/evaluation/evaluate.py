"""The evaluation of a trained pair: every method swept on validation and test, and compared."""

from collections.abc import Mapping, Sequence
import datetime
import platform
import shlex
import sys

import jax
import ml_collections

from kdtw_jax import config as config_lib
from kdtw_jax import data
from kdtw_jax.base import Params
from kdtw_jax.evaluation import metrics, speed, sweeps
from kdtw_jax.evaluation.area import AREA_UP_TO, area_between, hypervolume
from kdtw_jax.evaluation.budget_use import budget_uses
from kdtw_jax.evaluation.comparing_hulls import candidates, hull_comparisons, prices
from kdtw_jax.evaluation.difficulty import difficulty_map
from kdtw_jax.evaluation.kept import Kept
from kdtw_jax.evaluation.measure import PAIR_STAGE, Measure
from kdtw_jax.evaluation.methods import Setting
from kdtw_jax.evaluation.record import Metrics, TestSet
from kdtw_jax.evaluation.samples import samples
from kdtw_jax.models import Model
from kdtw_jax.terminal import Bar

# The names in `Metrics.alone` of the teacher and of each stage's student.
_ALONE = {
    "teacher": "teacher",
    "sft": "sft_student",
    "warm_start": "kl_student",
    "distillation": "pcl_student",
    PAIR_STAGE: "student",
}


def evaluate(
    config: ml_collections.ConfigDict,
    models: tuple[Model, Model],
    mesh: jax.sharding.Mesh,
    tokenizer: data.AnyTokenizer,
    *,
    students: Mapping[str, Params],
    teacher_params: Params,
    duals: Sequence[float],
    sources: Mapping[str, data.Source],
    tokenised: Mapping[str, data.TokenisedSplit],
    paces: Mapping[str, float],
    kept: Kept,
    bar: Bar,
) -> Metrics:
  """Measures everything that the report shows.

  Args:
    config: the run's config.
    models: (student, teacher).
    mesh: the devices.
    tokenizer: the tokenizer of both models.
    students: parameters by the stage that made them; `wheels` is the pair's student.
    teacher_params: the teacher's parameters.
    duals: λ at the K knots, nats per ask.
    sources: train, validation and test examples.
    tokenised: validation and test as token ids.
    paces: the gate's κ by form of budget.
    kept: what an evaluation that was ended has measured already.
    bar: shows how many points are measured.

  Returns:
    The record that `kdtw_jax.report` writes and shows, with empty `stages`.
  """
  measure = Measure(
      config,
      models,
      mesh,
      tokenizer,
      students=students,
      teacher_params=teacher_params,
      sources=sources,
      tokenised=tokenised,
      paces=paces,
      kept=kept,
      on_point=bar.advance,
  )
  bar.expect(sweeps.num_points(measure))
  bar.say("teacher and students alone")
  alone = {_ALONE[who]: measure.alone_scores(who) for who in ("teacher", *students)}
  bar.say("which student serves which method best")
  baselines = sweeps.baselines(measure)
  swept = [*sweeps.handovers(measure), *baselines]
  curves = {"validation": [], "test": []}
  for sweep in swept:
    for split, found in curves.items():
      found.append(measure.curve(split, sweep))
    bar.say(f"{sweep.title}, student of stage {curves['test'][-1].student}")
  bar.say("comparisons")
  hulls = hull_comparisons(
      candidates(measure, swept),
      families=config.evaluation.ours,
      priced=prices(config.evaluation.step_ratios, measure.step_ratio),
      scores=metrics.compared_scores(config.evaluation.metric),
      at=config.evaluation.equal_calls,
      references=measure.runner.references["test"],
      num_resamples=config.evaluation.num_resamples,
      seed=config.seed,
  )
  bar.say("use of budgets, speed and samples")
  ends = {who: alone[who].scores[measure.key] for who in ("student", "teacher")}
  middle = config.evaluation.compare_at[len(config.evaluation.compare_at) // 2]
  handover = measure.outputs("test", Setting("handover", 0.0, PAIR_STAGE, middle))
  examples = measure.runner.examples["test"]
  return Metrics(
      name=config.name,
      metric=measure.key,
      seed=config.seed,
      signature=metrics.signature(
          measure.runner.references["test"], metric=config.evaluation.metric
      ),
      test=TestSet.of(measure.runner.references["test"]),
      created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
      command=shlex.join(["python", *sys.orig_argv[1:]]),
      hardware=f"{jax.device_count()} x {jax.devices()[0].device_kind}, {platform.machine()}",
      config=config_lib.to_json(config),
      alone=alone,
      curves={split: tuple(found) for split, found in curves.items()},
      step_ratio=measure.step_ratio,
      areas={
          curve.method: area_between(curve, measure.key, **ends, up_to=AREA_UP_TO)
          for curve in curves["test"]
      },
      hypervolumes={
          curve.method: hypervolume(curve, measure.key, **ends, cheapest=measure.step_ratio)
          for curve in curves["test"]
      },
      budgets=budget_uses(measure, duals),
      hulls=hulls,
      throughput_batch=speed.throughput_batch(measure),
      latency=speed.latencies(measure, curves["test"]),
      samples=samples(
          examples[: config.evaluation.num_samples],
          {setting.budget: measure.outputs("test", setting) for _, _, setting in swept[0].settings},
          student=measure.alone(PAIR_STAGE),
          teacher=measure.alone("teacher"),
          tokenizer=tokenizer,
      ),
      difficulty=difficulty_map(handover, examples, tokenizer, sources["train"]),
  )
