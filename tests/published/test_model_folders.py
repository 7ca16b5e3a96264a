"""Models of ours in transformers' folders: exact to the bit, whole or as before."""

import itertools
import json
import os

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny_folders import TINY, all_tensors, assert_same_bits, random_model, saved, without_heads

from kdtw_jax import devices, published
from kdtw_jax.base import MASKED_LOGIT
from kdtw_jax.models import build, shift_right

KINDS = {
    "teacher": {},
    "untied": {"tie_embeddings": False, "feed_forward": "gated-gelu"},
    "untied, scaled": {"tie_embeddings": False, "scale_readout": True},
    "tied, unscaled": {"scale_readout": False},
    "bias per layer": {"bias_per_layer": True, "tie_embeddings": False},
    "token": {"gate": "token", "tau_id": 3},
    "mlp": {"gate": "mlp", "value_heads": True, "tau_id": 39, "num_tokens": 39},
    "price": {"gate": "difficulty_price", "value_heads": True, "price_knots": (0.0, 0.3)},
}
DUALS = np.array([1.5, 0.25], np.float32)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_round_trip_is_exact(tmp_path, kind, dtype):
  config, _, params = random_model(**KINDS[kind], param_dtype=dtype, dtype=dtype)
  duals = DUALS if kind == "price" else None
  published.save_model(tmp_path / "model", params, config, duals=duals)
  found = published.load_model(tmp_path / "model")
  assert_same_bits(found.params, params)
  assert found.model.config.scales_readout == config.scales_readout
  assert found.model.config == dataclass_with_scale(config)
  if duals is None:
    assert found.duals is None
  else:
    assert_same_bits(found.duals, duals)


def dataclass_with_scale(config):
  """The config with `scale_readout` said and not left to `tie_embeddings`."""
  return type(config)(**vars(config) | {"scale_readout": config.scales_readout})


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_published_arrays_have_the_dtype_of_the_params(tmp_path, dtype):
  saved(tmp_path / "model", param_dtype=dtype, tie_embeddings=False)
  assert {x.dtype for x in all_tensors(tmp_path / "model").values()} == {np.dtype(dtype)}
  content = json.loads((tmp_path / "model" / "config.json").read_text())
  assert content["dtype"] == content["torch_dtype"] == dtype


def test_scaled_units_are_exact_in_bfloat16():
  weights = {
      name: np.asarray(x).astype(ml_dtypes.bfloat16)
      for name, x in published.export_weights(random_model()[2], TINY)
  }
  for dtype in ("float32", "bfloat16"):
    config, _, _ = random_model(param_dtype=dtype)
    back = dict(published.export_weights(published.import_weights(weights, config), config))
    assert {name: x.tobytes() for name, x in weights.items()} == {
        name: x.astype(ml_dtypes.bfloat16).tobytes() for name, x in back.items()
    }


def test_shards_are_no_larger_than_asked_and_indexed(tmp_path):
  config, _, params = random_model()
  limit = 4000
  published.save_model(tmp_path / "model", params, config, shard_bytes=limit)
  files = sorted(tmp_path.glob("model/model-*.safetensors"))
  assert len(files) > 2 and not (tmp_path / "model" / "model.safetensors").exists()
  assert [f.name for f in files] == [
      f"model-{i + 1:05d}-of-{len(files):05d}.safetensors" for i in range(len(files))
  ]
  index = json.loads((tmp_path / "model" / "model.safetensors.index.json").read_text())
  contents = {f.name: load_file(f) for f in files}
  assert index["weight_map"] == {
      name: file for file, tensors in contents.items() for name in tensors
  }
  sizes = [sum(x.nbytes for x in tensors.values()) for tensors in contents.values()]
  assert max(sizes) <= limit and sum(sizes) == index["metadata"]["total_size"]
  assert all(a + b > limit for a, b in itertools.pairwise(sizes))  # none is needlessly small
  assert_same_bits(published.load_model(tmp_path / "model").params, params)


def test_a_tensor_larger_than_a_shard_has_one_of_its_own(tmp_path):
  config, _, params = random_model()
  published.save_model(tmp_path / "model", params, config, shard_bytes=100)
  assert_same_bits(published.load_model(tmp_path / "model").params, params)
  sizes = [len(load_file(f)) for f in tmp_path.glob("model/model-*.safetensors")]
  assert sizes.count(1) > 10


def test_what_the_original_config_says_stays(tmp_path):
  config, _, params = random_model(param_dtype="bfloat16")
  original = published.config_json(TINY) | {
      "task_specific_params": {"translation": {"prefix": "translate: "}},
      "n_positions": 512,
      "_name_or_path": "owner/small-t5",
      "vocab_size": 38,
      "dropout_rate": 0.25,
  }
  published.save_model(tmp_path / "model", params, config, original=original)
  content = json.loads((tmp_path / "model" / "config.json").read_text())
  changed = {"vocab_size": 40, "dtype": "bfloat16", "torch_dtype": "bfloat16"}
  assert content == original | changed


# Rows of the vocabulary ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def text():
  rng = np.random.default_rng(0)
  source = rng.integers(3, 33, (2, 5)).astype(np.int32)
  source[1, 3:] = 0
  return source, rng.integers(3, 33, (2, 4)).astype(np.int32)


def logits_of(model, params, text):
  source, target = text

  def run(params):
    hidden = model.hidden(params, model.encode(params, source), shift_right(target))
    return model.logits(params, hidden)

  return np.asarray(jax.jit(run)(params))


@pytest.mark.parametrize("rows", [48, 34, 40], ids=["grown", "cut", "as it is"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_table_is_cut_or_grown_to_the_vocabulary(tmp_path, rows, tied, text):
  _, model, params = random_model(tie_embeddings=tied)
  published.save_model(tmp_path / "model", params, model.config)
  config, fitted, _ = random_model(
      tie_embeddings=tied, vocab_size=rows, num_tokens=33, tau_id=33, gate="token"
  )
  found = published.load_params(tmp_path / "model", config)
  tables = [(found["shared"]["embedding"], params["shared"]["embedding"])]
  if not tied:
    tables.append((found["readout_kernel"], params["readout_kernel"]))
  for ours, theirs in tables:
    assert ours.shape == (rows, 12)
    np.testing.assert_array_equal(ours[:40], theirs[:rows])
    np.testing.assert_array_equal(ours[40:], 0)
  logits = logits_of(
      fitted,
      found | {"gate": random_model(vocab_size=rows, tau_id=33, gate="token")[2]["gate"]},
      text,
  )
  np.testing.assert_array_equal(logits[..., 33:], np.float32(MASKED_LOGIT))
  np.testing.assert_allclose(
      logits[..., :33], logits_of(model, params, text)[..., :33], rtol=1e-6, atol=1e-6
  )


def test_a_table_of_other_rows_is_refused_where_nothing_says_which_are_tokens(tmp_path):
  saved(tmp_path / "model")
  config, _, _ = random_model(vocab_size=48)
  with pytest.raises(ValueError, match=r"shape \(40, 12\), but the model config says \(48, 12\)"):
    published.load_params(tmp_path / "model", config)


def test_a_table_that_lacks_rows_of_tokens_is_refused(tmp_path):
  saved(tmp_path / "model")
  config, _, _ = random_model(vocab_size=48, num_tokens=41, tau_id=41)
  with pytest.raises(ValueError, match=r"a table of 40 rows for 41 tokens: the tokenizer is not"):
    published.load_params(tmp_path / "model", config)


# Devices ------------------------------------------------------------------------------------------


def test_parameters_go_straight_to_their_shards(tmp_path):
  config, params = saved(tmp_path / "model", d_model=16)
  mesh = devices.make_mesh(1, 8, 1)
  model = build(config, devices.Layout(mesh))
  found = published.load_params(tmp_path / "model", config, model.shardings(model.shapes))
  leaves = jax.tree.leaves(found)
  assert all(leaf.sharding.mesh == mesh for leaf in leaves)
  split = [leaf for leaf in leaves if not leaf.sharding.is_fully_replicated]
  assert len(split) > 10
  assert all(leaf.addressable_shards[0].data.size == leaf.size // 8 for leaf in split)
  assert_same_bits(found, params)


# Whole or as before -------------------------------------------------------------------------------


def test_a_save_that_fails_leaves_the_older_folder(tmp_path):
  config, older = saved(tmp_path / "model")
  newer = jax.tree.map(lambda x: x + 1, older)

  def full(folder):
    assert (folder / "model.safetensors").is_file()  # the weights of the new one are there
    raise OSError(28, "No space left on device")

  with pytest.raises(OSError, match="No space left"):
    published.save_model(tmp_path / "model", newer, config, save_tokenizer=full)
  assert os.listdir(tmp_path) == ["model"]
  assert_same_bits(published.load_model(tmp_path / "model").params, older)
  published.save_model(tmp_path / "model", newer, config)
  assert os.listdir(tmp_path) == ["model"]
  assert_same_bits(published.load_model(tmp_path / "model").params, newer)


# Heads --------------------------------------------------------------------------------------------


@pytest.fixture
def student(tmp_path):
  """A student's folder and the content of its heads file."""
  folder = tmp_path / "student"
  config, _, params = random_model(**KINDS["price"])
  published.save_model(folder, params, config, duals=DUALS)
  (folder / "checksums.json").unlink()  # they are edited below
  return folder, load_file(folder / "kdtw.safetensors")


def test_a_missing_head_is_named(student):
  folder, heads = student
  save_file(
      {name: x for name, x in heads.items() if name != "value/mlp/out_bias"},
      folder / "kdtw.safetensors",
  )
  with pytest.raises(ValueError, match=r"'value/mlp/out_bias' is missing, but kdtw\.json asks"):
    published.load_model(folder)


def test_heads_of_another_student_are_named(student):
  folder, heads = student
  save_file(heads | {"gate/other": np.zeros(2, np.float32)}, folder / "kdtw.safetensors")
  with pytest.raises(
      ValueError, match=r"'gate/other' is float32\[2\], but kdtw\.json asks for none"
  ):
    published.load_model(folder)
  save_file(heads | {"price/query": np.zeros(11, np.float32)}, folder / "kdtw.safetensors")
  with pytest.raises(ValueError, match=r"'price/query' is float32\[11\], but .* float32\[12\]"):
    published.load_model(folder)


def test_a_heads_file_that_is_gone_or_damaged(student):
  folder, _ = student
  path = folder / "kdtw.safetensors"
  content = path.read_bytes()
  path.write_bytes(content[:-3])
  with pytest.raises(ValueError, match=r"kdtw\.safetensors: damaged"):
    published.load_model(folder)
  path.unlink()
  with pytest.raises(ValueError, match=r"kdtw\.safetensors: '.*' is missing, but kdtw\.json asks"):
    published.load_model(folder)


def test_a_folder_without_our_fields_or_with_junk_in_them(student):
  folder, _ = student
  (folder / "kdtw.json").write_text("{")
  with pytest.raises(ValueError, match=r"kdtw\.json: damaged, not JSON"):
    published.load_model(folder)
  (folder / "kdtw.json").unlink()
  with pytest.raises(FileNotFoundError, match=r"kdtw\.json"):
    published.load_model(folder)


def test_the_encoder_decoder_of_a_student_loads_without_its_heads(student):
  folder, _ = student
  config, _, params = random_model(**KINDS["price"])
  assert_same_bits(published.load_params(folder, config), without_heads(params))
