"""What a config may hold: unknown fields and impossible values are refused with the remedy."""

from collections.abc import Callable
import dataclasses
import difflib
import itertools

import ml_collections

from kdtw_jax.config.defaults import STAGES, defaults


@dataclasses.dataclass(frozen=True)
class _Rule:
  field: str
  holds: Callable[[object], bool]
  remedy: str


def _one_of(field: str, *choices: str) -> _Rule:
  return _Rule(field, lambda v: v in choices, f"must be one of {', '.join(choices)}")


def _at_least(field: str, low: float | int) -> _Rule:
  return _Rule(field, lambda v: v >= low, f"must be >= {low}")


def _within(field: str, low: float, high: float) -> _Rule:
  return _Rule(field, lambda v: low <= v <= high, f"must lie in [{low}, {high}]")


def _training_rules(stage: str) -> list[_Rule]:
  return [
      _at_least(f"{stage}.steps", 0),
      _at_least(f"{stage}.batch_size", 1),
      _one_of(f"{stage}.optimizer", "adamw", "muon", "adafactor"),
      _Rule(f"{stage}.learning_rate", lambda v: v > 0, "must be > 0"),
      _at_least(f"{stage}.warmup_steps", 0),
      _at_least(f"{stage}.log_every", 1),
      _at_least(f"{stage}.checkpoint_every", 1),
      _within(f"{stage}.ema_decay", 0.0, 0.99999),
      _Rule(f"{stage}.max_grad_norm", lambda v: v > 0, "must be > 0"),
      _at_least(f"{stage}.readout_chunk", 0),
  ]


def _path_consistency_rules(stage: str) -> list[_Rule]:
  return [
      _one_of(f"{stage}.value", "head", "logsumexp"),
      _one_of(f"{stage}.off_policy", "reference", "teacher"),
      _Rule(f"{stage}.alpha", lambda v: v > 0, "must be > 0"),
      _within(f"{stage}.gamma", 0.0, 1.0),
      _at_least(f"{stage}.segment_length", 0),
      _at_least(f"{stage}.huber", 0.0),
      _within(f"{stage}.on_policy_fraction", 0.0, 1.0),
      _at_least(f"{stage}.rollout_temperature", 0.0),
      _at_least(f"{stage}.value_warmup_steps", 0),
  ]


def _is_increasing_shares(values) -> bool:
  return all(0 <= b <= 1 for b in values) and all(a < b for a, b in itertools.pairwise(values))


_RULES = (
    _Rule(
        "stages",
        lambda v: len(v) > 0 and set(v) <= set(STAGES),
        f"must be a non-empty selection of {', '.join(STAGES)}",
    ),
    _one_of("data.source", "phrasebook", "text", "jsonl", "tfds"),
    _one_of("data.over_long", "drop", "truncate"),
    _Rule(
        "data.task",
        lambda v: v == v.strip().rstrip(":") and "{" not in v,
        "must be the instruction alone, without colon, braces or spaces around it",
    ),
    _Rule(
        "data.buckets",
        lambda v: len(v) > 0 and all(len(b) == 2 and min(b) > 1 for b in v),
        "must be (source, target) pairs of lengths > 1",
    ),
    _at_least("data.prompt_length", 0),
    _one_of("tokenizer.kind", "unigram", "bpe"),
    _at_least("tokenizer.vocab_size", 32),
    _Rule(
        "budgets.knots",
        lambda v: len(v) > 1 and _is_increasing_shares(v),
        "must be two or more increasing shares in [0, 1]",
    ),
    _Rule(
        "budgets.train",
        lambda v: len(v) > 0 and _is_increasing_shares(v),
        "must be increasing shares in [0, 1]",
    ),
    _one_of("student.model.gate", "token", "mlp", "difficulty_price"),
    *(
        _one_of(f"{who}.model.{name}", "float32", "bfloat16")
        for who in ("student", "teacher")
        for name in ("dtype", "param_dtype")
    ),
    _Rule(
        "student.model.param_dtype",
        lambda v: v == "float32",
        "must be float32: the student's parameters are in training",
    ),
    _Rule("student.model.gate_alpha", lambda v: v > 0, "must be > 0"),
    *_training_rules("teacher.train"),
    *_training_rules("sft"),
    *_training_rules("warm_start"),
    *_training_rules("distillation"),
    *_path_consistency_rules("distillation"),
    *_training_rules("wheels"),
    *_path_consistency_rules("wheels"),
    _one_of("wheels.gate_credit", "sampled", "expected_kl", "expected_gap"),
    _one_of("wheels.gate_regression", "advantage", "probability"),
    _Rule(
        "budgets.seen",
        lambda v: len(v) > 0 and _is_increasing_shares(v),
        "must be increasing shares in [0, 1]",
    ),
    _Rule("budgets.held_out", _is_increasing_shares, "must be increasing shares in [0, 1]"),
    _Rule(
        "evaluation.compare_at",
        lambda v: len(v) > 0 and _is_increasing_shares(v),
        "must be increasing shares in [0, 1]",
    ),
    _Rule(
        "evaluation.baseline_students",
        lambda v: "wheels" in v and set(v) <= {"sft", "warm_start", "distillation", "wheels"},
        "must name wheels, and else only sft, warm_start, distillation",
    ),
    _within("wheels.explore", 0.0, 1.0),
    _at_least("calibration.steps", 0),
    _at_least("decode.max_length", 1),
    _at_least("decode.chunk", 0),
    _at_least("evaluation.batch_size", 1),
    _one_of("evaluation.metric", "bleu", "rouge"),
    _at_least("checkpoint.keep", 1),
)


def _lookup(config: ml_collections.ConfigDict, field: str):
  for name in field.split("."):
    config = config[name]
  return config


def validate(config: ml_collections.ConfigDict) -> None:
  """Refuses unknown fields and impossible values.

  Args:
    config: a dictionary with the fields of `defaults()`.

  Raises:
    ValueError: names the field, its value and the remedy.
  """
  _check_same_fields(config.to_dict(), defaults().to_dict(), "config")
  for rule in _RULES:
    value = _lookup(config, rule.field)
    if not rule.holds(value):
      raise ValueError(f"config.{rule.field}={value!r}: {rule.remedy}")
  both = sorted(set(config.budgets.train) & set(config.budgets.held_out))
  if both:
    raise ValueError(
        f"config.budgets.held_out={both} also in config.budgets.train: remove them "
        "from one of the two, or the held-out figures mean nothing"
    )
  if config.data.source != "phrasebook" and not (config.data.path or config.data.tfds_name):
    raise ValueError(
        f"config.data.path='': data.source={config.data.source!r} needs a path "
        "(--config.data.path=...), or data.tfds_name for source tfds"
    )
  for name in ("teacher.train", "sft", "warm_start", "distillation", "wheels"):
    stage = _lookup(config, name)
    if stage.optimizer == "adafactor" and stage.weight_decay:
      raise ValueError(
          f"config.{name}.weight_decay={stage.weight_decay}: must be 0 with "
          "adafactor, whose decay does not follow the learning rate"
      )
  longest = max(target for _, target in config.data.buckets)
  if longest > config.decode.max_length:
    raise ValueError(
        f"config.decode.max_length={config.decode.max_length}: must be at least the "
        f"longest target bucket, {longest}"
    )


# Where a config file may add names: those that somebody registers.
_OPEN = {"config.evaluation.dials", *(f"config.{s}.losses" for s in STAGES)}


def _check_same_fields(given: dict, known: dict, path: str) -> None:
  for name, value in given.items():
    if name not in known and path in _OPEN:
      continue
    if name not in known:
      close = difflib.get_close_matches(name, known, n=1)
      hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(known))}"
      raise ValueError(f"{path}.{name}={value!r}: unknown field; {hint}")
    if isinstance(known[name], dict):
      _check_same_fields(value, known[name], f"{path}.{name}")
