"""Measurements of settings, each decoded once per split: scores, counts, cost and seconds.

Not here: which settings exist (methods.py, sweeps.py) and how the points are used.
"""

from collections.abc import Callable, Mapping
import dataclasses
import functools
import itertools

import jax
import ml_collections

from kdtw_jax import data, decoding
from kdtw_jax.base import Params
from kdtw_jax.evaluation import metrics
from kdtw_jax.evaluation.bootstrap import score_intervals
from kdtw_jax.evaluation.kept import Kept
from kdtw_jax.evaluation.latency import seconds_per_sentence
from kdtw_jax.evaluation.methods import Setting, Sweep
from kdtw_jax.evaluation.outputs import Outputs, Runner
from kdtw_jax.evaluation.pacing import pace_on_validation
from kdtw_jax.evaluation.record import EXACT_METHOD, Alone, Curve, Point, Seconds
from kdtw_jax.models import Model

PAIR_STAGE = "wheels"  # the stage whose student is the pair's
ALWAYS_TIMED = ("handover", EXACT_METHOD)


class Measure:
  """A pair and its earlier students on the splits of a run; decoded outputs are cached.

  Attributes:
    config: the run's config.
    models: (student, teacher).
    tokenizer: the tokenizer of both models.
    students: parameters by the stage that made them, including `wheels`.
    runner: decodes the splits.
    key: the score that stands for quality.
  """

  def __init__(
      self,
      config: ml_collections.ConfigDict,
      models: tuple[Model, Model],
      mesh: jax.sharding.Mesh,
      tokenizer: data.AnyTokenizer,
      *,
      students: Mapping[str, Params],
      teacher_params: Params,
      sources: Mapping[str, data.Source],
      tokenised: Mapping[str, data.TokenisedSplit],
      paces: Mapping[str, float],
      kept: Kept,
      on_point: Callable[[], None] = lambda: None,
  ):
    """Takes the parts of a run: data by split, and the paces of the gate by form of budget.

    What `kept` has is not measured again. After each point that is measured, `on_point` is called.
    """
    self._paces, self._kept, self._on_point = paces, kept, on_point
    self.config, self.models, self.tokenizer, self.students = config, models, tokenizer, students
    self.runner = Runner(
        config, models, mesh, tokenizer, teacher_params, sources=sources, tokenised=tokenised
    )
    self.key = metrics.primary_score(config.evaluation.metric)

  @functools.cache  # noqa: B019  one measure per run
  def outputs(self, split: str, setting: Setting) -> Outputs:
    """Decodes a split with a setting."""
    pace = self.pace(setting.method, setting.dial, setting.stage, setting.form)

    def decode() -> Outputs:
      return self.runner.run(
          split,
          setting.policy(),
          self.students[setting.stage],
          budget=setting.budget,
          wording=setting.wording,
          form=setting.form,
          calls=setting.calls,
          pace=pace,
      )

    return self._kept.outputs((split, setting, pace), decode, self.tokenizer.decode)

  @functools.cache  # noqa: B019
  def pace(self, method: str, dial: float, stage: str, form: str) -> float:
    """Returns the pace of a form of budgets: the pair's own for its gate, else of validation."""
    if (method, dial, stage) == ("handover", 0.0, PAIR_STAGE) and form in self._paces:
      return self._paces[form]

    def choose() -> float:
      policy, params = decoding.make_policy(method, dial), self.students[stage]
      return pace_on_validation(self.runner, policy, params, form, config=self.config)

    return self._kept.value(("pace", method, dial, stage, form), choose)

  @functools.cache  # noqa: B019
  def alone(self, who: str, split: str = "test") -> Outputs:
    """Decodes a split with the teacher alone, or with a stage's student alone."""

    def decode() -> Outputs:
      if who == "teacher":
        return self.runner.run(split, decoding.TeacherAlone(), None)
      wording = None if who == "sft" else data.TRAIN_WORDINGS[0]
      return self.runner.run(split, decoding.StudentAlone(), self.students[who], wording=wording)

    return self._kept.outputs((split, "alone", who), decode, self.tokenizer.decode)

  def alone_scores(self, who: str) -> Alone:
    """Returns test scores of the teacher or a stage's student alone, with 95% intervals."""
    outputs = self.alone(who)
    scores = self.runner.scores("test", outputs)
    return Alone(scores=scores, intervals=self._intervals(outputs))

  def _intervals(self, outputs: Outputs) -> dict[str, tuple[float, float]]:
    """Returns 95% intervals of scores on test, over resamples of its sentences."""
    evaluation = self.config.evaluation
    return score_intervals(
        outputs.texts,
        self.runner.references["test"],
        seed=self.config.seed,
        metric=evaluation.metric,
        num_resamples=evaluation.num_resamples,
    )

  @functools.cache  # noqa: B019
  def curve(self, split: str, sweep: Sweep) -> Curve:
    """Measures a method's points on a split; on test, they are timed as the config says."""
    timed = self.config.evaluation.time_every_method or sweep.method in ALWAYS_TIMED
    return Curve(
        method=sweep.method,
        title=sweep.title,
        family=sweep.family,
        bound=sweep.bound,
        is_handover=sweep.is_handover,
        dial_name=sweep.dial_name,
        student=sweep.settings[0][2].stage,
        points=tuple(
            self.point(split, setting, dial=dial, label=label, timed=timed and split == "test")
            for dial, label, setting in sweep.settings
        ),
    )

  def point(
      self,
      split: str,
      setting: Setting,
      *,
      dial: float | None = None,
      label: str = "",
      timed: bool = False,
  ) -> Point:
    """Measures a setting: its scores, shares and counts per token, and its sequential cost.

    The cost in teacher passes is c · student steps + teacher passes.

    Args:
      split: name of the split.
      setting: the setting to decode.
      dial: the dial that the point reports, if it is not the policy's own.
      label: the setting in words.
      timed: whether to measure seconds per sentence too.
    """
    outputs = self.outputs(split, setting)
    per_token = {name: outputs.per_token(name) for name in outputs.counts}
    point = Point(
        dial=float(setting.dial if dial is None else dial),
        label=label,
        scores=self.runner.scores(split, outputs),
        asked_share=per_token["asks"],
        teacher_share=outputs.teacher_share,
        teacher_calls=per_token["teacher_calls"],
        teacher_passes=per_token["teacher_row_passes"],
        teacher_tokens=per_token["teacher_tokens"],
        student_steps=per_token["student_row_steps"],
        cost=self.step_ratio * per_token["student_row_steps"] + per_token["teacher_row_passes"],
        interval=self._intervals(outputs)[self.key] if split == "test" else None,
        seconds_per_sentence=(
            self.seconds(
                setting.policy(),
                setting.stage,
                budget=setting.budget,
                form=setting.form,
                calls=setting.calls,
                pace=self.pace(setting.method, setting.dial, setting.stage, setting.form),
            )
            if timed
            else None
        ),
    )
    self._on_point()
    return point

  @functools.cached_property
  def step_ratio(self) -> float:
    """c: the student's time per token over the teacher's, each alone at batch 1."""
    student, teacher = (
        self.seconds(policy, stage, split="validation")
        for policy, stage in (
            (decoding.StudentAlone(), PAIR_STAGE),
            (decoding.TeacherAlone(), None),
        )
    )
    return (student.mean / student.tokens) / (teacher.mean / teacher.tokens)

  def seconds(
      self,
      policy: decoding.Policy,
      stage: str | None,
      *,
      budget: float = 0.0,
      form: str = "share",
      calls: int = 0,
      pace: float = 0.0,
      split: str = "test",
  ) -> Seconds:
    """Times the first sentences of a split at batch 1.

    Args:
      policy: who writes which token.
      stage: the stage whose student is used; None for the teacher alone.
      budget: budget stated in the student's instruction.
      form: what the budget promises.
      calls: most calls of an output, for the form `calls`.
      pace: κ of the budget.
      split: name of the split.
    """

    def time() -> dict[str, float]:
      batches = self.runner.batches(
          split, budget=budget, wording=data.TRAIN_WORDINGS[0], batch_size=1
      )
      params, evaluation = self.students[stage] if stage else None, self.config.evaluation
      return dataclasses.asdict(
          seconds_per_sentence(
              lambda b: self.runner.decode(policy, params, b, form=form, calls=calls, pace=pace),
              [self.runner.placed(b) for b in itertools.islice(batches, evaluation.num_latency)],
          )
      )

    of = ("seconds", policy, stage, budget, form, calls, pace, split)
    return Seconds(**self._kept.value(of, time))
