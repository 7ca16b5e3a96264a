"""The runner: every sentence in its place, whatever batches it went through."""

import jax
import numpy as np
import pytest

from kdtw_jax import config as config_lib
from kdtw_jax import data, decoding, devices
from kdtw_jax.data.example import InMemorySource
from kdtw_jax.evaluation.outputs import Outputs, Runner
from kdtw_jax.models import ModelConfig, build

SENTENCES = ["a", "b c", "d e f g", "a b c d e f", "g", "f e d", "c", "b a b a b"]


def test_shares_are_ratios_of_sums():
  written = [np.array([True] + [False]), np.array([True] + 7 * [False])]
  outputs = Outputs(
      texts=["", ""],
      ids=[[5, 1], [5, 6, 7, 8, 9, 9, 9, 1]],
      by_teacher=written,
      counts={"length": np.array([2, 8]), "asks": np.array([2, 1])},
  )
  assert outputs.written.tolist() == [1, 1] and outputs.num_tokens == 10
  assert outputs.teacher_share == 0.2  # the mean of the rows would be 0.3125
  assert outputs.per_token("asks") == 0.3
  empty = Outputs([""], [[]], [np.array([], bool)], {"length": np.array([0])})
  assert empty.teacher_share == 0.0


@pytest.fixture(scope="module")
def parts():
  """(config, models, tokenizer, params of both, source): tiny and untrained."""
  tokenizer = data.train_tokenizer(
      [*SENTENCES, *data.tokenizer_text()], seed=0, kind="bpe", vocab_size=120
  )
  shared = dict(
      vocab_size=tokenizer.vocab_size,
      tau_id=tokenizer.tau_id,
      num_encoder_layers=1,
      num_decoder_layers=1,
      num_heads=2,
      dropout_rate=0.0,
      d_model=16,
      d_ff=16,
      d_kv=8,
  )
  models = build(ModelConfig(**shared, gate="mlp", value_heads=True)), build(ModelConfig(**shared))
  params = [
      jax.tree.map(lambda x: 2.5 * x, jax.jit(model.init)(jax.random.key(i)))
      for i, model in enumerate(models)
  ]
  return models, tokenizer, params, InMemorySource([(text, text) for text in SENTENCES])


def settings_of(parts, batch_size):
  """(config, tokenised split) of the tiny models."""
  _, tokenizer, _, source = parts
  config = config_lib.defaults()
  config.evaluation.batch_size, config.data.prompt_length = batch_size, 60
  config.decode.max_length = 12
  return config, data.tokenise(source, tokenizer, buckets=((24, 24),), over_long="truncate")


def runner(parts, batch_size):
  models, tokenizer, params, source = parts
  config, kept = settings_of(parts, batch_size)
  return Runner(
      config,
      models,
      devices.make_mesh(1, 1, 1),
      tokenizer,
      params[1],
      sources={"test": source},
      tokenised={"test": kept},
  )


@pytest.mark.parametrize(
    "policy",
    [decoding.make_policy("max_prob", 0.3), decoding.make_policy("student")],
    ids=["max_prob", "student"],
)
def test_outputs_are_those_of_each_sentence_alone(parts, policy):
  together, alone = (runner(parts, size).run("test", policy, parts[2][0]) for size in (3, 1))
  assert together.ids == alone.ids and len(together.ids) == len(SENTENCES)
  assert together.texts == alone.texts
  for name in alone.counts:
    np.testing.assert_array_equal(together.counts[name], alone.counts[name], name)
  assert len({tuple(ids) for ids in alone.ids}) > 2  # else any order would do


def test_a_policy_compiles_once_for_all_batches_budgets_and_dials(parts):
  decoder = runner(parts, 3)  # three batches
  for dial, budget in ((0.3, 0.2), (0.6, 0.1)):
    decoder.run("test", decoding.make_policy("max_prob", dial), parts[2][0], budget=budget)
  assert decoder._decode._cache_size() == 1
  row = next(decoder.batches("test", budget=0.2, wording=data.TRAIN_WORDINGS[0], batch_size=3))
  decoder.decode(decoding.make_policy("max_prob", 0.3), parts[2][0], decoder.placed(row))
  assert decoder._decode._cache_size() == 1  # what is timed is the same program


def test_coins_fall_anew_for_each_batch(parts):
  out = runner(parts, 1).run("test", decoding.make_policy("random", 0.5), parts[2][0])
  shortest = min(map(len, out.by_teacher))
  assert shortest > 4
  assert len({row[:shortest].tobytes() for row in out.by_teacher}) > 1


def test_rows_that_tokenising_dropped_shift_no_reference(parts):
  models, tokenizer, params, _ = parts
  shifted = InMemorySource([("a", "first"), ("\u200b", "nothing"), ("b c", "third")])
  found = runner((models, tokenizer, params, shifted), 2)
  assert [example.target for example in found.examples["test"]] == ["first", "third"]
  assert found.references["test"] == [("first",), ("third",)]


def test_a_gate_without_a_price_foresees_its_use_at_the_price_it_is_given(parts):
  student_params = jax.tree.map(lambda leaf: leaf + 0.1, parts[2][0])
  cheap, dear = (
      runner(parts, 3).predicted_share(
          "test",
          student_params,
          budget=0.2,
          num_tokens=10,
          price=price,
          wording=data.TRAIN_WORDINGS[0],
      )
      for price in (0.0, 5.0)
  )
  assert np.isfinite([cheap, dear]).all() and cheap != dear
