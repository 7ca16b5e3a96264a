"""Shared parts of the config files: arguments, published models, summarization, sizes for tests.

Sizes are meant for one GPU of 80 GB or a TPU host of four chips.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import ml_collections

from configs import objectives
from kdtw_jax.config import defaults, fast_compile_flags

TEACHER, STUDENT = "google/flan-t5-xl", "google/flan-t5-small"


class Argument(NamedTuple):
  """The parsed argument of a config file.

  Attributes:
    mode: one of the file's modes, or "" for the default.
    options: the file's options by name, given or default.
  """

  mode: str
  options: ml_collections.ConfigDict


def parse_arg(arg: str | None, modes: Iterable[str] = (), **options: str) -> Argument:
  """Parses an argument such as `smoke` or `pair=en-fr,student=t5-base,smoke`.

  Args:
    arg: the text after the colon; None or "" if there is none.
    modes: modes that the config file offers besides the default "".
    **options: options that it offers, with their defaults.

  Returns:
    The mode and the options.

  Raises:
    ValueError: if the file does not offer a mode or option, or there are two modes.
  """
  modes, found, mode = tuple(modes), dict(options), ""
  offered = ", ".join([*modes, *(f"{name}=..." for name in options)])
  for part in filter(None, (arg or "").split(",")):
    name, is_option, value = part.partition("=")
    if is_option and name in options and value:
      found[name] = value
    elif not is_option and part in modes and not mode:
      mode = part
    else:
      raise ValueError(
          f"config argument {part!r} is unknown or said twice; this file offers " f"{offered}"
      )
  return Argument(mode, ml_collections.ConfigDict(found))


def from_published(config: ml_collections.ConfigDict, *, teacher: str, student: str) -> None:
  """Makes a config start from two published models, in place.

  The teacher is used as published, in bfloat16. With `teacher.train.steps` above 0 it is first
  trained on the references by Adafactor, whose state is small next to three billion parameters.

  Args:
    config: a config from `defaults`.
    teacher: folder or hub id of the teacher.
    student: folder or hub id of the student, with the same vocabulary.
  """
  config.teacher.pretrained, config.student.pretrained = teacher, student
  config.data.prompt_length = 0
  config.teacher.model.update(dtype="bfloat16", param_dtype="bfloat16", dropout_rate=0.1)
  config.teacher.train.update(
      steps=0,
      optimizer="adafactor",
      learning_rate=1e-3,
      batch_size=32,
      warmup_steps=500,
      label_smoothing=0.0,
      readout_chunk=32,
  )
  config.student.model.update(dtype="bfloat16", dropout_rate=0.1, gate_hidden=256, value_hidden=256)
  for stage in (config.sft, config.warm_start):
    stage.update(
        steps=20000,
        batch_size=64,
        learning_rate=5e-4,
        warmup_steps=1000,
        ema_decay=0.999,
        readout_chunk=32,
        checkpoint_every=1000,
    )
  config.sft.label_smoothing = 0.0
  for stage in (config.distillation, config.wheels):
    stage.update(
        steps=3000,
        batch_size=64,
        learning_rate=1e-4,
        head_learning_rate=1e-3,
        value_warmup_steps=300,
        warmup_steps=300,
        ema_decay=0.99,
        readout_chunk=32,
    )
  config.wheels.update(path_consistency=0.05, rollout_temperature=0.5)
  config.wheels.losses.forward_kl.weight = 1.0
  config.evaluation.update(batch_size=64, baseline_students=("wheels",), tolerances=(2.0,))
  sweep_every_method(config)


def summarize(
    config: ml_collections.ConfigDict, *, task: str, max_source: int = 1024, max_target: int = 128
) -> None:
  """Sets up long sources and short targets, truncated and scored by ROUGE, in place.

  Args:
    config: a config from `defaults`.
    task: the instruction that both models read.
    max_source: largest length of a source in tokens, without the instruction.
    max_target: largest length of a target in tokens.
  """
  lengths = sorted({max_source // 4, max_source // 2, max_source})
  config.data.update(
      task=task, over_long="truncate", buckets=tuple((length, max_target) for length in lengths)
  )
  config.decode.max_length = max_target
  config.evaluation.metric = "rouge"


def summarization(
    arg: str | None,
    *,
    name: str,
    source_field: str,
    target_field: str,
    task: str = "summarize",
    max_source: int = 1024,
    max_target: int = 128,
    num_test: int = 0,
    **modes: Callable[[ml_collections.ConfigDict], None],
) -> ml_collections.ConfigDict:
  """Makes the config of a tensorflow-datasets summarization data set, with published models.

  Args:
    arg: the config file's argument: `teacher=`, `student=`, `objective=`, `smoke`.
    name: name of the data set.
    source_field: feature with the text.
    target_field: feature with the summary.
    task: the instruction that both models read.
    max_source: largest length of a text in tokens, without the instruction.
    max_target: largest length of a summary in tokens.
    num_test: number of test examples to score; 0 for all.
    **modes: the file's modes besides `smoke`, each a function that changes the config.

  Returns:
    The config.
  """
  modes = {"smoke": shrink_published, **modes}
  args = parse_arg(arg, modes, teacher=TEACHER, student=STUDENT, objective="")
  config = defaults()
  with config.unlocked():
    config.name = name
    from_published(config, teacher=args.options.teacher, student=args.options.student)
    summarize(config, task=task, max_source=max_source, max_target=max_target)
    config.data.update(
        source="tfds",
        tfds_name=name,
        source_field=source_field,
        target_field=target_field,
        num_train=0,
        num_validation=500,
        num_test=num_test,
    )
    if args.mode:
      modes[args.mode](config)
    objectives.use(config, args.options.objective)
  return config


def sweep_every_method(config: ml_collections.ConfigDict) -> None:
  """Sweeps all registered policies, each at the five settings that it has, in place.

  The handovers have five budgets, and 0, at which the student is alone.
  """
  config.evaluation.update(methods=("all",), ours=("worth", "handover"))


def enlarge(config: ml_collections.ConfigDict) -> None:
  """Sets up a base-sized teacher, a small student, bfloat16 and larger batches, in place.

  For models that are trained from scratch on one large GPU.
  """
  for model in (config.teacher.model, config.student.model):
    model.dtype = "bfloat16"
  config.teacher.model.update(
      d_model=512,
      d_ff=1024,
      num_heads=8,
      d_kv=64,
      num_encoder_layers=6,
      num_decoder_layers=6,
      dropout_rate=0.3,
  )
  config.teacher.train.update(steps=6000, batch_size=512, learning_rate=1e-3, warmup_steps=1000)
  config.student.model.update(d_model=128, d_ff=512, num_heads=4, d_kv=32)
  for stage in (config.sft, config.warm_start):
    stage.update(steps=6000, batch_size=512)
  for stage in (config.distillation, config.wheels):
    stage.update(steps=1500, batch_size=512)


def shrink(config: ml_collections.ConfigDict) -> None:
  """Shrinks a config to the smallest run through every stage, in place; for tests.

  Constants of a step are equal in all tasks, which then share its compiled program.
  """
  config.xla_flags = fast_compile_flags()
  config.teacher.model.update(
      d_model=32,
      d_ff=64,
      num_encoder_layers=1,
      num_decoder_layers=1,
      num_heads=2,
      d_kv=16,
      dropout_rate=0.0,
  )
  config.student.model.update(
      d_model=16,
      d_ff=32,
      num_encoder_layers=1,
      num_decoder_layers=1,
      num_heads=2,
      d_kv=8,
      gate_hidden=16,
      value_hidden=16,
  )
  stages = (config.teacher.train, config.sft, config.warm_start, config.distillation, config.wheels)
  for stage in stages:
    stage.update(steps=8, batch_size=16, warmup_steps=2, log_every=4, checkpoint_every=4)
    stage.ema_decay = 0.95
  config.wheels.max_difficulty = 4.0
  config.distillation.value_warmup_steps = config.wheels.value_warmup_steps = 2
  config.calibration.update(steps=2, batch_size=16)
  config.worth.update(num_sources=16, batch_size=16, steps=4)
  config.budgets.update(train=(0.0, 0.1, 0.2, 0.3), seen=(0.0, 0.2), held_out=(0.15,))
  config.decode.paces = (1.0,)
  config.evaluation.methods = ("random", "max_prob", "oracle", "speculative", "lenient", "worth")
  config.evaluation.dials.update(
      random=(0.1, 0.3),
      max_prob=(0.3, 0.6),
      oracle=(0.5,),
      speculative=(2,),
      lenient=(0.3,),
      worth=(0.5,),
  )
  config.evaluation.update(
      ours=("handover",),
      offset_shares=(0.3,),
      tolerances=(2.0,),
      compare_at=(0.2,),
      num_latency=2,
      time_every_method=False,
      num_resamples=50,
      num_samples=4,
      batch_size=1,
      baseline_students=("wheels",),
      throughput_batch=1,
  )


def shrink_published(config: ml_collections.ConfigDict) -> None:
  """Applies `shrink`, with short texts and one baseline of each kind, in place; for tests.

  The default models are too large and are left out. Unless you name small ones, both models start
  from random weights. The teacher is trained only if `teacher.train.steps` is set.
  """
  shrink(config)
  config.data.update(num_train=64, num_validation=16, num_test=8, buckets=((48, 24),))
  config.evaluation.methods = ("random", "speculative", "prompt_lookup")
  config.evaluation.dials.prompt_lookup = (2,)
  config.evaluation.update(offset_shares=(), tolerances=())
  config.decode.max_length = 24
  config.teacher.train.steps = 0
  for section, default in ((config.teacher, TEACHER), (config.student, STUDENT)):
    section.model.dtype = "float32"
    section.pretrained = "" if section.pretrained == default else section.pretrained
