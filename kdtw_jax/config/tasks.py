"""Settings that several config files share: published models, summarization, every method's dial.

Sizes are meant for one GPU of 80 GB or a TPU host of four chips.
"""

from collections.abc import Callable

import ml_collections

from kdtw_jax.config.argument import parse_arg
from kdtw_jax.config.defaults import defaults, shrink

TEACHER, STUDENT = "google/flan-t5-xl", "google/flan-t5-small"


def from_published(config: ml_collections.ConfigDict, *, teacher: str, student: str) -> None:
  """Begins with two published models, in place.

  The teacher is taken as it is, in bfloat16; `teacher.train.steps` above 0 trains it on the
  references first, by Adafactor, whose state is small beside three billion parameters.

  Args:
    config: from `defaults`.
    teacher: folder or hub id of the teacher.
    student: the same for the student, of the same vocabulary.
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
  config.wheels.update(path_consistency=0.05, forward_kl=1.0, rollout_temperature=0.5)
  config.evaluation.update(batch_size=64, baseline_students=("wheels",), tolerances=(2.0,))
  sweep_every_method(config)


def summarize(
    config: ml_collections.ConfigDict, *, task: str, max_source: int = 1024, max_target: int = 128
) -> None:
  """Long sources and short targets, cut to length, scored by ROUGE; in place.

  Args:
    config: from `defaults`.
    task: the instruction that both models read.
    max_source: tokens of a source, the instruction not counted.
    max_target: tokens of a target.
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
  """The config of a summarization data set of tensorflow-datasets, with published models.

  Args:
    arg: the config file's argument: `teacher=`, `student=`, `smoke`.
    name: of the data set.
    source_field: its feature with the text.
    target_field: its feature with the summary.
    task: the instruction that both models read.
    max_source: tokens of a text, the instruction not counted.
    max_target: tokens of a summary.
    num_test: test examples that are scored; 0 for all.
    **modes: the file's own modes besides `smoke`, each a function that changes the config.

  Returns:
    The config.
  """
  modes = {"smoke": shrink_published, **modes}
  args = parse_arg(arg, modes, teacher=TEACHER, student=STUDENT)
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
  return config


def sweep_every_method(config: ml_collections.ConfigDict) -> None:
  """Gives every way to spend a teacher call a few settings of its dial, in place."""
  ask, lenience = (0.1, 0.2, 0.3, 0.45, 0.65), (0.05, 0.15, 0.3, 0.6)
  config.evaluation.dials.update(
      max_prob=ask,
      entropy=(4.0, 3.0, 2.2, 1.5, 0.8),
      margin=(0.02, 0.06, 0.15, 0.3, 0.5),
      oracle=(4.0, 2.0, 1.0, 0.3, 0.0),
      speculative=(2, 3, 4, 6),
      periodic=(0.1, 0.2, 0.3, 0.5),
      prefix=(1, 2, 4, 7),
      span_max_prob=(0.05, 0.1, 0.2, 0.3),
      prompt_lookup=(2,),
      lenient=lenience,
      lenient_8=lenience,
      typical=(0.02, 0.1, 0.3, 0.6),
      cascade_chow=(0.3, 0.6, 0.8),
      cascade_diff=(0.0, 0.2, 0.4),
      cascade_opt=(0.1, 0.3, 0.6),
      cascade_token_v1=(0.2, 0.5, 0.8),
      cascade_token_v2=(0.2, 0.4, 0.7),
      cascade_token_v3=(0.4, 0.7, 0.9),
      big_little=(0.1, 0.2, 0.35, 0.5),
      verify_max_prob=(0.05, 0.1, 0.2, 0.3),
      verify_max_prob_end=(0.05, 0.1, 0.2, 0.3),
      verify_margin_end=(0.02, 0.06, 0.15),
      verify_end=(4.0, 2.0, 1.0, 0.4),
  )


def shrink_published(config: ml_collections.ConfigDict) -> None:
  """For tests: `shrink`, texts of a few tokens, and one baseline of each kind.

  The default models are left out, as too large: name small ones, or both begin from nothing. A
  teacher is trained only where `teacher.train.steps` is set.
  """
  shrink(config)
  config.data.update(num_train=64, num_validation=16, num_test=8, buckets=((48, 24),))
  config.evaluation.dials.update(max_prob=(), oracle=(), lenient=(), prompt_lookup=(2,))
  config.evaluation.update(offset_shares=(), tolerances=())
  config.decode.max_length = 24
  config.teacher.train.steps = 0
  for section, default in ((config.teacher, TEACHER), (config.student, STUDENT)):
    section.model.dtype = "float32"
    section.pretrained = "" if section.pretrained == default else section.pretrained
