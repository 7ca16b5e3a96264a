"""The encoder-decoder against torch T5: recorded outputs always, the live library where it is."""

import dataclasses
import functools
import importlib.util
import pathlib

import jax
import numpy as np
import pytest
from tiny_models import fast_jit

from kdtw_jax.models import ModelConfig, build
from kdtw_jax.models.position_bias import relative_position_bucket
from kdtw_jax.published import export_weights, import_weights

HERE = pathlib.Path(__file__).parent
# float32 sums in another order through three layers; logits are of size 1 to 10.
TOLERANCE = {"rtol": 2e-5, "atol": 2e-5}


def golden_maker():
  spec = importlib.util.spec_from_file_location("make_golden", HERE / "make_golden.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


KINDS = golden_maker().KINDS


def our_outputs(config: ModelConfig, params, source, inputs, steps: tuple[int, ...]):
  """Encoder states, teacher-forced logits, and logits through the cache in chunks."""
  model = build(config)

  def run(params, source, inputs):
    encoded = model.encode(params, source)
    logits = model.logits(params, model.hidden(params, encoded, inputs))
    cache = model.start(params, source, inputs.shape[1])
    chunks, position = [], 0
    for size in steps:
      positions = np.full(source.shape[0], position, np.int32)
      chunk = inputs[:, position : position + size]
      hidden, cache = model.extend(params, cache, chunk, positions)
      chunks.append(model.logits(params, hidden))
      position += size
    return encoded.states, logits, jax.numpy.concatenate(chunks, axis=1)

  return [np.asarray(x) for x in fast_jit(run)(params, source, inputs)]


def assert_same(ours, golden):
  states, logits, step_logits = ours
  kept = golden["source"] != 0  # states of padding are meaningless
  np.testing.assert_allclose(states[kept], golden["states"][kept], **TOLERANCE)
  np.testing.assert_allclose(logits, golden["logits"], **TOLERANCE)
  np.testing.assert_allclose(step_logits, golden["step_logits"], **TOLERANCE)


def load(name: str):
  with np.load(HERE / "golden" / f"{name}.npz", allow_pickle=False) as file:
    arrays = dict(file)
  prefix = "weights/"
  weights = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
  return arrays, weights


@pytest.mark.parametrize("name", KINDS)
def test_matches_recorded_torch_outputs(name):
  golden, weights = load(name)
  params = import_weights(weights, KINDS[name])
  ours = our_outputs(KINDS[name], params, golden["source"], golden["inputs"], (1, 16))
  assert_same(ours, golden)
  assert np.abs(golden["logits"]).max() > 0.5  # outputs near zero would agree with anything


@pytest.mark.parametrize("name", KINDS)
def test_weights_survive_a_round_trip(name):
  _, weights = load(name)
  config = KINDS[name]
  exported = dict(export_weights(import_weights(weights, config), config))
  assert set(exported) == set(weights)
  for key, value in weights.items():
    np.testing.assert_array_equal(exported[key], value)


def test_import_has_the_structure_of_fresh_params():
  config = KINDS["gated_gelu_untied"]
  imported = import_weights(load("gated_gelu_untied")[1], config)
  fresh = jax.eval_shape(build(config).init, jax.random.key(0))
  assert jax.tree.map(lambda x: (x.shape, x.dtype), imported) == jax.tree.map(
      lambda x: (x.shape, x.dtype), fresh
  )


def test_missing_and_misshapen_weights_are_named():
  config = KINDS["relu_tied"]
  _, weights = load("relu_tied")
  with pytest.raises(ValueError, match=r"lm_head.weight.*tie_embeddings=False"):
    import_weights(weights, dataclasses.replace(config, tie_embeddings=False))
  with pytest.raises(ValueError, match=r"shared/embedding.*\(40, 12\).*\(41, 12\)"):
    import_weights(weights, dataclasses.replace(config, vocab_size=41))


def test_position_buckets_match_torch():
  golden, _ = load("relu_tied")
  distances = golden_maker().DISTANCES
  bucket = functools.partial(relative_position_bucket, distances, num_buckets=32, max_distance=128)
  np.testing.assert_array_equal(bucket(bidirectional=True), golden["buckets_encoder"])
  np.testing.assert_array_equal(bucket(bidirectional=False), golden["buckets_decoder"])


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")  # the libraries' own deprecations are not ours to fail on
@pytest.mark.parametrize("name", KINDS)
def test_matches_live_torch(name):
  pytest.importorskip("torch")
  pytest.importorskip("transformers")
  maker = golden_maker()
  config = dataclasses.replace(
      KINDS[name],
      vocab_size=64,
      d_model=24,
      num_heads=2,
      d_kv=9,
      num_encoder_layers=1,
      num_decoder_layers=2,
      relative_attention_num_buckets=32,
      relative_attention_max_distance=128,
  )
  model = maker.torch_t5(config, seed=7)
  # 150 positions reach the last bucket of both stacks.
  source, inputs = maker.random_text(config, 7, source_length=150, target_length=140)
  golden = {"source": source, **maker.torch_outputs(model, source, inputs)}
  weights = {key: value.numpy() for key, value in model.state_dict().items()}
  params = import_weights(weights, config)
  assert_same(our_outputs(config, params, source, inputs, (1, 139)), golden)
