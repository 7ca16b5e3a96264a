"""Configs: every file loads and is valid; every mistake is named with its remedy."""

import importlib.util
from pathlib import Path

import pytest

from kdtw_jax import config as config_lib
from kdtw_jax.config import values
from tests.refusing import config_with

CONFIGS = Path(__file__).parent.parent / "configs"


def load(name, arg=None):
  spec = importlib.util.spec_from_file_location(name, CONFIGS / f"{name}.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config(arg)


@pytest.mark.parametrize(
    "name, arg",
    [
        ("demo", None),
        ("demo", "smoke"),
        ("demo", "paper"),
        ("demo", "causal"),
        ("demo", "causal_smoke"),
        ("gsm8k", None),
        ("gsm8k", "smoke"),
        ("multi30k", None),
        ("multi30k", "gpu"),
        ("multi30k", "paragraphs"),
        ("multi30k", "smoke"),
        ("own", None),
        ("own", "gpu"),
        ("own", "smoke"),
    ],
)
def test_every_config_is_valid(name, arg):
  config = load(name, arg)
  if config.data.source in ("text", "csv", "jsonl"):
    config.data.path = "somewhere"
  config_lib.validate(config)
  assert config.is_locked


def test_a_model_that_is_told_its_languages_is_not_told_a_task():
  assert load("wmt").data.task == "translate English to German"
  config = load("wmt", "languages=eng_Latn/deu_Latn")
  names = config.tokenizer.source_language, config.tokenizer.target_language
  assert names == ("eng_Latn", "deu_Latn") and config.data.task == ""
  alone = load("wmt", "languages=/de")  # MADLAD-400 is told no language of a source
  assert alone.tokenizer.source_language == ""
  for valid in (config, alone):
    config_lib.validate(valid)
  with pytest.raises(ValueError, match="languages='de': must be source/target"):
    load("wmt", "languages=de")


def test_an_unknown_mode_is_refused_with_the_known_ones():
  with pytest.raises(ValueError, match="'tiny' is unknown or said twice; this file offers smoke"):
    load("demo", "tiny")


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("stages", (), r"config.stages=\(\): must be a non-empty selection of tokenizer"),
        ("stages", ("warmup",), "must be a non-empty selection"),
        ("data.source", "xml", "config.data.source='xml': must be one of phrasebook, text"),
        ("data.join", 0, "config.data.join=0: must be >= 1"),
        ("data.buckets", ((16, 1),), "lengths > 1"),
        ("budgets.knots", (0.1, 0.1), "increasing shares"),
        ("budgets.held_out", (0.1, 0.15), r"\[0.1\] also in config.budgets.train"),
        ("student.model.gate", "linear", "must be one of token, mlp, difficulty_price"),
        ("student.model.gate_alpha", 0.0, "must be > 0"),
        ("wheels.alpha", 0.0, "config.wheels.alpha=0.0: must be > 0"),
        ("wheels.gate_credit", "free", "sampled, expected_kl, expected_gap"),
        ("distillation.on_policy_fraction", 1.5, "must be >= 0 and <= 1"),
        ("teacher.train.learning_rate", 0.0, "config.teacher.train.learning_rate=0.0: must be > 0"),
        ("decode.chunk", -1, "config.decode.chunk=-1: must be >= 0"),
        ("decode.max_length", 12, "must be at least the longest target bucket, 40"),
        ("data.source", "text", "needs a path"),
    ],
)
def test_impossible_values_are_refused(field, value, message):
  config = config_lib.defaults()
  *sections, name = field.split(".")
  section = config
  for part in sections:
    section = section[part]
  section[name] = value
  with pytest.raises(ValueError, match=message):
    config_lib.validate(config)


def test_unknown_fields_are_refused_with_the_nearest_known_one():
  config = config_lib.defaults()
  with config.unlocked():
    config.wheels.gate_kredit = "sampled"
  with pytest.raises(ValueError, match="config.wheels.gate_kredit='sampled': .*'gate_credit'"):
    config_lib.validate(config)
  with pytest.raises(AttributeError):
    config_lib.defaults().wheels.gate_kredit = "sampled"


def test_differences_name_the_fields():
  a, b = (config_lib.to_json(config_lib.defaults()) for _ in range(2))
  assert config_lib.differences(a, b) == []
  b["wheels"]["alpha"] = 0.5
  assert config_lib.differences(a, b) == ["config.wheels.alpha: 1.0 != 0.5"]


def test_good_values_at_the_ends_of_their_ranges():
  config_lib.validate(
      config_with(
          {
              "sft.learning_rate": 1,  # a whole number where a number is meant
              "sft.weight_decay": 0,
              "seed": 10**8,
              "budgets.held_out": (),
              "tokenizer.vocab_size": 0,
              "plugins": ("my_package.policies",),
              "wheels.losses.mine": {"weight": 0.5, "kind": "tail"},
              "evaluation.dials.mine": (1, 2.5),
              "data.buckets": [[16, 16], [16, 24]],
          }
      )
  )


def test_every_number_and_text_has_a_rule():
  def leaves(section, path=""):
    for name, value in section.items():
      inside = isinstance(value, dict)
      yield from leaves(value, f"{path}{name}.") if inside else [(f"{path}{name}", value)]

  fields = leaves(config_lib.defaults().to_dict())
  free = [field for field, v in fields if values.rule_of(field) is None and type(v) is not bool]
  assert free == []
