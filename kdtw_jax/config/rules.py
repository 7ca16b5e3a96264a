"""Validation of a config: refuses unknown fields, impossible values and contradictions.

Every error is one line with the field, its value and the remedy. The rules for single fields are in
values.py; the names of policies and losses are checked where they are registered.
"""

from collections.abc import Callable, Collection, Iterator
import difflib
import itertools
from typing import Any

import ml_collections

from kdtw_jax.config import values
from kdtw_jax.config.defaults import STAGES, defaults
from kdtw_jax.config.model_rules import Faults, low_rank_faults, model_faults, num_parameters

_TRAINING = ("teacher.train", "sft", "warm_start", "distillation", "wheels")
_MOST_PARAMETERS = 10**12


def validate(config: ml_collections.ConfigDict) -> None:
  """Checks for unknown or missing fields, impossible values, and contradictions between values.

  Args:
    config: a dictionary with the fields of `defaults()`.

  Raises:
    ValueError: if there is one; names the field, its value and the remedy.
  """
  if not isinstance(config, ml_collections.ConfigDict):
    raise ValueError(
        f"config={values.shown(config)}: must be a ConfigDict: make get_config() modify and return "
        "kdtw_jax.config.defaults()"
    )
  for field, value, default in _leaves(config.to_dict(), defaults().to_dict()):
    if message := values.fault(field, value, default):
      raise ValueError(message)
  for check in _CHECKS:
    for field, remedy in check(config):
      raise ValueError(f"config.{field}={values.shown(lookup(config, field))}: {remedy}")


def lookup(config: ml_collections.ConfigDict, field: str) -> Any:
  """Returns the value of a field such as `data.path`."""
  for name in field.split("."):
    config = config[name]
  return config


def unknown_field(field: str, value: str, name: str, known: Collection[str]) -> str:
  """Returns the message for an unknown field, with the closest known name.

  Args:
    field: full name without "config.".
    value: the value as the message shows it.
    name: the unknown part of the name.
    known: the fields of the section where it was looked up.
  """
  close = difflib.get_close_matches(name, known, n=1)
  hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(known))}"
  return f"config.{field}={value}: unknown field; {hint}"


# Sections to which a config file may add registered names.
_OPEN = {"evaluation.dials", *(f"{stage}.losses" for stage in STAGES)}


def _leaves(given: dict, known: dict, section: str = "") -> Iterator[tuple[str, Any, Any]]:
  """Yields each field with its value and default; raises ValueError for unknown or missing ones."""
  for name, value in given.items():
    field = f"{section}.{name}" if section else name
    if name not in known and section not in _OPEN:
      raise ValueError(unknown_field(field, values.shown(value), name, known))
    if name not in known:
      yield from _registered(field, value)
    elif not isinstance(known[name], dict):
      yield field, value, known[name]
    elif isinstance(value, dict):
      yield from _leaves(value, known[name], field)
    else:
      raise ValueError(
          f"config.{field}={values.shown(value)}: is a section, with the fields "
          f"{', '.join(known[name])}: set one of them"
      )
  if section not in _OPEN and (missing := [name for name in known if name not in given]):
    field = f"{section}.{missing[0]}" if section else missing[0]
    raise ValueError(f"config.{field}: is missing: begin with kdtw_jax.config.defaults()")


def _registered(field: str, value: Any) -> Iterator[tuple[str, Any, Any]]:
  """Yields a policy's dials, or a loss's weight and its options."""
  if field.startswith("evaluation."):
    yield field, value, ()
  elif isinstance(value, dict):
    for name, option in {"weight": None, **value}.items():
      yield f"{field}.{name}", option, 0.0 if name == "weight" else None
  else:
    raise ValueError(
        f"config.{field}={values.shown(value)}: must be a dictionary with the loss's weight and "
        "options, e.g. {'weight': 1.0}"
    )


# Each check yields (field, remedy) for every mistake.
def _budgets(config: ml_collections.ConfigDict) -> Faults:
  """Checks that the knots cover the training budgets, and these all budgets that are evaluated."""
  budgets, rounded = config.budgets, [round(b, 4) for b in config.budgets.train]
  both = [b for b in budgets.held_out if round(b, 4) in rounded]
  if both:
    yield "budgets.held_out", (
        f"{both} also in config.budgets.train: remove them from one of the two, or the held-out "
        "figures mean nothing"
    )
  unseen = [b for b in budgets.seen if round(b, 4) not in rounded]
  if unseen:
    yield "budgets.seen", (
        f"{unseen} not in config.budgets.train: add them there, or move them to "
        "config.budgets.held_out"
    )
  low, high = budgets.knots[0], budgets.knots[-1]
  if not low <= budgets.train[0] <= budgets.train[-1] <= high:
    yield "budgets.knots", (
        f"must cover config.budgets.train, from {budgets.train[0]} to {budgets.train[-1]}"
    )
  for field in ("budgets.held_out", "evaluation.compare_at"):
    stated = lookup(config, field)
    if stated and not budgets.train[0] <= min(stated) <= max(stated) <= budgets.train[-1]:
      yield field, (
          f"must lie within config.budgets.train, from {budgets.train[0]} to "
          f"{budgets.train[-1]}: the student has read no others"
      )


def _schedules(config: ml_collections.ConfigDict) -> Faults:
  """Checks that warm-ups end within their stage and that learning rates decay."""
  for name in _TRAINING:
    stage = lookup(config, name)
    alone = stage.get("value_warmup_steps", 0)  # only the heads learn
    if stage.steps and alone >= stage.steps:
      yield f"{name}.value_warmup_steps", f"must be < config.{name}.steps={stage.steps}"
    if stage.steps and stage.warmup_steps > stage.steps - alone:
      left = f", less value_warmup_steps={alone}" if alone else ""
      yield f"{name}.warmup_steps", (
          f"must be <= {stage.steps - alone}, config.{name}.steps={stage.steps}{left}: the rate "
          "would never reach its peak"
      )
    if stage.final_learning_rate > stage.learning_rate:
      yield f"{name}.final_learning_rate", (
          f"must be <= config.{name}.learning_rate={stage.learning_rate}"
      )
    why = {
        "adafactor": "whose decay does not follow the learning rate",
        "muon": "whose decay spares no norms, biases and duals",
    }.get(stage.optimizer)
    if why and stage.weight_decay:
      yield f"{name}.weight_decay", f"must be 0 with {stage.optimizer}, {why}; or use adamw"


def _losses(config: ml_collections.ConfigDict) -> Faults:
  """Checks that every stage has a loss, and every loss rows."""
  for name in _TRAINING:
    stage = lookup(config, name)
    weights = [loss.weight for loss in stage.get("losses", {}).values()]
    if "losses" in stage and not any([*weights, stage.get("path_consistency", 0.0)]):
      yield f"{name}.losses", "every weight is 0: give one of them a weight above 0"
    if "on_policy_fraction" not in stage:
      continue
    own_rows = round(stage.on_policy_fraction * stage.batch_size)
    if stage.on_policy_fraction and not own_rows:
      yield f"{name}.on_policy_fraction", (
          f"gives the student no row of config.{name}.batch_size={stage.batch_size}: raise one of "
          "the two, or set it to 0"
      )
    lacking = {0: "on_policy", stage.batch_size: "off_policy"}.get(own_rows)
    takes = {f"losses.{n}": loss.get("rows") for n, loss in stage.losses.items() if loss.weight}
    if stage.path_consistency:
      takes["path_consistency"] = stage.consistency_rows
    for field in (field for field, rows in takes.items() if rows and rows == lacking):
      yield f"{name}.{field}", (
          f"takes {lacking} rows, and config.{name}.on_policy_fraction={stage.on_policy_fraction} "
          "leaves none: set the weight to 0, or change the fraction"
      )
  if not config.wheels.on_policy_fraction:
    yield "wheels.on_policy_fraction", (
        "must be > 0: the prices and the asks to come are learned from the student's own rows"
    )
  yield from _values_of_distillation(config.distillation)


def _stored_scores(config: ml_collections.ConfigDict) -> Faults:
  """Checks that a stage with stored scores needs no others of the teacher."""
  for name in ("warm_start", "distillation"):
    stage = config[name]
    if stage.teacher_scores == "live":
      continue
    if stage.get("on_policy_fraction"):
      yield f"{name}.teacher_scores", (
          f"config.{name}.on_policy_fraction={stage.on_policy_fraction} has rows that the student "
          "writes anew: set it to 0, or the scores to live"
      )
    whole = [n for n, loss in stage.losses.items() if loss.weight and n != "cross_entropy"]
    if whole and not config.scores.top_k:
      yield "scores.top_k", (
          f"must be >= 1: config.{name}.losses.{whole[0]} compares distributions, and "
          f"config.{name}.teacher_scores is 'stored'"
      )


def _values_of_distillation(stage: ml_collections.ConfigDict) -> Faults:
  """Checks that values are learned where there are steps for them, and from the rows they need."""
  if not stage.path_consistency:
    if stage.value_warmup_steps:
      yield "distillation.value_warmup_steps", (
          "must be 0 with config.distillation.path_consistency=0: there are no values to learn"
      )
    return
  if stage.average_reward and stage.microbatches > 1:
    yield "distillation.microbatches", (
        "must be 1, or config.distillation.average_reward False: the mean is that of a whole batch"
    )
  if stage.immediate == "expected":
    own_tokens = {
        "consistency_rows": (stage.consistency_rows == "on_policy", "on_policy"),
        "teacher_mixing": (not stage.teacher_mixing, "0"),
        "rollout_temperature": (stage.rollout_temperature > 0, "> 0"),
    }
    for field, (holds, remedy) in own_tokens.items():
      if not holds:
        yield f"distillation.{field}", (
            f"must be {remedy}, or config.distillation.immediate sampled: the expectation is over "
            "the student's own tokens"
        )


def _data(config: ml_collections.ConfigDict) -> Faults:
  """Checks that the source is named and that there are three splits."""
  data = config.data
  own_files = data.source not in ("phrasebook", "tfds")
  if own_files and not data.path.strip():
    what = "the folder of the files" + ", or the id of the hub" * (data.source == "datasets")
    yield "data.path", (
        f"config.data.source={data.source!r} needs a path, {what}: --config.data.path=..."
    )
  if data.held_out and not own_files:
    yield "data.held_out", (
        f"config.data.source={data.source!r} has splits of its own, name them by "
        "config.data.validation_split and test_split: set it to 0"
    )
  if data.source == "tfds" and not data.tfds_name.strip():
    yield "data.tfds_name", (
        "config.data.source='tfds' needs the name of a data set, e.g. wmt14_translate/de-en"
    )
  for split in ("train", "validation", "test"):
    if data.source == "phrasebook" and not data[f"num_{split}"]:
      yield f"data.num_{split}", "the phrasebook is endless, say how many phrases (>= 1)"
    if split != "train" and data[f"{split}_split"] == data.train_split:
      yield f"data.{split}_split", (
          "is the training split: name another, or the figures mean nothing"
      )
  if data.source_field == data.target_field:
    yield "data.target_field", "is the source too: name the field that holds the targets"
  for small, large in itertools.pairwise(data.buckets):
    if tuple(small) == tuple(large) or small[0] > large[0] or small[1] > large[1]:
      yield "data.buckets", (
          f"{tuple(large)} after {tuple(small)}: order the buckets so that neither length ever "
          "shrinks and one grows"
      )
  longest = max(target for _, target in data.buckets)
  if longest > config.decode.max_length:
    yield "decode.max_length", f"must be at least the longest target bucket, {longest}"


def _models(config: ml_collections.ConfigDict) -> Faults:
  """Checks that the models fit a machine and have the heads that the stages need."""
  student, teacher = config.student.model, config.teacher
  if not student.value_heads and {"distillation", "wheels"} & {*config.stages}:
    yield "student.model.value_heads", (
        "must be True: distillation and wheels learn values; or leave both out of config.stages"
    )
  if config.calibration.steps and student.gate != "difficulty_price":
    yield "calibration.steps", (
        f"must be 0 with config.student.model.gate={student.gate!r}, which has no price to "
        "calibrate"
    )
  from_nothing = not (teacher.pretrained or teacher.checkpoint or teacher.train.steps)
  if from_nothing and "teacher" in config.stages:
    yield "teacher.train.steps", (
        "leaves a teacher that knows nothing: train it for some steps, or name "
        "config.teacher.pretrained or config.teacher.checkpoint"
    )
  vocab_size = config.tokenizer.vocab_size
  for who in ("student", "teacher"):
    model, pretrained = config[who].model, config[who].pretrained
    if not pretrained:
      yield from model_faults(who, model)
    if not pretrained and num_parameters(model, vocab_size) > _MOST_PARAMETERS:
      yield f"{who}.model.d_model", (
          f"makes a model of {num_parameters(model, vocab_size):.0e} parameters, most are "
          f"{_MOST_PARAMETERS:.0e}: lower the sizes of config.{who}.model"
      )
  yield from low_rank_faults(config.student)
  known = vocab_size and not (config.student.pretrained or config.tokenizer.path)
  if known and student.gate_top_k > vocab_size:
    yield "student.model.gate_top_k", f"must be <= config.tokenizer.vocab_size={vocab_size}"


def _languages(config: ml_collections.ConfigDict) -> Faults:
  """Checks that a published model is told the language of its outputs if it is told any."""
  languages = {name: config.tokenizer[f"{name}_language"] for name in ("source", "target")}
  published = (
      config.student.pretrained,
      config.teacher.pretrained,
      config.teacher.checkpoint,
      config.tokenizer.path,
  )
  for name, language in languages.items():
    if not language and name == "target" and any(languages.values()):
      yield f"tokenizer.{name}_language", "must be named, as the language of sources is"
    elif language and not any(published):
      yield f"tokenizer.{name}_language", "must be '' without a published model"


def _mesh(config: ml_collections.ConfigDict) -> Faults:
  """Checks that at most one axis of the mesh takes the devices that the others leave."""
  rest = [name for name, size in config.mesh.items() if size == -1]
  for name in rest[1:]:
    yield f"mesh.{name}", f"config.mesh.{rest[0]} is -1 too: give one of them a number of devices"


_CHECKS: tuple[Callable[[ml_collections.ConfigDict], Faults], ...] = (
    _budgets,
    _schedules,
    _losses,
    _stored_scores,
    _data,
    _models,
    _languages,
    _mesh,
)
