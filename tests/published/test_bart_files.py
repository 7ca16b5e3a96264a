"""Files of BART's families: what is refused, by name, and what they may hold in other ways."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny_folders import assert_same_bits, edit_json, saved, without_heads

from kdtw_jax import published

BART = {"kind": "bart", "d_kv": 6}
MBART = {
    **BART,
    "positions": "learned",
    "max_positions": 8,
    "embedding_norm": True,
    "renamed_ids": ((0, 1), (1, 2), (2, 0)),
    "prompt_suffix": (1, 30, 31),
}


def loaded(folder, config):
  """The params of a folder, with the fields that its files decide."""
  found = published.open_published(folder).architecture
  assert found.items() <= vars(config).items()
  return published.load_params(folder, config)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"model_type": "nllb-moe"}, "model_type='nllb-moe': must be one of .*m2m_100.* mixtures"),
        ({"decoder_ffn_dim": 7}, "decoder_ffn_dim=7: only 20 is built"),
        ({"decoder_attention_heads": 4}, "decoder_attention_heads=4: only 2 is built"),
        ({"activation_function": "swish"}, "activation_function='swish': must be one of relu"),
        ({"normalize_before": False}, "normalize_before=False: only True is built for .*'pegasus'"),
        ({"add_bias_logits": True}, "add_bias_logits=True: only False is built"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings=False: only True is built"),
        ({"encoder_layers": None}, "encoder_layers=None: must be a number"),
    ],
)
def test_what_is_not_built_is_refused_by_name(changes, message, tmp_path):
  saved(tmp_path, **BART)
  edit_json(tmp_path / "config.json", **changes)
  with pytest.raises(ValueError, match=message):
    published.open_published(tmp_path)


def test_a_bias_of_logits_is_refused_unless_it_is_zero(tmp_path):
  config, params = saved(tmp_path, **BART)
  weights = load_file(tmp_path / "model.safetensors")
  assert weights["final_logits_bias"].shape == (1, 40) and not weights["final_logits_bias"].any()
  assert weights["model.encoder.embed_positions.weight"].shape == (1024, 12)  # Pegasus has them
  assert_same_bits(jax.tree.map(np.asarray, loaded(tmp_path, config)), without_heads(params))
  weights["final_logits_bias"][0, 5] = 0.1
  save_file(weights, tmp_path / "model.safetensors")
  with pytest.raises(ValueError, match="'final_logits_bias' is not zero"):
    loaded(tmp_path, config)


def test_a_file_without_its_readout_has_shorter_names(tmp_path):
  """As facebook/bart-base is published: the blocks alone."""
  config, params = saved(tmp_path, **MBART)
  weights = load_file(tmp_path / "model.safetensors")
  del weights["final_logits_bias"]
  bare = {name.removeprefix("model."): array for name, array in weights.items()}
  save_file(bare, tmp_path / "model.safetensors")
  assert_same_bits(jax.tree.map(np.asarray, loaded(tmp_path, config)), without_heads(params))


def test_special_ids_of_another_vocabulary_are_refused(tmp_path):
  """But for the language that mBART's decoder starts with, which is what a config names."""
  config, _ = saved(tmp_path, **MBART)
  content = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
  assert (content["model_type"], content["decoder_start_token_id"]) == ("mbart", 31)
  edit_json(tmp_path / "config.json", decoder_start_token_id=25)
  loaded(tmp_path, config)
  edit_json(tmp_path / "config.json", pad_token_id=5)
  with pytest.raises(ValueError, match="pad_token_id=5, but 1 with model.renamed_ids"):
    loaded(tmp_path, config)
