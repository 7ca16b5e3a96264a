"""Measures a trained pair: every method's dial swept on validation and on test, and compared.

Baselines ask with whichever of the run's students serves them better on validation, so that none
is held back by how the handover's student was trained.
"""

import dataclasses
import datetime
import functools
import itertools
import platform
import shlex
import sys

import jax
import ml_collections
import numpy as np

from kdtw_jax import config as config_lib
from kdtw_jax import data, decoding
from kdtw_jax.base import Params
from kdtw_jax.evaluation import latency, methods, metrics
from kdtw_jax.evaluation.area import AREA_UP_TO, area_between, hypervolume
from kdtw_jax.evaluation.bootstrap import score_intervals
from kdtw_jax.evaluation.comparing import comparisons
from kdtw_jax.evaluation.difficulty import difficulty_map
from kdtw_jax.evaluation.methods import METHODS, Setting, Sweep
from kdtw_jax.evaluation.outputs import Outputs, Runner, written
from kdtw_jax.evaluation.samples import sample_rows
from kdtw_jax.evaluation.tradeoff import Curve, Point, bisect_dial, score_at_share
from kdtw_jax.models import Model
from kdtw_jax.terminal import print_line


class Evaluator:
  """Holds what every measurement of a run needs, and keeps each decoding for later ones."""

  def __init__(
      self,
      config: ml_collections.ConfigDict,
      models: tuple[Model, Model],
      mesh,
      tokenizer: data.AnyTokenizer,
      *,
      students: dict[str, Params],
      teacher_params: Params,
      sources: dict[str, data.Source],
      tokenised: dict[str, data.TokenisedSplit],
  ):
    """Args: the run's parts; `students` by the stage that made them, `wheels` among them."""
    self.config, self.models, self.mesh, self.students = config, models, mesh, students
    self.tokenizer = tokenizer
    self.runner = Runner(
        config, models, mesh, tokenizer, teacher_params, sources=sources, tokenised=tokenised
    )
    self.key = metrics.primary_score(config.evaluation.metric)

  # Single systems ---------------------------------------------------------------------------------

  def references(self) -> dict[str, dict]:
    """Test scores of the teacher and of every student alone, with their 95% `intervals`."""
    names = {
        "teacher": "teacher",
        "sft": "sft_student",
        "warm_start": "kl_student",
        "distillation": "pcl_student",
        "wheels": "student",
    }
    found = {}
    for who in ("teacher", *self.students):
      outputs = self.alone(who)
      found[names[who]] = {
          **self.runner.scores("test", outputs),
          "intervals": score_intervals(
              outputs.texts,
              self.runner.references["test"],
              seed=self.config.seed,
              metric=self.config.evaluation.metric,
              num_resamples=self.config.evaluation.num_resamples,
          ),
      }
    return found

  @functools.cache  # noqa: B019  one evaluator per run
  def alone(self, who: str, split: str = "test") -> Outputs:
    """The teacher, or the student of a stage, without the other."""
    if who == "teacher":
      return self.runner.run(split, decoding.TeacherAlone(), None)
    return self.runner.run(
        split,
        decoding.StudentAlone(),
        self.students[who],
        wording=None if who == "sft" else data.TRAIN_WORDINGS[0],
    )

  @functools.cached_property
  def step_ratio(self) -> float:
    """c: time per token of the student over that of the teacher, both alone at batch 1."""
    student, teacher = (
        self.seconds(policy, stage, split="validation")
        for policy, stage in ((decoding.StudentAlone(), "wheels"), (decoding.TeacherAlone(), None))
    )
    return (student["mean"] / student["tokens"]) / (teacher["mean"] / teacher["tokens"])

  # Curves -----------------------------------------------------------------------------------------

  @functools.cache  # noqa: B019
  def outputs(self, split: str, setting: Setting) -> Outputs:
    """What a setting writes."""
    return self.runner.run(
        split,
        setting.policy(),
        self.students[setting.stage],
        budget=setting.budget,
        wording=setting.wording,
        cap=setting.cap,
    )

  @functools.cache  # noqa: B019
  def curve(self, split: str, sweep: Sweep) -> Curve:
    """A method's points on a split; on test with their latency."""
    points = []
    for dial, label, setting in sweep.settings:
      point = dataclasses.replace(self.point(split, setting), dial=dial, label=label)
      if split == "test":
        seconds = self.seconds(setting.policy(), setting.stage, setting.budget, setting.cap)
        point = dataclasses.replace(point, seconds_per_sentence=seconds)
      points.append(point)
    return Curve(sweep.method, tuple(points), sweep.title, sweep.dial_name)

  def point(self, split: str, setting: Setting) -> Point:
    """A setting's scores, shares and counts, and its sequential cost per token.

    Cost in teacher passes: c · student steps + teacher passes.
    """
    found = self.runner.point(split, self.outputs(split, setting), dial=setting.dial, label="")
    return dataclasses.replace(
        found, cost=self.step_ratio * found.student_steps + found.teacher_passes
    )

  def seconds(
      self,
      policy: decoding.Policy,
      stage: str | None,
      budget: float = 0.0,
      cap: str = "none",
      split: str = "test",
  ) -> dict[str, float]:
    """Seconds per sentence at batch 1, over the first sentences of a split."""
    batches = self.runner.batches(
        split, budget=budget, wording=data.TRAIN_WORDINGS[0], batch_size=1
    )
    return latency.seconds_per_sentence(
        lambda batch: self.runner.decode(policy, self.students.get(stage), batch, cap=cap),
        list(itertools.islice(batches, self.config.evaluation.num_latency)),
    )

  def sweeps(self, names: tuple[str, ...] = ()) -> list[Sweep]:
    """The methods that the config names, each with the student that serves it best.

    Chosen on validation among `evaluation.baseline_students`; methods of one family share the
    choice of their first.
    """
    found: dict[str, Sweep] = {}
    section = self.config.evaluation
    for name in names or (METHODS if "all" in section.methods else section.methods):
      dials = tuple(map(float, section.dials.get(name, METHODS[name].dials)))
      of_family = found.get(METHODS[name].student)
      stages = (
          [of_family.settings[0][2].stage]
          if of_family
          else [s for s in self.config.evaluation.baseline_students if s in self.students]
      )
      candidates = [methods.method_sweep(name, dials, stage) for stage in stages]
      found[name] = candidates[0]
      if len(candidates) > 1:
        found[name] = max(candidates, key=lambda s: self._merit(self.curve("validation", s)))
    return list(found.values())

  def _merit(self, curve: Curve) -> float:
    """How well a student serves a baseline: few teacher passes, or a high mean score."""
    if curve.method == "speculative":
      return -min(point.teacher_passes for point in curve.points)
    return float(
        np.mean(
            [
                score_at_share(curve, self.key, share).score
                for share in np.linspace(0.05, AREA_UP_TO, 10)
            ]
        )
    )

  def handovers(self) -> list[Sweep]:
    """The learned gate, in all its ways."""
    budgets = sorted({*self.config.budgets.seen, *self.config.budgets.held_out})
    sweeps = methods.handover_sweeps(
        tuple(budgets), tuple(map(float, self.config.evaluation.tolerances))
    )
    shares = self.config.evaluation.offset_shares
    if shares:
      budget = budgets[len(budgets) // 2]
      offsets = {
          share: bisect_dial(functools.partial(self._offset_share, budget), share)
          for share in shares
      }
      sweeps.append(methods.offset_sweep(budget, offsets))
    return sweeps

  def _offset_share(self, budget: float, offset: float) -> float:
    """Share of the teacher's tokens on validation with an offset added to the gate."""
    outputs = self.outputs("validation", Setting("handover", offset, "wheels", budget))
    return written(outputs).sum() / outputs.counts["length"].sum()

  # Budgets ----------------------------------------------------------------------------------------

  def budgets(self, duals: tuple[float, ...]) -> list[dict]:
    """Stated and realised use on test; held-out budgets in wordings that training never used."""
    rows = []
    for budgets, seen in ((self.config.budgets.seen, True), (self.config.budgets.held_out, False)):
      for i, budget in enumerate(budgets):
        for known in ((True, False) if seen else (False,)):
          wordings = data.TRAIN_WORDINGS if known else data.HELD_OUT_WORDINGS
          wording = wordings[i % len(wordings)]
          rows.append(self._budget_row(budget, wording, duals, seen=seen, known=known))
    return rows

  def _budget_row(
      self, budget: float, wording: data.Wording, duals, *, seen: bool, known: bool
  ) -> dict:
    outputs = self.outputs("test", Setting("handover", 0.0, "wheels", budget, wording=wording))
    tokens = int(outputs.counts["length"].sum())
    dual = float(np.interp(budget, self.config.budgets.knots, duals))
    return {
        "budget": budget,
        "seen": seen,
        "template": wording.template(self.config.data.task),
        "template_seen": known,
        "asked": outputs.counts["asks"].sum() / tokens,
        "realised": written(outputs).sum() / tokens,
        "violations": metrics.violation_rate(written(outputs), outputs.counts["length"], budget),
        "dual": dual,
        "predicted": self.runner.predicted_share(
            "test",
            self.students["wheels"],
            budget=budget,
            wording=wording,
            price=dual,
            tokens=tokens,
        ),
    }

  # Speed ------------------------------------------------------------------------------------------

  def latencies(self, curves: dict[str, Curve], stages: dict[str, str]) -> list[dict]:
    """Seconds per sentence at batch 1 and tokens per second of a batch, on test sources.

    Args:
      curves: on test, by method.
      stages: whose student each method uses.
    """
    rows = [
        self._latency(
            who,
            None,
            policy,
            stage,
            0.0,
            self.runner.scores("test", self.alone(stage or who))[self.key],
        )
        for who, policy, stage in (
            ("teacher", decoding.TeacherAlone(), None),
            ("student", decoding.StudentAlone(), "wheels"),
        )
    ]
    for share in self.config.evaluation.compare_at:
      setting = Setting("handover", 0.0, "wheels", share)
      scores = self.runner.scores("test", self.outputs("test", setting))
      rows.append(
          self._latency("handover", share, setting.policy(), "wheels", share, scores[self.key])
      )
    if "speculative" in curves:
      best = min(curves["speculative"].points, key=lambda p: p.seconds_per_sentence["mean"])
      rows.append(
          self._latency(
              "speculative",
              best.dial,
              METHODS["speculative"].make(best.dial),
              stages["speculative"],
              0.0,
              best.scores[self.key],
          )
      )
    return rows

  def _latency(
      self,
      method: str,
      dial: float | None,
      policy,
      stage: str | None,
      budget: float,
      quality: float,
  ) -> dict:
    wide = next(
        self.runner.batches(
            "test",
            budget=budget,
            wording=data.TRAIN_WORDINGS[0],
            batch_size=self.config.evaluation.throughput_batch,
        )
    )
    throughput = latency.tokens_per_second(
        lambda batch: self.runner.decode(policy, self.students.get(stage), batch, eager=True), wide
    )
    return {
        "method": method,
        "dial": dial,
        "quality": quality,
        **self.seconds(policy, stage, budget),
        "tokens_per_second_b32": throughput,
    }


def evaluate(
    config: ml_collections.ConfigDict,
    models: tuple[Model, Model],
    mesh,
    tokenizer: data.AnyTokenizer,
    *,
    students: dict[str, Params],
    teacher_params: Params,
    duals: tuple[float, ...],
    sources: dict[str, data.Source],
    tokenised: dict[str, data.TokenisedSplit],
) -> dict:
  """Measures everything that the report shows.

  Args:
    config: of the run.
    models: (student, teacher).
    mesh: devices.
    tokenizer: of both.
    students: parameters by the stage that made them; `wheels` is the pair's student.
    teacher_params: the teacher's parameters.
    duals: `[K]` λ at the knots.
    sources: train, validation and test examples.
    tokenised: validation and test as token ids.

  Returns:
    The metrics that `kdtw_jax.report` writes and shows.
  """
  e = Evaluator(
      config,
      models,
      mesh,
      tokenizer,
      students=students,
      teacher_params=teacher_params,
      sources=sources,
      tokenised=tokenised,
  )
  references = e.references()
  print_line("evaluation", "teacher and students alone")
  baselines = e.sweeps()
  sweeps = [*e.handovers(), *baselines]
  curves = {"validation": {}, "test": {}}
  for sweep in sweeps:
    for split, found in curves.items():
      found[sweep.method] = e.curve(split, sweep)
    print_line("evaluation", f"{sweep.title}, student of stage {sweep.settings[0][2].stage}")
  compared = comparisons(e, sweeps)
  print_line("evaluation", "comparisons")
  stages = {sweep.method: sweep.settings[0][2].stage for sweep in baselines}
  ends = {"student": references["student"][e.key], "teacher": references["teacher"][e.key]}
  middle = config.evaluation.compare_at[len(config.evaluation.compare_at) // 2]
  handover = e.outputs("test", Setting("handover", 0.0, "wheels", middle))
  return {
      "name": config.name,
      "metric": e.key,
      "seed": config.seed,
      "signature": metrics.signature(e.runner.references["test"], metric=config.evaluation.metric),
      "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
      "command": shlex.join(["python", *sys.orig_argv[1:]]),
      "config": config_lib.to_json(config),
      "hardware": f"{jax.device_count()} x {jax.devices()[0].device_kind}, {platform.machine()}",
      "reference": references,
      "methods": [curve.to_json() for curve in curves["test"].values()],
      "validation_methods": [curve.to_json() for curve in curves["validation"].values()],
      "baseline_students": stages,
      "step_ratio": e.step_ratio,
      "areas": {
          name: area_between(curve, e.key, **ends, up_to=AREA_UP_TO)
          for name, curve in curves["test"].items()
      },
      "hypervolumes": {
          name: hypervolume(curve, e.key, **ends, cheapest=e.step_ratio)
          for name, curve in curves["test"].items()
      },
      "budgets": e.budgets(duals),
      "comparisons": compared,
      "latency": e.latencies(curves["test"], stages),
      "samples": sample_rows(
          e.runner.examples["test"][: config.evaluation.num_samples],
          handover,
          {"student": e.alone("wheels"), "teacher": e.alone("teacher")},
          tokenizer,
          budget=middle,
      ),
      "difficulty": difficulty_map(
          handover, e.runner.examples["test"], tokenizer, sources["train"]
      ),
  }
