"""Folders of T5Gemma and T5Gemma 2: names of tensors, special ids, and what is refused."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny_folders import assert_same_bits, edit_json, saved, without_heads

from kdtw_jax import published
from kdtw_jax.models.config_checks import GEMMA_BLOCKS

GEMMA = {
    "kind": "t5gemma",
    **GEMMA_BLOCKS,
    "qk_norm": False,
    "d_kv": 6,
    "num_key_heads": 1,
    "feed_forward": "gated-gelu",
    "query_scale": 0.5,
    "windows": (3,),
    "encoder": (("d_model", 8), ("windows", (2, 0))),
}
SECOND = {
    **GEMMA,
    "qk_norm": True,
    "merged_attention": True,
    "rope_theta": 1e6,
    "encoder": (("d_ff", 16), ("windows", (5, 0))),
    "prompt_prefix": (2, 30),
    "prompt_suffix": (31, 2),
    "renamed_ids": ((1, 7), (7, 1)),
    "stop_ids": (7,),
}


def config_of(folder):
  return json.loads((folder / "config.json").read_text(encoding="utf-8"))


def edit_stack(folder, stack, **changes):
  """Changes fields of the encoder's or the decoder's text."""
  found = config_of(folder)[stack]
  if "text_config" in found:
    found["text_config"] |= changes
  edit_json(folder / "config.json", **{stack: {**found, **changes}})


@pytest.mark.parametrize("fields", [GEMMA, SECOND], ids=["t5gemma", "t5gemma2"])
def test_a_folder_of_ours_says_everything(fields, tmp_path):
  config, params = saved(tmp_path, **fields)
  loaded = published.load_model(tmp_path)
  assert loaded.model.config == config
  assert_same_bits(jax.tree.map(np.asarray, loaded.params), without_heads(params))


def test_tensors_are_found_under_either_name_and_vision_is_not_read(tmp_path):
  config, params = saved(tmp_path, **SECOND)
  weights = load_file(tmp_path / "model.safetensors")
  assert not weights["model.encoder.embed_tokens.eoi_embedding"].any()
  moved = {
      name.replace("model.encoder.", "model.encoder.text_model."): array
      for name, array in weights.items()
  }
  moved["model.encoder.vision_tower.head.probe"] = np.array([1], np.int8)  # refused if it were read
  save_file(moved, tmp_path / "model.safetensors")
  found = published.load_params(tmp_path, config)
  assert_same_bits(jax.tree.map(np.asarray, found), without_heads(params))


def test_both_stacks_name_the_special_ids_and_the_vocabulary(tmp_path):
  saved(tmp_path, **SECOND)
  content = config_of(tmp_path)
  for part in (content, content["encoder"]["text_config"], content["decoder"]):
    assert (part["eos_token_id"], part["pad_token_id"], part["bos_token_id"]) == ([7, 1], 0, 2)
    assert part["vocab_size"] == 40
  generation = json.loads((tmp_path / "generation_config.json").read_text(encoding="utf-8"))
  assert (generation["decoder_start_token_id"], generation["eos_token_id"]) == (2, [7, 1])


def test_what_a_published_file_says_is_kept(tmp_path):
  config, params = saved(tmp_path / "one", **SECOND)
  edit_json(tmp_path / "one" / "config.json", eoi_token_index=33)
  edit_stack(tmp_path / "one", "decoder", max_position_embeddings=99)
  original = published.open_published(tmp_path / "one").config
  assert original["max_position_embeddings"] == 99
  original["encoder"]["vision_config"] = {"model_type": "siglip_vision_model", "hidden_size": 1152}
  published.save_model(tmp_path / "two", params, config, original=original)
  content = config_of(tmp_path / "two")
  assert (content["eoi_token_index"], content["decoder"]["max_position_embeddings"]) == (33, 99)
  assert content["encoder"]["vision_config"]["hidden_size"] == 8
  assert published.load_model(tmp_path / "two").model.config == config


def test_special_ids_of_another_vocabulary_are_refused(tmp_path):
  config, _ = saved(tmp_path, **SECOND)
  published.load_params(tmp_path, config)
  edit_json(tmp_path / "config.json", decoder_start_token_id=None, bos_token_id=3)
  with pytest.raises(ValueError, match="decoder_start_token_id=3, but 2 with model.renamed_ids"):
    published.load_params(tmp_path, config)


@pytest.mark.parametrize(
    "fields, stack, changes, message",
    [
        (GEMMA, "decoder", {"attention_bias": True}, "decoder.attention_bias=True: is not built"),
        (GEMMA, "encoder", {"hidden_activation": "relu"}, "encoder.activation 'relu': must be one"),
        (GEMMA, "encoder", {"hidden_size": "8"}, "encoder.hidden_size='8': must be a number"),
        (GEMMA, "decoder", {"layer_types": ["chunked"]}, "decoder.layer_types=.* for each of 1"),
        (GEMMA, "encoder", {"vocab_size": 41}, "encoder.vocab_size=41: only one vocabulary"),
        (SECOND, "encoder", {"attn_logit_softcapping": 5.0}, "encoder.attn_logit_softcapping=5.0"),
        (SECOND, "decoder", {"rope_scaling": {"type": "yarn"}}, "decoder.rope_type='yarn'"),
        (SECOND, "", {"tie_word_embeddings": False}, "tie_word_embeddings=False: only True"),
        (SECOND, "", {"model_type": "t5gemma3"}, "'t5gemma3': must be one of .*t5gemma, t5gemma2"),
    ],
)
def test_what_is_not_built_is_refused_by_name(fields, stack, changes, message, tmp_path):
  saved(tmp_path, **fields)
  if stack:
    edit_stack(tmp_path, stack, **changes)
  else:
    edit_json(tmp_path / "config.json", **changes)
  with pytest.raises(ValueError, match=message):
    published.open_published(tmp_path)


def test_what_a_file_leaves_out_is_as_in_transformers(tmp_path):
  transformers = pytest.importorskip("transformers")
  few = {"num_hidden_layers": 7, "hidden_size": 16}
  for content in (
      {"model_type": "t5gemma", "encoder": few, "decoder": few},
      {"model_type": "t5gemma2", "encoder": {"text_config": few}, "decoder": few},
  ):
    (tmp_path / "config.json").write_text(json.dumps(content), encoding="utf-8")
    save_file({}, tmp_path / "model.safetensors")
    short = published.open_published(tmp_path)
    transformers.AutoConfig.from_pretrained(tmp_path).save_pretrained(tmp_path)
    whole = published.open_published(tmp_path)
    assert whole.architecture == short.architecture
    assert whole.config["vocab_size"] == short.config["vocab_size"]
    windows = whole.architecture["windows"]
    assert windows[0] == 4096 and windows.count(0) in (1, 3)
