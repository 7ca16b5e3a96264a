"""Checks before the first step, so that no error appears only in a later stage."""

import ml_collections

from kdtw_jax import config as config_lib
from kdtw_jax import data, devices, losses
from kdtw_jax.config_models import teacher_is_published
from kdtw_jax.evaluation import methods
from kdtw_jax.models import Model, num_params
from kdtw_jax.stages.stage import Run
from kdtw_jax.terminal import print_line

# What each stage goes on from.
_NEEDS = {
    "warm_start": "teacher",
    "distillation": "warm_start",
    "wheels": "warm_start",
    "worth": "wheels",
    "evaluation": "wheels",
}
# The stages that read a split; none for one that is always read.
_READ_BY = {"train": set(), "validation": {"wheels", "worth", "evaluation"}, "test": {"evaluation"}}
_NEEDS_LOSSES = ("warm_start", "distillation", "wheels")


def check_inputs(run: Run) -> None:
  """Checks the data, the models, the instructions and every name in the config; writes nothing.

  Raises:
    FileNotFoundError: if data or a published model are missing.
    ValueError: if something does not fit; names the field, the value and the remedy.
  """
  config = run.config
  for name in _NEEDS_LOSSES:
    losses.weighted_losses(
        config[name].losses.to_dict(),
        field=f"config.{name}.losses",
        of_sequences=name != "warm_start",
    )
  methods.check(config.evaluation)
  _check_stages(run)
  _check_splits(run)
  _check_batch_sizes(run, len(run.inputs.source("train")))
  student, teacher = run.inputs.models
  for who, model in (("student", student), ("teacher", teacher)):
    check_mesh(config, who, model)
  print_line(
      "models",
      f"student {num_params(student.shapes):,}, teacher {num_params(teacher.shapes):,} parameters;"
      f" instructions of up to {run.inputs.prompt_length} tokens",
  )


def check_tokens(run: Run) -> None:
  """Checks that enough of the training split is left as tokens, which the workdir then keeps.

  Raises:
    OSError: if the tokens cannot be written.
    ValueError: if a batch is larger than what is left.
  """
  if _to_train(run):
    _check_batch_sizes(run, len(run.inputs.tokenised("train").example_id))


def splits(run: Run) -> list[str]:
  """Returns the splits that the run's stages read."""
  stages = set(run.config.stages)
  return [split for split, needed_by in _READ_BY.items() if not needed_by or stages & needed_by]


def _check_splits(run: Run) -> None:
  """Opens the splits that the stages read, prints their sizes, and rejects too small ones."""
  parts = devices.batch_parts(run.mesh)
  sizes = {split: len(run.inputs.source(split)) for split in splits(run)}
  divided = data.divided_splits(run.config.data)
  note = f"; {' and '.join(divided)} held out of train" if divided else ""
  said = ", ".join(f"{split} {size:,}" for split, size in sizes.items())
  print_line("data", f"examples: {said}{note}")
  for split, size in sizes.items():
    if split != "train" and size < parts:
      raise ValueError(
          f"split {split!r}: has {size} examples for {parts} devices along the batch; give more, or"
          " lower config.mesh.data or config.mesh.fsdp"
      )


def _check_stages(run: Run) -> None:
  """Rejects stages that lack one they go on from, or that a later one was made without."""
  wanted, done = run.config.stages, run.workdir.summary
  taken = {"teacher"} if teacher_is_published(run.config) else set()
  for stage, needed in _NEEDS.items():
    if stage in wanted and not done(stage) and needed not in taken and not done(needed):
      if needed == "teacher" and run.config.teacher.checkpoint:
        raise ValueError(
            f"config.teacher.checkpoint={run.config.teacher.checkpoint!r}: has no finished teacher,"
            f" {run.workdir.folder('teacher')} has no summary.json: give the workdir of a run that"
            " trained one"
        )
      if needed not in wanted:
        raise ValueError(
            f"stage {stage!r} needs stage {needed!r}, which is not done: add it to config.stages"
        )
  if "evaluation" in wanted and not ("worth" in wanted or done("worth")):
    for name in methods.reading_worth(run.config.evaluation):
      raise ValueError(
          f"config.evaluation.methods: {name!r} needs stage 'worth', which is not done: add it to "
          "config.stages, or leave the method out"
      )
  if "distillation" in wanted and not done("distillation") and run.workdir.begun("wheels"):
    raise ValueError(
        "stage 'wheels' was made without 'distillation', and would stay as it is: delete"
        f" {run.workdir.folder('wheels')}, or leave 'distillation' out of config.stages"
    )


def _to_train(run: Run) -> dict[str, ml_collections.ConfigDict]:
  """Returns the sections of the stages that will train, by their names in the config."""
  config = run.config
  sections = {
      name: (config.teacher.train if name == "teacher" else config[name])
      for name in config_lib.STAGES
      if name not in ("tokenizer", "evaluation")
  }
  trained = config.teacher.train.steps or not config.teacher.pretrained
  if config.teacher.checkpoint or not trained:
    del sections["teacher"]
  return {
      f"config.{'teacher.train' if name == 'teacher' else name}": section
      for name, section in sections.items()
      if name in config.stages and run.workdir.summary(name) is None
  }


def check_mesh(config: ml_collections.ConfigDict, who: str, model: Model) -> None:
  """Rejects a mesh that does not divide a model; rows of the vocabulary may stay whole."""
  for axis, sizes in {"fsdp": ("d_model",), "tensor": ("num_heads", "d_ff")}.items():
    parts = model.layout.mesh.shape[axis] if model.layout else 1
    if axis not in config[who].sharding.split("+"):
      continue
    for name in sizes:
      of_both = (getattr(of, name) for of in (model.config, model.config.encoder_config))
      size = next((size for size in of_both if size % parts), None)
      if size is not None:
        pretrained = config[who].pretrained
        owner = f"of config.{who}.pretrained={pretrained!r}" if pretrained else "of the model"
        field = name if pretrained else f"config.{who}.model.{name}"
        raise ValueError(
            f"config.mesh.{axis}={parts}: does not divide {field}={size} {owner}; choose a divisor "
            f"of {size}, or set config.{who}.sharding to leave out {axis}"
        )


def _check_batch_sizes(run: Run, num_examples: int) -> None:
  parts, sizes = devices.batch_parts(run.mesh), {}
  for name, section in _to_train(run).items():
    sizes[f"{name}.batch_size"] = size = section.batch_size
    if size > num_examples:
      raise ValueError(
          f"{name}.batch_size={size}: the training split has {num_examples} examples; lower it, or"
          " give more"
      )
    microbatches = section.get("microbatches", 1)
    if microbatches > 1 and size % (microbatches * parts):
      raise ValueError(
          f"{name}.microbatches={microbatches}: {name}.batch_size={size} must divide by it times"
          f" the {parts} devices along the batch; change one of the two"
      )
  stored = [n for n in ("warm_start", "distillation") if run.config[n].teacher_scores == "stored"]
  if any(f"config.{name}.batch_size" in sizes for name in stored):
    sizes["config.scores.batch_size"] = run.config.scores.batch_size
  if "config.wheels.batch_size" in sizes:
    sizes["config.calibration.batch_size"] = run.config.calibration.batch_size
  if "evaluation" in run.config.stages:
    sizes["config.evaluation.batch_size"] = run.config.evaluation.batch_size
  for field, size in sizes.items():
    if size % parts:
      raise ValueError(
          f"{field}={size}: must divide by the {parts} devices along the batch; change it, or"
          " config.mesh.data and config.mesh.fsdp"
      )
