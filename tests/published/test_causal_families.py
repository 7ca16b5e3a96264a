"""Every family of causal models against transformers, both ways; see `causal_parity.py`."""

import dataclasses
import json

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
import causal_parity as parity
from parity import file_tensors, same_bits
from safetensors.torch import save_file
from tiny_folders import assert_same_bits

from kdtw_jax import published
from kdtw_jax.files import write_json
from kdtw_jax.models import ModelConfig, build

pytestmark = [
    pytest.mark.parity,
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore"),  # the libraries' own deprecations are not ours to fail on
]
TOLERANCE = 1e-4  # float32 sums in another order; logits are of size 10


@pytest.mark.parametrize("family", parity.FAMILIES)
def test_a_family_in_and_out(family, figures, tmp_path):
  parity.write_checkpoint(family, tmp_path, seed=list(parity.FAMILIES).index(family))
  assert (tmp_path / "model.safetensors").is_file() == (family != "qwen3_untied")  # it is sharded
  found = figures[family] = parity.differences(tmp_path)
  assert found["max_logit"] > 1  # outputs near zero would agree with anything
  for what in ("logits", "cached", "end", "back"):
    assert found[what] < TOLERANCE, (what, found)
  assert found["greedy_same"] and found["greedy_distinct"] >= 3, found
  assert found["weights_same"]


@pytest.mark.parametrize("family", parity.FAMILIES)
def test_a_bfloat16_checkpoint_keeps_its_bits(family, tmp_path):
  parity.write_checkpoint(family, tmp_path, seed=1, dtype="bfloat16")
  config = parity.our_model(tmp_path, param_dtype="bfloat16").config
  params = published.load_params(tmp_path, config)
  assert {str(leaf.dtype) for leaf in jax.tree.leaves(params)} == {"bfloat16"}
  assert same_bits(dict(published.export_weights(params, config)), parity.text_tensors(tmp_path))


def test_a_model_that_sees_is_read_under_either_name_of_its_tensors(tmp_path):
  parity.write_checkpoint("gemma3_sees", tmp_path, seed=1)
  config = parity.our_model(tmp_path).config
  before = published.load_params(tmp_path, config)
  tensors = file_tensors(tmp_path)
  assert any(name.startswith("vision_tower.") for name in tensors)
  moved = {"language_model.model": "model.language_model", "vision_tower": "model.vision_tower"}
  for old, new in moved.items():
    tensors = {name.replace(old, new, 1): tensor for name, tensor in tensors.items()}
  save_file(tensors, tmp_path / "model.safetensors")
  assert_same_bits(published.load_params(tmp_path, config), before)


def test_what_a_model_that_sees_leaves_out_of_its_config_is_as_in_transformers(tmp_path):
  parity.write_checkpoint("gemma3_sees", tmp_path, seed=1)
  text = {
      "model_type": "gemma3_text",
      "hidden_size": 40,
      "intermediate_size": 48,
      "num_hidden_layers": 7,
      "rope_scaling": {"rope_type": "linear", "factor": 8.0},
  }
  write_json(tmp_path / "config.json", {"model_type": "gemma3", "text_config": text})
  short = published.open_published(tmp_path)
  assert short.architecture["windows"] == (4096,) * 5 + (0, 4096)
  transformers.AutoConfig.from_pretrained(tmp_path).save_pretrained(tmp_path)
  whole = published.open_published(tmp_path)
  assert short.architecture == whole.architecture
  for name in ("vocab_size", "max_position_embeddings", "model_type"):
    assert short.config[name] == whole.config[name]


@pytest.mark.parametrize("family", ["llama3", "qwen2", "gemma2", "gemma3"])
def test_config_files_of_older_versions_say_the_same(family, tmp_path):
  parity.write_checkpoint(family, tmp_path, seed=1)
  newer = published.open_published(tmp_path).architecture
  path = tmp_path / "config.json"
  config = json.loads(path.read_text(encoding="utf-8"))
  rope = config.pop("rope_parameters")
  full = rope.get("full_attention", rope)
  config["rope_theta"] = full.pop("rope_theta")
  config["rope_scaling"] = full
  config.pop("layer_types", None)
  if family == "gemma3":
    config["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
    config["sliding_window_pattern"] = 2
    newer |= {"windows": (9, 0, 9)}
  write_json(path, config)
  assert published.open_published(tmp_path).architecture == newer


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"qk_norm": False, "rope_scaling": ("llama3", 8.0, 1.0, 4.0, 64.0)},
        {
            "norm_offset": True,
            "post_norms": True,
            "scale_embedding": True,
            "query_scale": 12**-0.5,
            "feed_forward": "gated-gelu",
            "windows": (3, 0),
            "rope_theta": 1e6,
            "rope_scaling": ("linear", 8.0),
        },
        {"qk_norm": False, "qkv_bias": True},
        {
            "qk_norm": False,
            "norm_offset": True,
            "post_norms": True,
            "scale_embedding": True,
            "query_scale": 12**-0.5,
            "score_cap": 1.0,
            "logit_cap": 2.0,
            "feed_forward": "gated-gelu",
        },
    ],
    ids=["qwen3", "llama", "gemma3", "qwen2", "gemma2"],
)
def test_a_model_of_our_own_is_read_by_transformers_and_by_us(changes, tmp_path):
  config = ModelConfig(
      **{
          "kind": "causal",
          "vocab_size": 40,
          "d_model": 16,
          "d_ff": 24,
          "num_heads": 4,
          "num_key_heads": 2,
          "d_kv": 6,
          "num_decoder_layers": 2,
          "dropout_rate": 0.0,
          "feed_forward": "gated-silu",
          "gate_top_k": 3,
          **changes,
      }
  )
  model = build(config)
  rng = np.random.default_rng(0)
  params = jax.tree.map(
      lambda leaf: leaf + 0.2 * rng.normal(size=leaf.shape).astype(np.float32),
      model.init(jax.random.key(0)),
  )
  published.save_model(tmp_path / "model", params, config)
  words = rng.integers(2, 40, (2, 9))
  prompt, target = np.pad(words, ((0, 0), (0, 1)), constant_values=1), rng.integers(2, 40, (2, 4))
  inputs = np.pad(target, ((0, 0), (1, 0)))
  ours = model.logits(params, model.hidden(params, model.encode(params, prompt), inputs))
  theirs = parity.torch_model(tmp_path / "model")
  with torch.inference_mode():
    whole = np.concatenate([prompt, inputs], axis=1)
    logits = theirs(input_ids=torch.tensor(whole)).logits[:, prompt.shape[1] :].numpy()
  np.testing.assert_allclose(ours, logits, atol=TOLERANCE)
  loaded = published.load_model(tmp_path / "model")
  changed = {"query_scale": loaded.model.config.query_scale}  # Gemma's is stored as its square
  assert loaded.model.config == dataclasses.replace(config, **changed)
  assert jax.tree.all(jax.tree.map(np.array_equal, loaded.params, params))


SLIDING = {"sliding_window": 9, "use_sliding_window": True}
LINEAR = {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}


def test_the_last_layers_of_a_qwen_have_windows(tmp_path):
  parity.write_checkpoint("qwen3", tmp_path, seed=0)
  path = tmp_path / "config.json"
  config = json.loads(path.read_text(encoding="utf-8"))
  assert published.open_published(tmp_path).architecture["windows"] == ()
  del config["layer_types"]
  write_json(path, config | SLIDING | {"max_window_layers": 1})
  assert published.open_published(tmp_path).architecture["windows"] == (0, 9, 9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mlp_bias": True}, "mlp_bias=True: is not built for model_type='qwen3': choose"),
        ({"final_logit_softcapping": 9.0}, "final_logit_softcapping=9.0: is not built"),
        ({**LINEAR, **SLIDING, "layer_types": ["sliding_attention"] * 3}, "'linear' with windows"),
        ({"hidden_act": "relu"}, "'relu': must be one of silu"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "rope_type='yarn'"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5: is not built"),
        ({"layer_types": ["full_attention"], **SLIDING}, "layer_types=.* for each of 3 layers"),
        ({"hidden_size": None}, "hidden_size=None: must be a number"),
        ({"model_type": "mamba"}, "model_type='mamba': must be one of t5, .*qwen3, llama"),
    ],
)
def test_what_is_not_built_is_refused_by_name(changes, message, tmp_path):
  parity.write_checkpoint("qwen3", tmp_path, seed=0)
  path = tmp_path / "config.json"
  write_json(path, json.loads(path.read_text(encoding="utf-8")) | changes)
  with pytest.raises(ValueError, match=message):
    published.open_published(tmp_path)
