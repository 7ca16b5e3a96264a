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
from rich.console import Console

from kdtw_jax import config as config_lib
from kdtw_jax import data, decoding
from kdtw_jax.base import Params
from kdtw_jax.evaluation import bootstrap, latency, metrics
from kdtw_jax.evaluation.difficulty import difficulty_map
from kdtw_jax.evaluation.outputs import Outputs, Runner, written
from kdtw_jax.evaluation.samples import sample_rows
from kdtw_jax.evaluation.tradeoff import (
  AREA_UP_TO,
  Curve,
  Point,
  area_between,
  dial_for_share,
  score_at_share,
)
from kdtw_jax.models import Model

TITLES = {
    "handover": "Handover (learned gate)", "handover_capped": "Handover, hard cap",
    "handover_offset": "Handover, offset dial", "random": "Random asking",
    "max_prob": "Max-prob threshold", "entropy": "Entropy threshold", "margin": "Margin threshold",
    "oracle": "Oracle (teacher's gap)", "speculative": "Speculative decoding (exact)",
}
BASELINES = ("random", "max_prob", "entropy", "margin", "oracle", "speculative")
COMPARED = ("random", "max_prob", "entropy", "margin")
_DIALS = {"random": "random", "max_prob": "max_prob", "entropy": "entropy", "margin": "margin",
          "oracle": "oracle_gap", "speculative": "speculative"}


class Evaluator:
  """Holds what every measurement of a run needs, and keeps each decoding for later ones."""

  def __init__(self, config: ml_collections.ConfigDict, models: tuple[Model, Model], mesh,
               tokenizer: data.Tokenizer, *, students: dict[str, Params], teacher_params: Params,
               sources: dict[str, data.Source], tokenised: dict[str, data.TokenisedSplit]):
    """Args: the run's parts; `students` by the stage that made them, `wheels` among them."""
    self.config, self.models, self.mesh, self.students = config, models, mesh, students
    self.tokenizer = tokenizer
    self.runner = Runner(config, models, mesh, tokenizer, teacher_params, sources=sources,
                         tokenised=tokenised)
    self.key = metrics.primary_score(config.evaluation.metric)

  # Single systems ---------------------------------------------------------------------------------

  def references(self) -> dict[str, dict[str, float]]:
    """Test scores of the teacher and of every student alone."""
    names = {"teacher": "teacher", "sft": "sft_student", "warm_start": "kl_student",
             "distillation": "pcl_student", "wheels": "student"}
    return {names[who]: self.runner.scores("test", self.alone(who))
            for who in ("teacher", *self.students)}

  @functools.cache  # noqa: B019  one evaluator per run
  def alone(self, who: str) -> Outputs:
    """The teacher, or the student of a stage, on test without the other."""
    if who == "teacher":
      return self.runner.run("test", decoding.TeacherAlone(), None)
    return self.runner.run("test", decoding.StudentAlone(), self.students[who],
                           template=None if who == "sft" else data.TRAIN_TEMPLATES[0])

  # Curves -----------------------------------------------------------------------------------------

  @functools.cache  # noqa: B019
  def baseline(self, method: str, dial: float, split: str, stage: str) -> Outputs:
    """One setting of a baseline with the student of a stage."""
    return self.runner.run(split, decoding.make_policy(method, dial), self.students[stage])

  def validation_curves(
      self, methods: tuple[str, ...] = BASELINES) -> tuple[list[Curve], dict[str, str]]:
    """Sweeps baselines on validation: (curves, which stage's student serves each one best)."""
    curves, chosen = [], {}
    for method in methods:
      dials = self.config.evaluation[_DIALS[method]]
      if not dials:
        continue
      candidates = {
          stage: self._sweep(method, dials, "validation", stage)
          for stage in self.config.evaluation.baseline_students if stage in self.students}
      chosen[method] = max(candidates, key=lambda stage: self._merit(method, candidates[stage]))
      curves.append(candidates[chosen[method]])
    return curves, chosen

  def test_curves(self, chosen: dict[str, str]) -> list[Curve]:
    """Sweeps baselines on test, each with the student chosen for it."""
    curves = []
    for method, stage in chosen.items():
      dials = self.config.evaluation[_DIALS[method]]
      curves.append(self._sweep(method, dials, "test", stage))
      say(f"{TITLES[method]}, student of stage {stage}")
    return curves

  def _sweep(self, method: str, dials, split: str, stage: str) -> Curve:
    points = []
    for dial in dials:
      point = self.runner.point(split, self.baseline(method, dial, split, stage), dial=dial,
                                label=f"{dial:g}")
      points.append(self._timed(point, split, decoding.make_policy(method, dial),
                                self.students[stage]))
    return Curve(method, tuple(points), TITLES[method], decoding.POLICIES[method][0].dial_name)

  def _timed(self, point: Point, split: str, policy, params: Params, *, budget: float = 0.0,
             cap: str = "none") -> Point:
    """The point with its seconds per sentence at batch 1, where it is a point on test."""
    if split != "test":
      return point
    seconds = latency.seconds_per_sentence(
        lambda batch: self.runner.decode(policy, params, batch, cap=cap), self._singles(budget))
    return dataclasses.replace(point, seconds_per_sentence=seconds)

  def _singles(self, budget: float) -> list:
    """The first test sentences as batches of one."""
    batches = self.runner.batches("test", budget=budget, template=data.TRAIN_TEMPLATES[0],
                                  batch_size=1)
    return list(itertools.islice(batches, self.config.evaluation.num_latency))

  def _merit(self, method: str, curve: Curve) -> float:
    """How well a student serves a baseline: few teacher passes, or a high mean score."""
    if method == "speculative":
      return -min(point.teacher_passes for point in curve.points)
    return float(np.mean([score_at_share(curve, self.key, share).score
                          for share in np.linspace(0.05, AREA_UP_TO, 10)]))

  @functools.cache  # noqa: B019
  def handover(self, split: str, budget: float, *, template: str | None = None,
               cap: str = "none", offset: float = 0.0) -> Outputs:
    """The learned gate under a budget in words."""
    return self.runner.run(split, decoding.make_policy("handover", offset),
                           self.students["wheels"], budget=budget,
                           template=template or data.TRAIN_TEMPLATES[0], cap=cap)

  def _handover_point(self, split: str, budget: float, *, dial: float, label: str,
                      cap: str = "none", offset: float = 0.0) -> Point:
    outputs = self.handover(split, budget, cap=cap, offset=offset)
    return self._timed(self.runner.point(split, outputs, dial=dial, label=label), split,
                       decoding.make_policy("handover", offset), self.students["wheels"],
                       budget=budget, cap=cap)

  def handover_curves(self, split: str) -> list[Curve]:
    """The dial of budgets, the same with the hard cap, and the dial of gate offsets."""
    budgets = sorted({*self.config.budgets.seen, *self.config.budgets.held_out})
    curves = []
    for method, cap in (("handover", "none"), ("handover_capped", "hard")):
      points = (self._handover_point(split, budget, label=f"{budget:.0%}", dial=budget, cap=cap)
                for budget in budgets)
      curves.append(Curve(method, tuple(points), TITLES[method], "budget"))
    offsets = self.config.evaluation.offset
    if offsets:
      middle = budgets[len(budgets) // 2]
      points = (self._handover_point(split, middle, label=f"{offset:+g}", dial=offset,
                                     offset=offset) for offset in offsets)
      curves.append(Curve("handover_offset", tuple(points), TITLES["handover_offset"], "offset"))
    return curves

  # Budgets ----------------------------------------------------------------------------------------

  def budgets(self, duals: tuple[float, ...]) -> list[dict]:
    """Stated and realised use on test; held-out budgets in wordings that training never used."""
    rows = []
    for budgets, seen in ((self.config.budgets.seen, True), (self.config.budgets.held_out, False)):
      for i, budget in enumerate(budgets):
        for known in ((True, False) if seen else (False,)):
          templates = data.TRAIN_TEMPLATES if known else data.HELD_OUT_TEMPLATES
          template = templates[i % len(templates)]
          rows.append(self._budget_row(budget, template, duals, seen=seen, known=known))
    return rows

  def _budget_row(self, budget: float, template: str, duals, *, seen: bool, known: bool) -> dict:
    outputs = self.handover("test", budget, template=template)
    tokens = int(outputs.counts["length"].sum())
    dual = float(np.interp(budget, self.config.budgets.knots, duals))
    return {
        "budget": budget, "seen": seen, "template": template, "template_seen": known,
        "asked": outputs.counts["asks"].sum() / tokens,
        "realised": written(outputs).sum() / tokens,
        "violations": metrics.violation_rate(written(outputs), outputs.counts["length"], budget),
        "dual": dual,
        "predicted": self.runner.predicted_share(
            "test", self.students["wheels"], budget=budget, template=template, price=dual,
            tokens=tokens)}

  # Comparisons ------------------------------------------------------------------------------------

  def comparisons(self, validation: list[Curve], chosen: dict[str, str],
                  split: str = "test") -> list[dict]:
    """Paired bootstrap of the handover against baselines brought to its teacher share.

    The baseline's dial is set on validation to the share that the handover has there; both shares
    on the split that is scored are stated.
    """
    curves = {curve.method: curve for curve in validation}
    rows = []
    for share in self.config.evaluation.compare_at:
      system = self.handover(split, share)
      target = _share(self.handover("validation", share))
      for method in COMPARED:
        if method not in chosen:
          continue
        dial = self._matched_dial(method, curves[method], target, chosen[method])
        baseline = self.baseline(method, dial, split, chosen[method])
        found = bootstrap.paired_bootstrap(
            system.texts, baseline.texts, self.runner.references[split],
            metric=self.config.evaluation.metric, seed=self.config.seed,
            num_resamples=self.config.evaluation.num_resamples).to_json()
        rows.append({"baseline": method, "share": share, "handover_share": _share(system),
                     "baseline_share": _share(baseline), "dial": dial, "handover": found["score"],
                     "student": chosen[method],
                     **{k: found[k] for k in ("baseline_score", "delta", "interval", "p_value")}})
    return rows

  def _matched_dial(self, method: str, curve: Curve, target: float, stage: str) -> float:
    """The dial that gives a share on validation: interpolated, measured, interpolated anew.

    The dial at which a method never asks is known, so a share below the sweep's is found too.
    """
    never = np.log(self.tokenizer.vocab_size) if method == "entropy" else 0.0
    dials = [float(never), *(point.dial for point in curve.points)]
    shares = [0.0, *(point.teacher_share for point in curve.points)]
    for _ in range(3):
      dial = dial_for_share(dials, shares, target).dial
      if dial in dials:
        break
      dials.append(dial)
      shares.append(_share(self.baseline(method, dial, "validation", stage)))
    return min(zip(dials, shares, strict=True), key=lambda pair: abs(pair[1] - target))[0]

  # Speed ------------------------------------------------------------------------------------------

  def latencies(self, references: dict[str, dict[str, float]], test: list[Curve],
                chosen: dict[str, str]) -> list[dict]:
    """Seconds per sentence at batch 1 and tokens per second of a batch, on test sources."""
    systems = [(who, None, policy, stage, 0.0, references[who][self.key])
               for who, policy, stage in (("teacher", decoding.TeacherAlone(), None),
                                          ("student", decoding.StudentAlone(), "wheels"))]
    systems += [("handover", share, decoding.make_policy("handover"), "wheels", share,
                 self.runner.scores("test", self.handover("test", share))[self.key])
                for share in self.config.evaluation.compare_at]
    for curve in test:
      if curve.method == "speculative":
        best = min(curve.points, key=lambda point: point.seconds_per_sentence["mean"])
        systems.append(("speculative", best.dial, decoding.make_policy("speculative", best.dial),
                        chosen["speculative"], 0.0, best.scores[self.key]))
    return [self._latency(*system) for system in systems]

  def _latency(self, method: str, dial: float | None, policy, stage: str | None, budget: float,
               quality: float) -> dict:
    params = self.students.get(stage)

    def decode(batch, eager=False):
      return self.runner.decode(policy, params, batch, eager=eager)

    wide = next(self.runner.batches("test", budget=budget, template=data.TRAIN_TEMPLATES[0],
                                    batch_size=self.config.evaluation.throughput_batch))
    seconds = latency.seconds_per_sentence(decode, self._singles(budget))
    return {"method": method, "dial": dial, "quality": quality, **seconds,
            "tokens_per_second_b32": latency.tokens_per_second(
                functools.partial(decode, eager=True), wide)}


def say(what: str) -> None:
  """One line on the terminal: what has been measured."""
  Console().print(f"{'evaluation':<13} {what}", highlight=False)


def _share(outputs: Outputs) -> float:
  return float(written(outputs).sum() / max(outputs.counts["length"].sum(), 1))


def _with_cost(curve: Curve, step_ratio: float) -> Curve:
  """Adds the sequential cost in teacher passes per token: c · student steps + teacher passes."""
  points = tuple(
      dataclasses.replace(p, cost=step_ratio * p.student_steps + p.teacher_passes)
      for p in curve.points)
  return dataclasses.replace(curve, points=points)


def evaluate(config: ml_collections.ConfigDict, models: tuple[Model, Model], mesh,
             tokenizer: data.Tokenizer, *, students: dict[str, Params], teacher_params: Params,
             duals: tuple[float, ...], sources: dict[str, data.Source],
             tokenised: dict[str, data.TokenisedSplit]) -> dict:
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
  e = Evaluator(config, models, mesh, tokenizer, students=students, teacher_params=teacher_params,
                sources=sources, tokenised=tokenised)
  references = e.references()
  say("teacher and students alone")
  validation, chosen = e.validation_curves()
  say("baselines on validation")
  baselines = e.test_curves(chosen)
  handover = e.handover_curves("test")
  say("handover at every budget")
  latencies = e.latencies(references, baselines, chosen)
  say("latency")
  per_token = {row["method"]: row["mean"] / max(row["tokens"], 1e-9) for row in latencies}
  step_ratio = per_token["student"] / per_token["teacher"]
  curves = [_with_cost(curve, step_ratio) for curve in (*handover, *baselines)]
  ends = {"student": references["student"][e.key], "teacher": references["teacher"][e.key]}
  middle = config.evaluation.compare_at[len(config.evaluation.compare_at) // 2]
  return {
      "name": config.name, "metric": e.key, "seed": config.seed,
      "signature": metrics.signature(e.runner.references["test"], metric=config.evaluation.metric),
      "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
      "command": shlex.join(["python", *sys.orig_argv[1:]]), "config": config_lib.to_json(config),
      "hardware": f"{jax.device_count()} x {jax.devices()[0].device_kind}, {platform.machine()}",
      "reference": references, "methods": [curve.to_json() for curve in curves],
      "validation_methods": [curve.to_json() for curve in (*e.handover_curves("validation"),
                                                           *validation)],
      "baseline_students": chosen, "step_ratio": step_ratio,
      "areas": {curve.method: area_between(curve, e.key, **ends, up_to=AREA_UP_TO)
                for curve in curves},
      "budgets": e.budgets(duals), "comparisons": e.comparisons(validation, chosen),
      "latency": latencies,
      "samples": sample_rows(
          e.runner.examples["test"][:config.evaluation.num_samples], e.handover("test", middle),
          {"student": e.alone("wheels"), "teacher": e.alone("teacher")}, tokenizer, budget=middle),
      "difficulty": difficulty_map(e.handover("test", middle), e.runner.examples["test"],
                                   tokenizer, sources["train"])}
