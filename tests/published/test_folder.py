"""What is asked for but is not there, not whole or not readable is named, with the remedy."""

import json

from huggingface_hub import constants
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny_folders import all_tensors, edit_json, saved

from kdtw_jax import published


def test_no_such_folder(tmp_path):
  for name in (str(tmp_path / "nowhere"), "./nowhere", "a/b/c", "nowhere at all"):
    with pytest.raises(FileNotFoundError, match=r"nowhere|a/b/c") as caught:
      published.locate(name)
    assert "no such folder, and not the id of a hub model (owner/name)" in str(caught.value)


def test_a_hub_out_of_reach(tmp_path, monkeypatch):
  monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
  monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
  with pytest.raises(FileNotFoundError) as caught:
    published.open_published("owner/small-t5")
  message = str(caught.value)
  assert message.startswith("owner/small-t5: no such local folder")
  assert f"not in the hub's cache ({tmp_path})" in message
  assert "`hf download owner/small-t5 --local-dir DIR`" in message


def test_a_model_in_the_cache_needs_no_hub(tmp_path, monkeypatch):
  repository = tmp_path / "models--owner--small-t5"
  saved(repository / "snapshots" / "0123abc")
  (repository / "refs").mkdir()
  (repository / "refs" / "main").write_text("0123abc")
  monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
  monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
  found = published.open_published("owner/small-t5")
  assert found.folder == repository / "snapshots" / "0123abc"
  assert found.architecture["d_kv"] == 5


def test_no_config(tmp_path):
  (tmp_path / "notes.txt").write_text("x")
  with pytest.raises(FileNotFoundError, match=r"holds no config\.json, only \['notes\.txt'\]"):
    published.open_published(tmp_path)


@pytest.mark.parametrize("pickled", ["pytorch_model.bin", "flax_model.msgpack"])
def test_pickles_are_refused_with_the_command_that_converts_them(tmp_path, pickled):
  saved(tmp_path / "model")
  (tmp_path / "model" / "model.safetensors").rename(tmp_path / "model" / pickled)
  with pytest.raises(FileNotFoundError) as caught:
    published.open_published(tmp_path / "model")
  message = str(caught.value)
  assert f"only {pickled}" in message and "safetensors alone" in message
  assert "M.from_pretrained(n).save_pretrained('DIR')" in message


def test_no_weights_at_all(tmp_path):
  saved(tmp_path / "model")
  (tmp_path / "model" / "model.safetensors").unlink()
  with pytest.raises(FileNotFoundError, match=r"no model\.safetensors .* and no other weights"):
    published.open_published(tmp_path / "model")


@pytest.fixture
def sharded(tmp_path):
  """A model in several files."""
  folder = tmp_path / "model"
  saved(folder)
  tensors = all_tensors(folder)
  for name in ("model.safetensors", "checksums.json"):
    (folder / name).unlink()
  weight_map = {name: f"model-{i % 2}.safetensors" for i, name in enumerate(tensors)}
  for file in set(weight_map.values()):
    save_file({name: tensors[name] for name in tensors if weight_map[name] == file}, folder / file)
  (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
  return folder


def test_a_missing_shard(sharded):
  (sharded / "model-1.safetensors").unlink()
  with pytest.raises(FileNotFoundError, match=r"model-1\.safetensors: missing, though .*index"):
    published.load_model(sharded)


def test_a_shard_without_a_tensor_that_the_index_promises(sharded):
  tensors = load_file(sharded / "model-1.safetensors")
  lost = sorted(tensors)[-1]
  del tensors[lost]
  save_file(tensors, sharded / "model-1.safetensors")
  with pytest.raises(ValueError, match=f"model-1.safetensors: damaged, or not what .*{lost}"):
    published.load_model(sharded)


@pytest.mark.parametrize("file", ["../outside.safetensors", "/etc/hosts", "deep/x.safetensors"])
def test_an_index_that_points_elsewhere_is_refused(sharded, file):
  saved(sharded.parent / "other")
  (sharded.parent / "other" / "model.safetensors").rename(sharded.parent / "outside.safetensors")
  edit_json(sharded / "model.safetensors.index.json", weight_map={"shared.weight": file})
  with pytest.raises(ValueError, match="not a file beside it: refused"):
    published.open_published(sharded)


@pytest.mark.parametrize(
    "content, match",
    [
        ("{}", "no weight_map in it"),
        ('{"weight_map": []}', "no weight_map in it"),
        ("[1]", "a JSON list, not an object"),
        ("{", r"index\.json: damaged, not JSON"),
    ],
)
def test_an_index_of_nothing(sharded, content, match):
  (sharded / "model.safetensors.index.json").write_text(content)
  with pytest.raises(ValueError, match=match):
    published.open_published(sharded)


@pytest.mark.parametrize("kept", [0, 4, 200, -1])
def test_a_truncated_file(tmp_path, kept):
  saved(tmp_path / "model")
  path = tmp_path / "model" / "model.safetensors"
  path.write_bytes(path.read_bytes()[:kept])
  with pytest.raises(ValueError, match=r"model\.safetensors: damaged.*download it again"):
    published.load_model(tmp_path / "model")


def test_a_truncated_shard(sharded):
  path = sharded / "model-1.safetensors"
  path.write_bytes(path.read_bytes()[:-5])
  with pytest.raises(ValueError, match=r"model-1\.safetensors: damaged.*download it again"):
    published.load_model(sharded)


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"model_type": "bert"}, r"model_type='bert': must be one of t5, mt5, umt5"),
        ({"model_type": None}, r"model_type=None: must be one of"),
        ({"layer_norm_epsilon": 1e-5}, r"layer_norm_epsilon=1e-05: only 1e-06 is built"),
        ({"feed_forward_proj": "gated-silu"}, r"feed_forward_proj='gated-silu': must be 'relu' or"),
        ({"d_kv": None}, r"d_kv=None: must be a number"),
        ({"d_model": "wide"}, r"d_model='wide': must be a number"),
        ({"num_layers": None}, r"num_layers=None: must be a number"),
    ],
)
def test_a_config_of_another_kind_names_the_field(tmp_path, changes, match):
  saved(tmp_path / "model")
  edit_json(tmp_path / "model" / "config.json", **changes)
  with pytest.raises(ValueError, match=match) as caught:
    published.open_published(tmp_path / "model")
  assert str(tmp_path / "model" / "config.json") in str(caught.value)


@pytest.mark.parametrize("name", ["pad_token_id", "eos_token_id", "decoder_start_token_id"])
def test_special_ids_that_are_not_the_vocabularys_are_named(tmp_path, name):
  config, _ = saved(tmp_path / "model")
  edit_json(tmp_path / "model" / "config.json", **{name: 5})
  with pytest.raises(ValueError, match=rf"{tmp_path}.*{name}=5, but \d with .*model_fields"):
    published.load_params(tmp_path / "model", config)


def test_what_an_older_config_leaves_out_has_the_published_default(tmp_path):
  saved(tmp_path / "model", num_decoder_layers=2)
  left_out = (
      "num_decoder_layers",
      "relative_attention_num_buckets",
      "feed_forward_proj",
      "relative_attention_max_distance",
      "layer_norm_epsilon",
      "scale_decoder_outputs",
  )
  edit_json(tmp_path / "model" / "config.json", **dict.fromkeys(left_out))
  found = published.open_published(tmp_path / "model").architecture
  assert (found["num_decoder_layers"], found["feed_forward"]) == (2, "relu")
  assert found["relative_attention_num_buckets"] == 32
  assert found["relative_attention_max_distance"] == 128
  assert found["scale_readout"]
  edit_json(tmp_path / "model" / "config.json", tie_word_embeddings=False)
  assert not published.open_published(tmp_path / "model").architecture["scale_readout"]


@pytest.mark.parametrize("content", ["{", "no json", '"text"', "\xff"])
def test_a_config_that_is_no_json_object(tmp_path, content):
  saved(tmp_path / "model")
  (tmp_path / "model" / "config.json").write_bytes(content.encode("latin-1"))
  with pytest.raises(
      ValueError, match=r"config\.json: damaged, (not JSON|a JSON str, not an object)"
  ):
    published.open_published(tmp_path / "model")


QUERY = "encoder.block.0.layer.0.SelfAttention.q.weight"
OUT = "decoder.block.0.layer.1.EncDecAttention.o.weight"


def rewrite(folder, **changes):
  tensors = all_tensors(folder) | changes
  save_file({name: x for name, x in tensors.items() if x is not None}, folder / "model.safetensors")


def test_a_missing_weight_is_named(tmp_path):
  config, _ = saved(tmp_path / "model")
  rewrite(tmp_path / "model", **{OUT: None})
  with pytest.raises(ValueError, match=f"{tmp_path}/model: weights: '{OUT}' is missing"):
    published.load_params(tmp_path / "model", config)


@pytest.mark.parametrize(
    "name, shape, match",
    [
        (OUT, (12, 11), r"decoder/layer_0/cross_attention/out: shape \(11, 12\).* \(10, 12\)"),
        ("shared.weight", (41, 12), r"shared/embedding: shape \(41, 12\).* \(40, 12\)"),
        (QUERY, (11, 12), r"self_attention/qkv: shapes must be alike.*q\.weight': \(11, 12\)"),
    ],
)
def test_a_weight_of_another_shape_is_named(tmp_path, name, shape, match):
  config, _ = saved(tmp_path / "model")
  rewrite(tmp_path / "model", **{name: np.zeros(shape, np.float32)})
  with pytest.raises(ValueError, match=match):
    published.load_params(tmp_path / "model", config)


def test_a_hub_model_without_safetensors_is_converted_by_its_id(tmp_path):
  folder = tmp_path / "models--google--t5-old" / "snapshots" / "abc"
  folder.mkdir(parents=True)
  (folder / "config.json").write_text('{"model_type": "t5"}', encoding="utf-8")
  with pytest.raises(FileNotFoundError, match=r"n = 'google/t5-old'; M\.from_pretrained\(n\)"):
    published.open_published(folder)
