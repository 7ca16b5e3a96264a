"""A run from nothing to its report: the only place that puts all parts together.

Every stage that trains leaves `stages/<name>/` in the workdir: checkpoints while it runs, `params/`
and `summary.json` (written last) when it is done. A stage that is done is loaded, one that was
killed goes on, and one that the config leaves out is loaded if it is there. The evaluation is
always done anew.
"""

from collections.abc import Iterator
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

from kdtw_jax import checkpoint, data, losses, pair, rollouts
from kdtw_jax import config as config_lib
from kdtw_jax.base import Batch, Params
from kdtw_jax.evaluation import evaluator
from kdtw_jax.files import replaced_folder, write_json
from kdtw_jax.models import HEADS, Model, build, clear_tau, num_params, with_duals
from kdtw_jax.report import print_summary, write_report
from kdtw_jax.training import calibration, loop, objectives, optim, sharding
from kdtw_jax.training import state as state_lib
from kdtw_jax.training import step as step_lib
from kdtw_jax.training.progress import say, tracked


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
    lines = config_lib.differences(*({k: v for k, v in c.items() if k not in ignored}
                                     for c in (found, wanted)))
    if lines:
      raise ValueError(f"workdir {workdir} belongs to a run with another config (there != here): "
                       f"{'; '.join(lines[:5])}. Choose another --workdir, or delete this one")
  try:
    write_json(path, wanted)
  except OSError as error:
    raise ValueError(f"--workdir={workdir}: cannot be written ({error.strerror}); choose a folder "
                     "with free space and write permission") from error


class Experiment:
  """One run's models, data and stages. Everything it loads is loaded once, when first needed."""

  def __init__(self, config: ml_collections.ConfigDict, workdir: Path):
    """Args: a validated config, and a workdir that belongs to it."""
    self.config, self.workdir = config, workdir
    self.mesh = sharding.make_mesh(config.mesh.data, config.mesh.model)
    self.report_path: Path | None = None

  # Parts ------------------------------------------------------------------------------------------

  def check_inputs(self) -> None:
    """Opens the data and finds the published models of all stages: an error shall not wait."""
    stages = set(self.config.stages)
    self.source("train")
    if stages & {"wheels", "evaluation"}:
      self.source("validation")
    if "evaluation" in stages:
      self.source("test")
    self._vocabulary()

  def tokenizer(self) -> data.AnyTokenizer:
    """The tokenizer of the models that the run begins with, or one trained; kept in the workdir.

    All that the config names must have the same vocabulary.
    """
    kept = self.workdir / "tokenizer"
    if kept.is_dir():
      return data.load_tokenizer(kept)
    paths = {f"config.{who}.pretrained={name!r}": pair.locate_published(self.config, who)
             for who in ("student", "teacher") if (name := self.config[who].pretrained)}
    if self.config.teacher.checkpoint:
      paths["config.teacher.checkpoint"] = Path(self.config.teacher.checkpoint) / "tokenizer"
    if self.config.tokenizer.path:
      paths["config.tokenizer.path"] = Path(self.config.tokenizer.path)
    found = {name: data.load_tokenizer(path) for name, path in paths.items()}
    for (a, first), (b, second) in itertools.pairwise(found.items()):
      data.check_same_vocabulary(first, second, names=(a, b))
    tokenizer = next(iter(found.values()), None) or self._trained_tokenizer()
    with replaced_folder(kept) as folder:
      tokenizer.save(folder)
    return tokenizer

  def _trained_tokenizer(self) -> data.Tokenizer:
    """A SentencePiece model of the training split and the instructions."""
    source = self.source("train")
    text = (side for i in range(len(source)) for side in (source[i].source, source[i].target))
    return data.train_tokenizer(
        [*text, *data.tokenizer_text(self.config.data.task)], seed=self.config.seed,
        kind=self.config.tokenizer.kind, vocab_size=self.config.tokenizer.vocab_size)

  @functools.cache  # noqa: B019  one experiment per run
  def _vocabulary(self) -> data.AnyTokenizer:
    return self.tokenizer()

  @functools.cached_property
  def models(self) -> tuple[Model, Model]:
    """(student, teacher)."""
    return pair.build_models(self.config, self._vocabulary())

  @functools.cache  # noqa: B019
  def source(self, split: str) -> data.Source:
    """The examples of train, validation or test."""
    return data.load_split(self.config.data, split)

  @functools.cache  # noqa: B019
  def tokenised(self, split: str) -> data.TokenisedSplit:
    """The examples of a split as token ids.

    Evaluation drops no example, and has one shape: each of its many policies compiles once.
    """
    buckets, over_long = self.config.data.buckets, self.config.data.over_long
    if split != "train":
      buckets, over_long = buckets[-1:], "truncate"
    return data.tokenise(
        self.source(split), self._vocabulary(), buckets=buckets, over_long=over_long,
        task=self.config.data.task, track_fn=functools.partial(tracked, description=split))

  def batches(self, stage: ml_collections.ConfigDict, seed: int, *, split: str = "train",
              budgets: tuple[float, ...] = (), batch_size: int = 0) -> Iterator[Batch]:
    """An endless iterator over a split, this process's share of each batch."""
    return data.train_batches(
        self.tokenised(split), self._vocabulary(), batch_size=batch_size or stage.batch_size,
        budgets=budgets, prompt_length=self.config.data.prompt_length, seed=seed,
        process_index=jax.process_index(), process_count=jax.process_count())

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
      raise ValueError(f"stage {name!r} is needed and not done in {self.workdir}: add it to "
                       "config.stages")
    like = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=sharding.param_sharding(self.mesh, leaf.shape)),
        pair.abstract_params(model))
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
    fresh = jax.jit(model.init)(key)
    return {**params, **{name: fresh[name] for name in HEADS if name in fresh}}

  def _run(self, name: str, stage: ml_collections.ConfigDict, params: Params, objective,
           *, frozen: Params | None = None, budgets: tuple[float, ...] = (), rollout=None,
           duals=None, update_duals=None, finish=None) -> None:
    """Runs a stage unless it is done; `finish(state) -> state` may follow the last step."""
    if self.summary(name) is not None:
      return
    directory = self._directory(name)
    optimizer = optim.make_optimizer(stage)
    state = sharding.shard_params(self.mesh, state_lib.create(
        params, optimizer, ema=stage.ema_decay > 0, duals=duals))
    key = jax.random.key(self._seed(name))

    def prepare(state, batch, key):
      batch = sharding.shard_batch(self.mesh, batch)
      if rollout is None:
        return batch
      params = state.params if state.duals is None else with_duals(state.params, state.duals)
      return rollout(params, frozen, batch, key)

    result = loop.run_stage(
        name, state=state, frozen=frozen, key=key, prepare=prepare,
        step_fn=step_lib.make_train_step(objective, optimizer, ema_decay=stage.ema_decay,
                                         update_duals=update_duals),
        batches=self.batches(stage, self._seed(name), budgets=budgets), steps=stage.steps,
        log_every=stage.log_every, checkpoint_every=stage.checkpoint_every, directory=directory,
        keep=self.config.checkpoint.keep)
    state = finish(result.state) if finish else result.state
    checkpoint.save_params(directory / "params", state.result())
    summary = {**result.summary, "num_params": num_params(params)}
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
    self._run("teacher", stage, self._start("teacher", "teacher"),
              objectives.supervised(self.models[1], stage, source="teacher_source"))

  def sft(self) -> None:
    """Baseline: the student trained on references alone."""
    stage = self.config.sft
    self._run("sft", stage, self._start("student", "sft"),
              objectives.supervised(self.models[0], stage, source="teacher_source"))

  def warm_start(self) -> None:
    """The student learns the teacher's distribution, and to read budgets without losing its way."""
    stage = self.config.warm_start
    self._run("warm_start", stage, self._start("student", "warm_start"),
              objectives.distribution_matching(*self.models, stage),
              frozen=self.result("teacher"), budgets=self.config.budgets.train)

  def distillation(self) -> None:
    """Path consistency without the gate."""
    stage = self.config.distillation
    self._run("distillation", stage, self.result("warm_start"),
              objectives.path_consistency(*self.models, stage, knots=None),
              frozen=self.result("teacher"), budgets=self.config.budgets.train,
              rollout=self._rollout(stage, wheels=False))

  def wheels(self) -> None:
    """Constrained path consistency: gate, duals, secondary value; then calibration."""
    if self.summary("wheels") is not None:
      return
    stage, knots = self.config.wheels, self.config.budgets.knots
    start = self.result("distillation" if self.summary("distillation") else "warm_start")
    teacher_params = self.result("teacher")
    self._run("wheels", stage, start,
              objectives.path_consistency(*self.models, stage, knots=knots),
              frozen=teacher_params, budgets=self.config.budgets.train,
              rollout=self._rollout(stage, wheels=True),
              duals=self._initial_duals(stage, start, teacher_params),
              update_duals=objectives.dual_step(stage, knots), finish=self._calibrate)

  def _rollout(self, stage: ml_collections.ConfigDict, *, wheels: bool):
    student, teacher = self.models
    return rollouts.make_rollout(student.decoder_fns, teacher.decoder_fns, stage, wheels=wheels)

  def _initial_duals(self, stage, params: Params, teacher_params: Params) -> jax.Array:
    """The (1 − B)-quantiles of the difficulty on a few batches of references."""
    measure = jax.jit(objectives.difficulties(*self.models, stage))
    batches = self.batches(stage, self._seed("wheels"), budgets=self.config.budgets.train)
    found = [measure(params, teacher_params,
                     rollouts.from_references(sharding.shard_batch(self.mesh, next(batches))))
             for _ in range(4)]
    values, mask = (jnp.concatenate([part[i].reshape(-1) for part in found])[None] for i in (0, 1))
    return losses.initial_duals(values, mask, jnp.asarray(self.config.budgets.knots))

  def _calibrate(self, state: state_lib.TrainState) -> state_lib.TrainState:
    """Fits the duals to the use of the teacher on validation sources, and sets the prices."""
    stage, params = self.config.wheels, state.result()
    if stage.calibration_steps == 0 or "price" not in params:
      return state._replace(params=with_duals(params, state.duals), ema_params=None)
    size = min(stage.calibration_batch_size, len(self.source("validation")))
    batches = self.batches(stage, self._seed("wheels"), split="validation", batch_size=size,
                           budgets=self.config.budgets.train)
    duals = calibration.calibrate(
        *self.models, params, self.result("teacher"), state.duals, stage,
        knots=self.config.budgets.knots,
        batches=(sharding.shard_batch(self.mesh, batch) for batch in batches),
        max_length=self.config.decode.max_length)
    return state._replace(params=with_duals(params, duals), ema_params=None, duals=duals)

  def evaluation(self) -> None:
    """Saves the pair, measures every method, writes the report."""
    started = time.monotonic()
    wheels = self.summary("wheels")
    if wheels is None:
      raise ValueError("stage 'evaluation' needs stage 'wheels': add it to config.stages")
    pair.save_pair(self.workdir / "pair", config=config_lib.to_json(self.config),
                   models=self.models, tokenizer=self._vocabulary(),
                   student_params=self.result("wheels"), teacher_params=self.result("teacher"),
                   duals=wheels["duals"])
    students = {name: self.result(name) for name in ("sft", "warm_start", "distillation", "wheels")
                if self.summary(name)}
    metrics = evaluator.evaluate(
        self.config, self.models, self.mesh, self._vocabulary(), students=students,
        teacher_params=self.result("teacher"), duals=tuple(wheels["duals"]),
        sources={split: self.source(split) for split in ("train", "validation", "test")},
        tokenised={split: self.tokenised(split) for split in ("validation", "test")})
    metrics["stages"] = [summary for name in config_lib.STAGES
                         if (summary := self.summary(name)) is not None]
    metrics["stages"].append({"stage": "evaluation", "seconds": time.monotonic() - started})
    self.report_path = write_report(metrics, self.workdir)
    print_summary(metrics, self.report_path)
