"""The common parts of every stage that trains: where it starts, its loop, and what it saves."""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

import jax
from jax.sharding import Mesh
from jaxtyping import Array, Float
import ml_collections

from kdtw_jax import checkpoint, config_models, devices, processes
from kdtw_jax import config as config_lib
from kdtw_jax.base import Batch, BatchIterator, Params
from kdtw_jax.data import ScoredSplit
from kdtw_jax.evaluation.outputs import Runner
from kdtw_jax.inputs import Inputs
from kdtw_jax.models import (
    HEADS,
    Model,
    build,
    clear_tau,
    low_rank,
    num_params,
    with_duals,
    with_int8,
)
from kdtw_jax.terminal import print_line
from kdtw_jax.training import loop, optim
from kdtw_jax.training import state as state_lib
from kdtw_jax.training import step as step_lib
from kdtw_jax.training.state import TrainState
from kdtw_jax.workdir import Workdir

TRAINING_TEXT = "train, as text"  # the fingerprint that the tokenizer is bound to


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
  """The state that the stages of a run share. Results are loaded once, when first needed.

  Attributes:
    config: the validated config.
    workdir: the results of earlier stages.
    inputs: examples, tokenizer and models.
    mesh: the devices.
  """

  config: ml_collections.ConfigDict
  workdir: Workdir
  inputs: Inputs
  mesh: Mesh

  def seed(self, stage: str) -> int:
    """Returns the seed of a stage, different for each stage and seed of the config."""
    return self.config.seed * len(config_lib.STAGES) + config_lib.STAGES.index(stage)

  def model(self, stage: str) -> Model:
    """Returns the functions of the model that a stage trains."""
    models = self.inputs.models
    return models.teacher if stage == "teacher" else models.student

  def batches(
      self,
      stage: str,
      section: ml_collections.ConfigDict,
      *,
      split: str = "train",
      budgets: tuple[float, ...] = (),
      batch_size: int | None = None,
  ) -> BatchIterator:
    """Opens a stage's endless batches of a split; the default size is `section.batch_size`."""
    return self.inputs.batches(
        split, batch_size=batch_size or section.batch_size, seed=self.seed(stage), budgets=budgets
    )

  @property
  def pair_stage(self) -> str:
    """The stage whose student is the pair's: `worth` if it is done, else `wheels`."""
    return "worth" if self.workdir.summary("worth") else "wheels"

  def runner(self, *splits: str) -> Runner:
    """Opens splits to decode them with any policy."""
    return Runner(
        self.config,
        self.inputs.models,
        self.mesh,
        self.inputs.tokenizer,
        self.params("teacher"),
        sources={split: self.inputs.source(split) for split in splits},
        tokenised={split: self.inputs.tokenised(split) for split in splits},
    )

  @functools.cache  # noqa: B019  one run per process
  def params(self, stage: str) -> Params:
    """Loads the parameters of a finished stage as `load` does, and keeps them in memory."""
    return self.load(stage)

  def load(self, stage: str) -> Params:
    """Loads the parameters of a finished stage onto the mesh, as the run computes with them.

    Raises:
      ValueError: if the stage is not done, or its results are damaged.
    """
    params = self.stored(stage)
    return with_int8(params) if stage == "teacher" and self.config.teacher.int8 else params

  def stored(self, stage: str) -> Params:
    """Loads the parameters of a finished stage onto the mesh, as the stage left them.

    Raises:
      ValueError: if the stage is not done, or its results are damaged.
    """
    model = self.model(stage)
    if stage == "teacher" and config_models.teacher_is_published(self.config):
      return config_models.published_params(self.config, "teacher", model)
    folder = self.workdir.folder(stage)
    if self.workdir.summary(stage) is None:
      raise ValueError(
          f"stage {stage!r} is needed and not done, {folder} has no summary.json: add it to "
          "config.stages"
      )
    return checkpoint.load_params(folder / "params", model.placed(model.shapes))


def starting_params(run: Run, who: str, stage: str) -> Params:
  """Makes the initial parameters: published or fresh, with heads that are always fresh.

  Args:
    run: the run.
    who: "student" or "teacher".
    stage: the stage that starts; its seed draws the fresh parameters.

  Returns:
    Float32 parameters.
  """
  model = run.model(stage)
  model = build(dataclasses.replace(model.config, param_dtype="float32"), model.layout)
  key, shardings = jax.random.key(run.seed(stage)), model.shardings(model.shapes)
  if not run.config[who].pretrained:
    return jax.jit(model.init, out_shardings=shardings)(key)
  params = config_models.published_params(run.config, who, model)
  if model.config.gate == "token":
    params = clear_tau(params, model.config)

  def heads_of(tree: Params) -> Params:
    return {name: head for name, head in tree.items() if name in HEADS}

  heads = jax.jit(lambda key: heads_of(model.init(key)), out_shardings=heads_of(shardings))
  return {**params, **heads(key)}


def fit(
    run: Run,
    name: str,
    section: ml_collections.ConfigDict,
    *,
    purpose: str,
    start: Callable[[], Params],
    objective: step_lib.Objective,
    frozen: Params | None = None,
    scores: Callable[[], ScoredSplit] | None = None,
    budgets: tuple[float, ...] = (),
    splits: tuple[str, ...] = ("train",),
    rollout: Callable[..., Any] | None = None,
    duals: Float[Array, " K"] | None = None,
    update_duals: Callable[..., Any] | None = None,
    finish: Callable[[TrainState], TrainState] | None = None,
) -> None:
  """Trains a stage to its end, from its newest checkpoint if there is one; skips a finished stage.

  Args:
    run: the run.
    name: name of the stage.
    section: its section of the config.
    purpose: what the stage is for, in a line for the terminal.
    start: makes the initial parameters.
    objective: the loss to minimise; see `training.step`.
    frozen: parameters that the objective reads but does not train.
    scores: opens what the teacher gave to the sequences, for an objective that reads that instead.
    budgets: budgets stated in the batches' instructions; () for none.
    splits: splits of the data that the stage reads; their fingerprints are recorded with the stage.
    rollout: `(params, frozen, batch, key) -> data`, makes the objective's data from a batch.
    duals: initial prices at the knots; None without budgets.
    update_duals: `(duals, data) -> duals`.
    finish: changes the last state before it is saved.

  Raises:
    loop.NonFiniteError: if training diverged.
  """
  if run.workdir.summary(name) is not None:
    return
  print_line(name, purpose)
  data = {TRAINING_TEXT: run.inputs.text_fingerprint("train")}
  folder = run.workdir.begin(name, data=data | {s: run.inputs.fingerprint(s) for s in splits})
  scored = scores() if scores is not None else None
  optimizer = optim.make_optimizer(section)
  create = functools.partial(state_lib.create, optimizer=optimizer, ema=section.ema_decay > 0)
  params, base, scale = _trained(run, name, start())
  shardings = run.model(name).shardings(jax.eval_shape(create, params, duals=duals))
  state = jax.jit(create, out_shardings=shardings)(params, duals=duals)
  del params

  def whole(params: Params, base: Params | None) -> Params:
    return params if base is None else low_rank.combined(params, base, scale=scale)

  def of_whole(params: Params, frozen: Any, *args: Any) -> Any:
    base, others = frozen
    return objective(whole(params, base), others, *args)

  def prepare(state: TrainState, batch: Batch, key: jax.Array) -> Any:
    batch = devices.shard_batch(run.mesh, batch if scored is None else scored.fill(batch))
    if rollout is None:
      return batch
    params = whole(state.params, base)
    params = params if state.duals is None else with_duals(params, state.duals)
    return rollout(params, frozen, batch, key)

  result = loop.run_stage(
      name,
      state=state,
      frozen=(base, frozen),
      key=jax.random.key(run.seed(name)),
      prepare=prepare,
      step_fn=step_lib.make_train_step(
          of_whole,
          optimizer,
          microbatches=section.microbatches,
          ema_decay=section.ema_decay,
          update_duals=update_duals,
          shardings=shardings,
      ),
      batches=run.batches(name, section, budgets=budgets),
      steps=section.steps,
      log_every=section.log_every,
      checkpoint_every=section.checkpoint_every,
      directory=folder,
      keep=run.config.checkpoint.keep,
  )
  state = result.state if base is None else _merged(run.model(name), result.state, base, scale)
  if finish is not None:
    state = finish(state)
    loop.check_finite(name, section.steps, state)
  checkpoint.save_params(folder / "params", state.result())
  summary = {**result.summary, "num_params": num_params(state.params)}
  if state.duals is not None:
    summary["duals"] = processes.whole(state.duals).tolist()
  run.workdir.finish(name, summary)


def _trained(run: Run, stage: str, params: Params) -> tuple[Params, Params | None, float]:
  """Divides params into those that a stage trains and the frozen ones, None if it trains all.

  The third is the scale of a change of low rank.
  """
  rank = 0 if stage == "teacher" else run.config.student.lora_rank
  if not rank:
    return params, None, 1.0
  key = jax.random.fold_in(jax.random.key(run.seed(stage)), 1)
  draw = functools.partial(low_rank.draw, whole=HEADS, rank=rank)
  shardings = run.model(stage).shardings(jax.eval_shape(draw, params, key))
  trained = jax.jit(draw, out_shardings=shardings)(params, key)
  print_line(stage, f"trains {num_params(trained):,} of {num_params(params):,} parameters")
  scale = run.config.student.lora_alpha / rank
  return trained, low_rank.frozen_of(params, whole=HEADS), scale


def _merged(model: Model, state: TrainState, base: Params, scale: float) -> TrainState:
  """Returns the state with ordinary parameters; its optimizer's state is that of the changes."""
  fn = functools.partial(low_rank.merged, scale=scale)
  merge = jax.jit(fn, out_shardings=model.shardings(model.shapes))
  params, average = state.params, state.ema_params
  return state._replace(
      params=merge(params, base), ema_params=None if average is None else merge(average, base)
  )
