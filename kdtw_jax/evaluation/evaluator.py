"""Measures a trained pair: every method's dial swept on validation and on test, and compared.

Baselines ask with whichever of the run's students serves them better on validation, so that none
is held back by how the handover's student was trained.
"""

import dataclasses
import datetime
import itertools
import platform
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
from kdtw_jax.evaluation.outputs import Outputs, Runner, predicted_share, written
from kdtw_jax.evaluation.tradeoff import Curve, Point, area_between, dial_for_share
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
    self.tokenizer, self.sources = tokenizer, sources
    self.runner = Runner(config, models, mesh, tokenizer, teacher_params, sources=sources,
                         tokenised=tokenised)
    self.key = metrics.primary_score(config.evaluation.metric)

  # Single systems ---------------------------------------------------------------------------------

  def references(self) -> dict[str, dict[str, float]]:
    """Test scores of the teacher and of every student alone."""
    runs = {"teacher": self.runner.run("test", decoding.TeacherAlone(), None)}
    names = {"sft": "sft_student", "warm_start": "kl_student", "distillation": "pcl_student",
             "wheels": "student"}
    for stage, params in self.students.items():
      template = None if stage == "sft" else data.TRAIN_TEMPLATES[0]
      runs[names[stage]] = self.runner.run("test", decoding.StudentAlone(), params,
                                           template=template)
    return {name: self.runner.scores("test", outputs) for name, outputs in runs.items()}

  # Curves -----------------------------------------------------------------------------------------

  def baseline(self, method: str, dial: float, split: str, stage: str) -> Outputs:
    """One setting of a baseline with the student of a stage."""
    dial = int(dial) if method == "speculative" else dial
    return self.runner.run(split, decoding.make_policy(method, dial), self.students[stage])

  def baseline_curves(self) -> tuple[list[Curve], list[Curve], dict[str, str]]:
    """Sweeps every baseline: (test curves, validation curves, which student each one uses)."""
    test, validation, chosen = [], [], {}
    for method in BASELINES:
      dials = self.config.evaluation[_DIALS[method]]
      if not dials:
        continue
      candidates = {
          stage: self._sweep(method, dials, "validation", stage)
          for stage in self.config.evaluation.baseline_students if stage in self.students}
      chosen[method] = max(candidates, key=lambda stage: self._merit(method, candidates[stage]))
      validation.append(candidates[chosen[method]])
      test.append(self._sweep(method, dials, "test", chosen[method]))
      say(f"{TITLES[method]}, student of stage {chosen[method]}")
    return test, validation, chosen

  def _sweep(self, method: str, dials, split: str, stage: str) -> Curve:
    points = []
    for dial in dials:
      point = self.runner.point(split, self.baseline(method, dial, split, stage), dial=dial,
                                label=f"{dial:g}")
      policy = decoding.make_policy(method, int(dial) if method == "speculative" else dial)
      points.append(self._timed(point, split, policy, self.students[stage]))
    return Curve(method, tuple(points), TITLES[method], decoding.POLICIES[method].dial_name)

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
    shares = [point.teacher_share for point in curve.points]
    order = np.argsort(shares)
    x, y = np.array(shares)[order], np.array([p.scores[self.key] for p in curve.points])[order]
    grid = np.linspace(0.05, 0.5, 10)
    return float(np.mean(np.interp(grid, x, y)))

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
    batches = self.runner.batches("test", budget=budget, template=template,
                                  batch_size=self.config.evaluation.batch_size)
    return {
        "budget": budget, "seen": seen, "template": template, "template_seen": known,
        "asked": outputs.counts["asks"].sum() / tokens,
        "realised": written(outputs).sum() / tokens,
        "violations": metrics.violation_rate(written(outputs), outputs.counts["length"], budget),
        "dual": float(np.interp(budget, self.config.budgets.knots, duals)),
        "predicted": predicted_share(self.models[0], self.students["wheels"], batches, tokens)}

  # Comparisons ------------------------------------------------------------------------------------

  def comparisons(self, validation: list[Curve], chosen: dict[str, str]) -> list[dict]:
    """Paired bootstrap of the handover against baselines brought to its teacher share.

    The baseline's dial is set on validation to the share that the handover has there; both shares
    on test are stated.
    """
    curves = {curve.method: curve for curve in validation}
    rows = []
    for share in self.config.evaluation.compare_at:
      system = self.handover("test", share)
      target = _share(self.handover("validation", share))
      for method in COMPARED:
        if method not in chosen:
          continue
        dial = self._matched_dial(method, curves[method], target, chosen[method])
        baseline = self.baseline(method, dial, "test", chosen[method])
        found = bootstrap.paired_bootstrap(
            system.texts, baseline.texts, self.runner.references["test"],
            metric=self.config.evaluation.metric, seed=self.config.seed,
            num_resamples=self.config.evaluation.num_resamples).to_json()
        rows.append({"baseline": method, "share": share, "handover_share": _share(system),
                     "baseline_share": _share(baseline), "dial": dial, "handover": found["score"],
                     "student": chosen[method],
                     **{k: found[k] for k in ("baseline_score", "delta", "interval", "p_value")}})
    return rows

  def _matched_dial(self, method: str, curve: Curve, target: float, stage: str) -> float:
    """The dial that gives a share on validation: interpolated, measured, interpolated anew."""
    dials = [point.dial for point in curve.points]
    shares = [point.teacher_share for point in curve.points]
    for _ in range(2):
      dial = dial_for_share(dials, shares, target).dial
      if dial in dials:
        break
      dials.append(dial)
      shares.append(_share(self.baseline(method, dial, "validation", stage)))
    return min(zip(dials, shares, strict=True), key=lambda pair: abs(pair[1] - target))[0]

  # Speed ------------------------------------------------------------------------------------------

  def latencies(self, test: list[Curve], chosen: dict[str, str]) -> list[dict]:
    """Seconds per sentence at batch 1 and tokens per second at a batch of 32, on test sources."""
    systems = [("teacher", "", decoding.TeacherAlone(), None, 0.0),
               ("student", "", decoding.StudentAlone(), "wheels", 0.0)]
    systems += [("handover", f"{share:.0%}", decoding.make_policy("handover"), "wheels", share)
                for share in self.config.evaluation.compare_at]
    for curve in test:
      if curve.method == "speculative":
        best = min(curve.points, key=lambda p: p.teacher_passes + 0.1 * p.student_steps)
        systems.append(("speculative", f"k={best.dial:g}",
                        decoding.make_policy("speculative", int(best.dial)),
                        chosen["speculative"], 0.0))
    return [self._latency(*system) for system in systems]

  def _latency(self, method: str, dial: str, policy, stage: str | None, budget: float) -> dict:
    params = self.students.get(stage)

    def decode(batch):
      return self.runner.decode(policy, params, batch)

    wide = next(self.runner.batches("test", budget=budget, template=data.TRAIN_TEMPLATES[0],
                                    batch_size=self.config.evaluation.throughput_batch))
    seconds = latency.seconds_per_sentence(decode, self._singles(budget))
    return {"method": method, "dial": dial, **seconds,
            "tokens_per_second_b32": latency.tokens_per_second(decode, wide)}

  # Samples ----------------------------------------------------------------------------------------

  def samples(self) -> list[dict]:
    """Test sentences under the middle comparison budget, each token with who wrote it."""
    shares = self.config.evaluation.compare_at
    budget = shares[len(shares) // 2]
    outputs = self.handover("test", budget)
    alone = {"student": self.runner.run("test", decoding.StudentAlone(), self.students["wheels"]),
             "teacher": self.runner.run("test", decoding.TeacherAlone(), None)}
    rows, source = [], self.sources["test"]
    for i in range(min(self.config.evaluation.num_samples, len(source))):
      pieces = self.tokenizer.pieces(outputs.ids[i])
      rows.append({
          "source": source[i].source, "reference": source[i].target, "budget": budget,
          **{who: run.texts[i] for who, run in alone.items()},
          "tokens": [{"text": piece, "author": "teacher" if teacher else "student"}
                     for piece, teacher in zip(pieces, outputs.by_teacher[i], strict=True)
                     if piece != "</s>"]})
    return rows


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
  baselines, validation, chosen = e.baseline_curves()
  handover = e.handover_curves("test")
  say("handover at every budget")
  latencies = e.latencies(baselines, chosen)
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
      "command": " ".join(sys.orig_argv[1:]), "config": config_lib.to_json(config),
      "hardware": f"{jax.device_count()} x {jax.devices()[0].device_kind}, {platform.machine()}",
      "reference": references, "methods": [curve.to_json() for curve in curves],
      "validation_methods": [curve.to_json() for curve in (*e.handover_curves("validation"),
                                                           *validation)],
      "baseline_students": chosen, "step_ratio": step_ratio,
      "areas": {curve.method: area_between(curve, e.key, **ends, up_to=0.5) for curve in curves},
      "budgets": e.budgets(duals), "comparisons": e.comparisons(validation, chosen),
      "latency": latencies, "samples": e.samples(),
      "difficulty": difficulty_map(e.handover("test", middle), sources["test"], tokenizer,
                                   sources["train"])}
