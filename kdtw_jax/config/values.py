"""The type and range of each config field, and the message for a value that has neither.

Not here: rules that relate several fields (rules.py).
"""

from collections.abc import Callable, Sequence
import fnmatch
import itertools
import math
import re
from typing import Any, NamedTuple

import ml_collections

from kdtw_jax.config.defaults import STAGES

_TYPES = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "text",
    tuple: "a tuple",
}
_MOST_INT32 = 2**31 - 1
_MOST_SHOWN = 80  # characters of a value shown in a message


class Rule(NamedTuple):
  """A condition on a value of the right type.

  Attributes:
    holds: returns True for a valid value.
    remedy: what the value must be, for the message.
  """

  holds: Callable[[Any], bool]
  remedy: str


def is_number(value: Any) -> bool:
  """Returns True for a finite number that fits a float and is not a bool."""
  if isinstance(value, bool) or not isinstance(value, int | float):
    return False
  try:
    return math.isfinite(value)
  except OverflowError:
    return False


def is_whole(value: Any) -> bool:
  """Returns True for an int that is not a bool."""
  return isinstance(value, int) and not isinstance(value, bool)


def _between(low: float, high: float, *, above: bool = False, below: bool = False) -> Rule:
  """Makes a rule for `low` to `high`; `above` and `below` exclude the bounds."""
  return Rule(
      lambda v: (v > low if above else v >= low) and (v < high if below else v <= high),
      f"must be {'>' if above else '>='} {low:,} and {'<' if below else '<='} {high:,}",
  )


def _size(high: int) -> Rule:
  """Makes a rule for 1 to `high`, a size that no model of today reaches."""
  return Rule(
      lambda v: 1 <= v <= high, f"must be >= 1 and <= {high:,}, more than any model of today has"
  )


def _one_of(*choices: str) -> Rule:
  return Rule(lambda v: v in choices, f"must be one of {', '.join(choices)}")


def _is_text(value: Any) -> bool:
  return isinstance(value, str) and bool(value.strip()) and value.isprintable()


def _are_names(values: Sequence) -> bool:
  return all(map(_is_text, values)) and len(set(values)) == len(values)


def _are_numbers(values: Sequence) -> bool:
  return all(map(is_number, values)) and len(set(values)) == len(values)


def _are_shares(values: Sequence) -> bool:
  """Returns True for increasing shares that differ when written to a hundredth of a percent."""
  return (
      len(values) <= 1000
      and all(is_number(v) and 0 <= v <= 1 for v in values)
      and all(abs(v - round(v, 4)) < 1e-9 for v in values)
      and all(round(a, 4) < round(b, 4) for a, b in itertools.pairwise(values))
  )


def _shares(at_least: int, words: str) -> Rule:
  return Rule(
      lambda v: len(v) >= at_least and _are_shares(v),
      f"must be {words}increasing shares in [0, 1], e.g. (0.1, 0.25), to four decimals",
  )


def _selection(of: Sequence[str]) -> Rule:
  return Rule(
      lambda v: len(v) > 0 and list(v) == [name for name in of if name in v],
      f"must be a non-empty selection of {', '.join(of)}, each once, in this order",
  )


def _are_buckets(values: Sequence) -> bool:
  return len(values) > 0 and all(
      isinstance(pair, tuple | list)
      and len(pair) == 2
      and all(is_whole(n) and 2 <= n <= _LONGEST for n in pair)
      for pair in values
  )


_LONGEST = 2**17  # tokens
_STEPS = _between(0, 10**9)
_BATCH = _between(1, 2**20)
_RATE = _between(0, 1, above=True)
_SHARE = _between(0, 1)
_WEIGHT = _between(0, 1000)
_ROWS = _one_of("all", "on_policy", "off_policy")
_TEXT = Rule(str.isprintable, "must be one line of printable characters")
_PATH = Rule(
    lambda v: v.isprintable() and "://" not in v,
    "must be a path of the file system in printable characters; mount a bucket, e.g. with gcsfuse",
)
_NAME = Rule(_is_text, "must be one line of printable characters, not empty")

# The first pattern that matches a field's name applies; "*" matches any part of a name.
RULES = {
    "*.losses.*.weight": _WEIGHT,
    "*.losses.*.rows": _ROWS,
    "*.losses.generalized_jsd.beta": _between(0, 1, above=True, below=True),
    "*.losses.*.*": Rule(lambda v: not isinstance(v, float) or math.isfinite(v), "must be finite"),
    "name": Rule(
        lambda v: _is_text(v)
        and len(v) <= 100
        and any(map(str.isalnum, v))
        and not {*"/\\"} & {*v},
        "must be a short name with a letter or a digit, without / or \\",
    ),
    "seed": _between(0, 10**8),
    "stages": _selection(STAGES),
    "plugins": Rule(
        lambda v: _are_names(v) and all(p.isidentifier() for m in v for p in m.split(".")),
        "must be names of modules, each once, e.g. ('my_package.my_policies',)",
    ),
    "data.source": _one_of(
        "phrasebook", "text", "jsonl", "tsv", "csv", "parquet", "datasets", "tfds"
    ),
    "data.*_field": _NAME,
    "data.reference_fields": Rule(_are_names, "must be names of fields, each once"),
    "data.task": Rule(
        lambda v: v == v.strip().rstrip(":") and "{" not in v and v.isprintable(),
        "must be the instruction alone, on one line, without colon, braces or spaces around it",
    ),
    "data.*_split": _NAME,
    "data.num_*": _between(0, _MOST_INT32),
    "data.held_out": Rule(
        lambda v: 0 <= v < 0.5 or (1 <= v <= _MOST_INT32 and v == round(v)),
        "must be 0, a share below 0.5, or a whole number of examples",
    ),
    "data.seed": _between(0, _MOST_INT32),
    "data.join": _between(1, 1000),
    "data.over_long": _one_of("drop", "truncate"),
    "data.buckets": Rule(
        _are_buckets,
        f"must be (source, target) pairs of lengths > 1 and <= {_LONGEST:,}, e.g. ((24, 24),)",
    ),
    "data.prompt_length": _between(0, 4096),
    "tokenizer.kind": _one_of("unigram", "bpe"),
    "tokenizer.vocab_size": Rule(
        lambda v: v == 0 or 32 <= v <= 10**6,
        "must be >= 32 and <= 1,000,000, more than any vocabulary of today has, or 0 (chosen)",
    ),
    "tokenizer.*_language": Rule(
        lambda v: v == "" or (v.isprintable() and not any(map(str.isspace, v))),
        "must be the model's name of a language, e.g. 'deu_Latn', or ''",
    ),
    "budgets.knots": _shares(2, "two or more "),
    "budgets.held_out": _shares(0, ""),
    "budgets.*": _shares(1, "one or more "),
    "*.model.d_model": _size(2**15),
    "*.model.d_ff": _size(2**18),
    "*.model.num_heads": _size(512),
    "*.model.d_kv": _size(1024),
    "*.model.num_*_layers": _size(256),
    "*.model.*_hidden": _size(2**16),
    "*.model.gate_top_k": _size(1000),
    "*.model.kind": _one_of("t5", "bart", "t5gemma", "causal"),
    "*.model.num_key_heads": _between(0, 512),
    "*.model.feed_forward": _one_of("relu", "gelu", "gated-gelu", "gated-silu"),
    "*.model.dropout_rate": _between(0, 1, below=True),
    "*.model.dtype": _one_of("float32", "bfloat16"),
    "student.model.param_dtype": Rule(
        lambda v: v == "float32", "must be float32: the student's parameters are in training"
    ),
    "*.model.param_dtype": _one_of("float32", "bfloat16"),
    "*.model.remat": _one_of("none", "dots", "layers"),
    "*.model.gate": _one_of("token", "mlp", "difficulty_price"),
    "*.model.gate_alpha": _between(0, 100, above=True),
    "student.lora_rank": _between(0, 4096),
    "student.lora_alpha": _between(0, 10**4, above=True),
    "worth.num_sources": _between(1, 10**9),
    "worth.tolerance": _between(0, 1000),
    "worth.gain": _one_of("score", "log_mu"),
    "worth.steps": _between(1, 10**9),
    "*.steps": _STEPS,
    "*_steps": _STEPS,
    "evaluation.batch_size": _BATCH,
    "*.batch_size": _BATCH,
    "*.microbatches": _between(1, 10**6),
    "*.optimizer": _one_of("adamw", "muon", "adafactor"),
    "*.final_learning_rate": _SHARE,
    "*.dual_learning_rate": _between(0, 10**4),
    "*learning_rate": _RATE,
    "*.weight_decay": _between(0, 10),
    "*.max_grad_norm": _between(0, 10**6, above=True),
    "*.ema_decay": _between(0, 0.99999),
    "*_every": _between(1, 10**9),
    "*.readout_chunk": _between(0, _LONGEST),
    "*.label_smoothing": _between(0, 1, below=True),
    "*.value": _one_of("head", "logsumexp"),
    "*.consistency_rows": _ROWS,
    "distillation.immediate": _one_of("sampled", "expected"),
    "distillation.teacher_mixing": _between(0, 1, below=True),
    "*.teacher_scores": _one_of("live", "stored"),
    "scores.path": _PATH,
    "scores.top_k": _between(0, 10**4),
    "*.off_policy": _one_of("reference", "teacher"),
    "*.alpha": _between(0, 100, above=True),
    "*.gamma": _SHARE,
    "*.segment_length": _between(0, _LONGEST),
    "*.huber": _between(0, 10**6),
    "*.on_policy_fraction": _SHARE,
    "*.rollout_temperature": _between(0, 100),
    "wheels.gate_credit": _one_of("sampled", "expected_kl", "expected_gap"),
    "wheels.gate_regression": _one_of("advantage", "probability"),
    "wheels.explore": _SHARE,
    "wheels.max_difficulty": _between(0, 1000, above=True),
    "wheels.max_dual": _between(0, 1000, above=True),
    "*_loss": _WEIGHT,
    "*.path_consistency": _WEIGHT,
    "decode.max_length": _between(1, _LONGEST),
    "decode.chunk": _between(0, 1024),
    "decode.wait": _between(0, 1),
    "decode.pass_rows": _between(0, 10**6),
    "decode.paces": Rule(
        lambda v: len(v) > 0 and _are_numbers(v) and all(0 <= x <= 1000 for x in v),
        "must be one or more numbers from 0 to 1000, each once",
    ),
    "decode.shortest_quantile": _between(0, 1),
    "evaluation.metric": _one_of("bleu", "rouge", "exact_match"),
    "evaluation.num_latency": _between(1, 10**6),
    "evaluation.throughput_batch": _BATCH,
    "evaluation.methods": Rule(
        lambda v: _are_names(v) and ("all" not in v or len(v) == 1),
        "must be names of policies, each once, or ('all',)",
    ),
    "evaluation.dials.*": Rule(
        lambda v: len(v) > 0 and _are_numbers(v), "must be one or more finite numbers, each once"
    ),
    "evaluation.offset_shares": _shares(0, ""),
    "evaluation.tolerances": Rule(
        lambda v: _are_numbers(v) and all(x >= 0 for x in v), "must be nats >= 0, each once"
    ),
    "evaluation.baseline_students": Rule(
        lambda v: _are_names(v)
        and "wheels" in v
        and set(v) <= {"sft", "warm_start", "distillation", "wheels"},
        "must name wheels, and else only sft, warm_start, distillation, each once",
    ),
    "evaluation.compare_at": _shares(1, "one or more "),
    "evaluation.ours": Rule(_are_names, "must be names of families of policies, each once"),
    "evaluation.equal_calls": _shares(0, ""),
    "evaluation.step_ratios": Rule(
        lambda v: _are_numbers(v) and all(0 <= x <= 10 for x in v),
        "must be numbers of teacher passes in [0, 10], each once",
    ),
    "evaluation.num_resamples": _between(10, 10**6),
    "evaluation.num_samples": _between(0, 10**6),
    "log.wandb": Rule(
        lambda v: v == "" or bool(re.fullmatch(r"([\w.-]+/)?[\w. -]{1,128}", v)),
        "must be PROJECT or ENTITY/PROJECT, of letters, digits, '-', '_' and '.', or ''",
    ),
    "xla_flags": Rule(
        lambda v: v.isprintable() and all(flag.startswith("--") for flag in v.split()),
        "must be flags of XLA, each begun by --, with spaces between",
    ),
    "mesh.*": Rule(lambda v: v == -1 or 1 <= v <= 2**20, "must be -1 (all that remain) or >= 1"),
    "*.sharding": _one_of("fsdp+tensor", "fsdp", "tensor", "whole"),
    "checkpoint.keep": _between(1, 10**6),
    "data.path": _PATH,
    "data.subset": _TEXT,
    "data.tfds_*": _TEXT,
    "tokenizer.path": _PATH,
    "teacher.checkpoint": _PATH,
    "*.pretrained": _TEXT,
}


def shown(value: Any) -> str:
  """Returns a value's repr on one line, cut if it is long, for a message."""
  try:
    text = repr(value.to_dict() if isinstance(value, ml_collections.ConfigDict) else value)
  except ValueError:  # an int of thousands of digits
    text = f"a {type(value).__name__} of {value.bit_length():,} bits"
  return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def rule_of(field: str) -> Rule | None:
  """Returns the rule of a field (named without "config."), or None if only its type matters."""
  found = (rule for pattern, rule in RULES.items() if fnmatch.fnmatchcase(field, pattern))
  return next(found, None)


def fault(field: str, value: Any, default: Any) -> str | None:
  """Checks the value of one field.

  Args:
    field: name without "config.".
    value: the value in the config.
    default: a value of the right type; None if any type is allowed.

  Returns:
    Field, value and remedy in one line, or None if the value is valid.
  """
  kind = type(default)
  if default is not None and not _is_of(value, kind):
    remedy = f"must be {_TYPES[kind]}, not {type(value).__name__}"
    return f"config.{field}={shown(value)}: {remedy}"
  rule = rule_of(field)
  if rule and not rule.holds(value):
    return f"config.{field}={shown(value)}: {rule.remedy}"
  return None


def _is_of(value: Any, kind: type) -> bool:
  if kind is tuple:
    return isinstance(value, tuple | list)
  if kind is float:  # the rule refuses inf and nan, with a better message
    return isinstance(value, float) or (is_whole(value) and is_number(value))
  return is_whole(value) if kind is int else isinstance(value, kind)
