"""A run from nothing to its report: the only place that puts all parts together.

Every stage that trains leaves `stages/<name>/` in the workdir: checkpoints while it runs, `params/`
and `summary.json` (written last) when it is done. A stage that is done is loaded, one that was
killed goes on, and one that the config leaves out is loaded if it is there. The evaluation is
always done anew.
"""

from collections.abc import Callable, Iterator
import dataclasses
import functools
import itertools
import json
from pathlib import Path
import time

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from kdtw_jax import checkpoint, losses, pair, rollouts
from kdtw_jax import config as config_lib
from kdtw_jax.base import Params, Trajectory
from kdtw_jax.evaluation.evaluate import evaluate
from kdtw_jax.evaluation.record import Stage
from kdtw_jax.files import write_json
from kdtw_jax.inputs import Inputs
from kdtw_jax.models import HEADS, build, clear_tau, num_params, with_duals
from kdtw_jax.report import print_summary, write_report
from kdtw_jax.training import calibration, loop, objectives, optim, sharding
from kdtw_jax.training import state as state_lib
from kdtw_jax.training import step as step_lib
from kdtw_jax.training.progress import say


def train_and_evaluate(config: ml_collections.ConfigDict, workdir: str | Path) -> Path | None:
  """Runs the stages of the config that are not done yet.

  Args:
    config: see `kdtw_jax.config.defaults`.
    workdir: gets everything; made if missing.

  Returns:
    The path of the report page; None where the config leaves the evaluation out.

  Raises:
    ValueError: the config, the data or a checkpoint is unusable, or the workdir is another run's.
    loop.NonFiniteLossError: training diverged.
  """
  config_lib.validate(config)
  workdir = Path(workdir)
  _claim(workdir, config)
  run = Experiment(config, workdir)
  run.check_inputs()
  for name in config_lib.STAGES:
    if name in config.stages:
      getattr(run, name)()
  return run.report_path


def _claim(workdir: Path, config: ml_collections.ConfigDict) -> None:
  """Writes the config into a new workdir, refuses a workdir of another config."""
  path = workdir / "config.json"
  wanted = config_lib.to_json(config)
  if path.is_file():
    found = json.loads(path.read_text(encoding="utf-8"))
    ignored = {"stages", "evaluation", "checkpoint"}  # may change between calls of one run
    lines = config_lib.differences(
        *({k: v for k, v in c.items() if k not in ignored} for c in (found, wanted))
    )
    if lines:
      raise ValueError(
          f"workdir {workdir} belongs to a run with another config (there != here): "
          f"{'; '.join(lines[:5])}. Choose another --workdir, or delete this one"
      )
  try:
    write_json(path, wanted)
  except OSError as error:
    raise ValueError(
        f"--workdir={workdir}: cannot be written ({error.strerror}); choose a folder "
        "with free space and write permission"
    ) from error


class Experiment(Inputs):
  """One run's stages. Everything it loads is loaded once, when first needed."""

  def __init__(self, config: ml_collections.ConfigDict, workdir: Path):
    """Args: a validated config, and a workdir that belongs to it."""
    super().__init__(config, workdir)
    self.mesh = sharding.make_mesh(config.mesh.data, config.mesh.model)
    self.report_path: Path | None = None

  # Stages -----------------------------------------------------------------------------------------

  def _directory(self, name: str) -> Path:
    if name == "teacher" and self.config.teacher.checkpoint:
      return Path(self.config.teacher.checkpoint) / "stages" / name
    return self.workdir / "stages" / name

  def _seed(self, name: str) -> int:
    return self.config.seed * len(config_lib.STAGES) + config_lib.STAGES.index(name)

  def summary(self, name: str) -> dict | None:
    """What a finished stage wrote of itself; None where it is not done."""
    path = self._directory(name) / "summary.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

  @functools.cache  # noqa: B019
  def result(self, name: str) -> Params:
    """The parameters that a finished stage left, on the mesh."""
    model = self.models[1] if name == "teacher" else self.models[0]
    if name == "teacher" and pair.teacher_is_published(self.config):
      return pair.published_params(self.config, "teacher", model, self._put)
    if self.summary(name) is None:
      raise ValueError(
          f"stage {name!r} is needed and not done, {self._directory(name)} has no "
          "summary.json: add it to config.stages"
      )
    like = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=sharding.param_sharding(self.mesh, leaf.shape)
        ),
        model.shapes,
    )
    return checkpoint.load_params(self._directory(name) / "params", like)

  def _put(self, array: np.ndarray) -> jax.Array:
    """Brings one parameter to its place on the mesh."""
    return jax.device_put(array, sharding.param_sharding(self.mesh, array.shape))

  def _start(self, who: str, stage: str) -> Params:
    """Where training begins: the published model, or fresh parameters; heads are always fresh."""
    model = self.models[who == "teacher"]
    model = build(dataclasses.replace(model.config, param_dtype="float32"))
    key = jax.random.key(self._seed(stage))
    if not self.config[who].pretrained:
      return model.init(key)
    params = pair.published_params(self.config, who, model, self._put)
    if model.config.gate == "token":
      params = clear_tau(params, model.config)
    heads = jax.jit(lambda key: {k: v for k, v in model.init(key).items() if k in HEADS})
    return {**params, **heads(key)}

  def _run(
      self,
      name: str,
      stage: ml_collections.ConfigDict,
      start: Callable[[], Params],
      objective,
      *,
      frozen: Params | None = None,
      budgets: tuple[float, ...] = (),
      rollout=None,
      duals=None,
      update_duals=None,
      finish=None,
  ) -> None:
    """Runs a stage from `start()` unless it is done; `finish(state) -> state` may follow."""
    if self.summary(name) is not None:
      return
    directory, optimizer = self._directory(name), optim.make_optimizer(stage)
    state = sharding.shard_params(
        self.mesh, state_lib.create(start(), optimizer, ema=stage.ema_decay > 0, duals=duals)
    )
    key = jax.random.key(self._seed(name))

    def prepare(state, batch, key):
      batch = sharding.shard_batch(self.mesh, batch)
      if rollout is None:
        return batch
      params = state.params if state.duals is None else with_duals(state.params, state.duals)
      return rollout(params, frozen, batch, key)

    result = loop.run_stage(
        name,
        state=state,
        frozen=frozen,
        key=key,
        prepare=prepare,
        step_fn=step_lib.make_train_step(
            objective, optimizer, ema_decay=stage.ema_decay, update_duals=update_duals
        ),
        batches=self.batches(stage, self._seed(name), budgets=budgets),
        steps=stage.steps,
        log_every=stage.log_every,
        checkpoint_every=stage.checkpoint_every,
        directory=directory,
        keep=self.config.checkpoint.keep,
    )
    state = finish(result.state) if finish else result.state
    checkpoint.save_params(directory / "params", state.result())
    summary = {**result.summary, "num_params": num_params(state.params)}
    if state.duals is not None:
      summary["duals"] = np.asarray(state.duals).tolist()
    write_json(directory / "summary.json", summary)

  def teacher(self) -> None:
    """Trains the teacher on references, or takes it from another run or as it is published."""
    section = self.config.teacher
    if section.checkpoint or pair.teacher_is_published(self.config):
      millions = num_params(self.result("teacher")) / 1e6
      say("teacher", f"{section.checkpoint or section.pretrained}: {millions:,.1f} M parameters")
      return
    stage = section.train
    self._run(
        "teacher",
        stage,
        lambda: self._start("teacher", "teacher"),
        objectives.supervised(self.models[1], stage, source="teacher_source"),
    )

  def sft(self) -> None:
    """Baseline: the student trained on references alone."""
    stage = self.config.sft
    self._run(
        "sft",
        stage,
        lambda: self._start("student", "sft"),
        objectives.supervised(self.models[0], stage, source="teacher_source"),
    )

  def warm_start(self) -> None:
    """The student learns the teacher's distribution, and to read budgets without losing its way."""
    stage = self.config.warm_start
    self._run(
        "warm_start",
        stage,
        lambda: self._start("student", "warm_start"),
        objectives.distribution_matching(*self.models, stage),
        frozen=self.result("teacher"),
        budgets=self.config.budgets.train,
    )

  def distillation(self) -> None:
    """Path consistency without the gate."""
    stage = self.config.distillation
    self._run(
        "distillation",
        stage,
        lambda: self.result("warm_start"),
        objectives.path_consistency(*self.models, stage, knots=None),
        frozen=self.result("teacher"),
        budgets=self.config.budgets.train,
        rollout=self._rollout(stage, wheels=False),
    )

  def wheels(self) -> None:
    """Constrained path consistency: gate, duals, secondary value; then calibration."""
    if self.summary("wheels") is not None:
      return
    stage, knots = self.config.wheels, self.config.budgets.knots
    start = self._with_gate_at_start(
        self.result("distillation" if self.summary("distillation") else "warm_start")
    )
    teacher_params = self.result("teacher")
    self._run(
        "wheels",
        stage,
        lambda: start,
        objectives.path_consistency(*self.models, stage, knots=knots),
        frozen=teacher_params,
        budgets=self.config.budgets.train,
        rollout=self._rollout(stage, wheels=True),
        duals=self._initial_duals(stage, start, teacher_params),
        update_duals=objectives.dual_step(stage, knots),
        finish=self._calibrate,
    )

  def _rollout(self, stage: ml_collections.ConfigDict, *, wheels: bool):
    student, teacher = self.models
    return rollouts.make_rollout(student.decoder_fns, teacher.decoder_fns, stage, wheels=wheels)

  def _references(self) -> Iterator[Trajectory]:
    """Batches of references, in the wordings of the stage wheels."""
    for batch in self.batches(
        self.config.wheels, self._seed("wheels"), budgets=self.config.budgets.train
    ):
      yield rollouts.from_references(sharding.shard_batch(self.mesh, batch))

  def _with_gate_at_start(self, params: Params) -> Params:
    """A token gate's bias set so that its mean log-odds are `gate_bias_init` on a batch.

    What the logits sum to is free, and other in each model: from the bias of a fresh one, a trained
    student could ask for everything or nothing.
    """
    student = self.models[0]
    if student.config.gate != "token":
      return params
    values, mask = jax.jit(objectives.gate_log_odds(student))(params, next(self._references()))
    shift = student.config.gate_bias_init - losses.token_mean(values, mask)
    return {**params, "gate": {"bias": params["gate"]["bias"] + shift}}

  def _initial_duals(self, stage, params: Params, teacher_params: Params) -> jax.Array:
    """The (1 − B)-quantiles of the difficulty on a few batches of references."""
    measure = jax.jit(objectives.difficulties(*self.models, stage))
    found = [
        measure(params, teacher_params, trajectory)
        for trajectory in itertools.islice(self._references(), 4)
    ]
    values, mask = (jnp.concatenate([part[i].reshape(-1) for part in found])[None] for i in (0, 1))
    return losses.initial_duals(values, mask, jnp.asarray(self.config.budgets.knots))

  def _calibrate(self, state: state_lib.TrainState) -> state_lib.TrainState:
    """Fits the duals to the use of the teacher on validation sources, and sets the prices."""
    stage, params = self.config.wheels, state.result()
    if stage.calibration_steps == 0 or "price" not in params:
      return state._replace(params=with_duals(params, state.duals), ema_params=None)
    size = min(stage.calibration_batch_size, len(self.source("validation")))
    batches = self.batches(
        stage,
        self._seed("wheels"),
        split="validation",
        batch_size=size,
        budgets=self.config.budgets.train,
    )
    duals = calibration.calibrate(
        *self.models,
        params,
        self.result("teacher"),
        state.duals,
        stage,
        knots=self.config.budgets.knots,
        batches=(sharding.shard_batch(self.mesh, batch) for batch in batches),
        max_length=self.config.decode.max_length,
    )
    return state._replace(params=with_duals(params, duals), ema_params=None, duals=duals)

  def evaluation(self) -> None:
    """Saves the pair, measures every method, writes the report."""
    started = time.monotonic()
    wheels = self.summary("wheels")
    if wheels is None:
      raise ValueError("stage 'evaluation' needs stage 'wheels': add it to config.stages")
    pair.save_pair(
        self.workdir / "pair",
        config=config_lib.to_json(self.config),
        models=self.models,
        tokenizer=self._vocabulary(),
        student_params=self.result("wheels"),
        teacher_params=self.result("teacher"),
        duals=wheels["duals"],
    )
    students = {
        name: self.result(name)
        for name in ("sft", "warm_start", "distillation", "wheels")
        if self.summary(name)
    }
    metrics = evaluate(
        self.config,
        self.models,
        self.mesh,
        self._vocabulary(),
        students=students,
        teacher_params=self.result("teacher"),
        duals=tuple(wheels["duals"]),
        sources={split: self.source(split) for split in ("train", "validation", "test")},
        tokenised={split: self.tokenised(split) for split in ("validation", "test")},
    )
    stages = [
        Stage.from_summary(summary) for name in config_lib.STAGES if (summary := self.summary(name))
    ]
    stages.append(Stage(stage="evaluation", seconds=time.monotonic() - started))
    metrics = dataclasses.replace(metrics, stages=tuple(stages))
    self.report_path = write_report(metrics, self.workdir)
    print_summary(metrics, self.report_path)
