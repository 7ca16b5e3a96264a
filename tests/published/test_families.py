"""Every published family against transformers, both ways; see `parity.py`."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from tiny_folders import TINY, assert_same_bits, random_model

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
import parity

from kdtw_jax import published
from kdtw_jax.base import EOS_ID, PAD_ID
from kdtw_jax.models import shift_right
from kdtw_jax.models.config_checks import GEMMA_BLOCKS

pytestmark = [
    pytest.mark.parity,
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore"),  # the libraries' own deprecations are not ours to fail on
]
TOLERANCE = 1e-5  # float32 sums in another order; logits are of size 1 to 10


@pytest.mark.parametrize("family", parity.FAMILIES)
def test_a_family_in_and_out(family, figures, tmp_path):
  parity.write_checkpoint(family, tmp_path, seed=list(parity.FAMILIES).index(family))
  is_sharded = family in ("flan_t5", "t5gemma")
  assert (tmp_path / "model.safetensors").is_file() != is_sharded
  found = figures[family] = parity.differences(tmp_path, family)
  assert found["max_logit"] > 1  # outputs near zero would agree with anything
  for what in ("encoder", "logits", "cached", "back"):
    assert found[what] < TOLERANCE, what
  assert found["greedy_same"] and found["greedy_distinct"] >= 3, found
  assert found["weights_same"] and found["weights_back"]


@pytest.mark.parametrize(
    "family", ["t5", "flan_t5", "umt5", "madlad", "nllb", "bart", "pegasus", "t5gemma", "t5gemma2"]
)
def test_a_bfloat16_checkpoint_keeps_its_bits(family, tmp_path):
  parity.write_checkpoint(family, tmp_path / "theirs", seed=1, dtype="bfloat16")
  config = parity.our_model(tmp_path / "theirs", param_dtype="bfloat16", family=family).config
  params = published.load_params(tmp_path / "theirs", config)
  assert {str(leaf.dtype) for leaf in jax.tree.leaves(params)} == {"bfloat16"}
  original = parity.file_tensors(tmp_path / "theirs")
  written = parity.of_text(dict(published.export_weights(params, config)))
  assert parity.same_bits(written, parity.of_text(original))
  back = parity.export(tmp_path / "theirs", tmp_path / "ours", params, config)
  assert str(back.dtype) == "torch.bfloat16"
  theirs = parity.torch_model(tmp_path / "theirs")
  assert parity.same_bits(*(parity.of_text(x.state_dict()) for x in (back, theirs)))
  wide = parity.our_model(tmp_path / "theirs", family=family).config
  assert_same_bits(
      jax.tree.map(
          lambda x: x.astype("bfloat16"), published.load_params(tmp_path / "theirs", wide)
      ),
      params,
  )


def test_the_comparison_of_bits_sees_a_changed_bit():
  weights = {"a": np.ones((2, 3), np.float32), "b": np.ones(2, np.float32)}
  grown = np.concatenate([weights["a"], np.zeros((1, 3), np.float32)])
  assert parity.same_bits(weights, weights) and parity.same_bits(weights | {"a": grown}, weights)
  for other in (
      weights["a"] * np.float32(1 + 2e-7),
      weights["a"][:1],
      grown + 1,
      weights["a"].astype(np.float16),
  ):
    assert not parity.same_bits(weights | {"a": other}, weights)
  assert not parity.same_bits({"a": weights["a"]}, weights)


GEMMA = {
    "kind": "t5gemma",
    **GEMMA_BLOCKS,
    "qk_norm": False,
    "d_kv": 6,
    "num_key_heads": 1,
    "feed_forward": "gated-gelu",
    "query_scale": 8**-0.5,
}
STUDENTS = {
    "tied": {"gate": "token", "tau_id": 36, "num_tokens": 36},
    "untied": {
        "gate": "difficulty_price",
        "value_heads": True,
        "feed_forward": "gated-gelu",
        "tie_embeddings": False,
        "tau_id": 36,
        "num_tokens": 36,
    },
    "bias per layer": {"gate": "mlp", "bias_per_layer": True, "tie_embeddings": False, "tau_id": 3},
    "other special ids": {
        "renamed_ids": ((0, 1), (1, 2), (2, 0)),
        "prompt_suffix": (1, 2),
        "tie_embeddings": False,
    },
    "untied, scaled": {"tie_embeddings": False, "scale_readout": True},
    "tied, unscaled": {"scale_readout": False},
    "pegasus": {"kind": "bart", "d_kv": 6, "gate": "token", "tau_id": 36, "num_tokens": 36},
    "t5gemma": {
        **GEMMA,
        "encoder": (("d_model", 8), ("num_heads", 1), ("windows", (3, 0))),
        "windows": (2,),
        "tie_embeddings": False,
        "score_cap": 5.0,
        "logit_cap": 9.0,
        "gate": "token",
        "tau_id": 36,
        "num_tokens": 36,
        "prompt_prefix": (2, 30),
        "prompt_suffix": (31, 2),
    },
    "t5gemma2": {
        **GEMMA,
        "merged_attention": True,
        "qk_norm": True,
        "rope_theta": 1e6,
        "rope_scaling": ("linear", 8.0),
        "encoder": (("d_ff", 24), ("windows", (3, 0))),
        "renamed_ids": ((1, 5), (5, 1)),
    },
    "bart": {
        "kind": "bart",
        "d_kv": 6,
        "positions": "learned",
        "max_positions": 64,
        "pre_norm": False,
        "embedding_norm": True,
        "feed_forward": "gelu",
        "renamed_ids": ((0, 1), (1, 2), (2, 0)),
        "prompt_prefix": (2,),
        "decoder_prefix": (1,),
        "prompt_suffix": (1, 2),
    },
}


@pytest.mark.parametrize("kind", STUDENTS)
def test_a_student_of_ours_is_a_model_of_transformers(kind, tmp_path):
  config, model, params = random_model(**STUDENTS[kind])
  duals = np.ones(len(config.price_knots), np.float32)
  published.save_model(tmp_path / "student", params, config, duals=duals)
  rng = np.random.default_rng(0)
  source, target = (rng.integers(4, 36, (2, length)).astype(np.int32) for length in (9, 8))
  source[:, -1], source[1, 4:] = EOS_ID, PAD_ID
  source[1, 3] = EOS_ID

  def run(params):
    hidden = model.hidden(params, model.encode(params, source), shift_right(target))
    return model.logits(params, hidden)

  ours = np.asarray(jax.jit(run)(params))
  theirs = parity.torch_outputs(
      parity.torch_model(tmp_path / "student"), source, np.asarray(shift_right(target)), config
  )["logits"]
  rows = np.arange(TINY.vocab_size)
  shown = (rows != config.tau_id) & (rows < (config.num_tokens or TINY.vocab_size))
  assert shown.sum() >= 36 and np.abs(ours[..., shown]).max() > 0.5
  np.testing.assert_allclose(ours[..., shown], theirs[..., shown], rtol=TOLERANCE, atol=TOLERANCE)
  said = config
  if config.kind == "t5":
    said = dataclasses.replace(config, scale_readout=config.scales_readout)
  assert published.load_model(tmp_path / "student").model.config == said
  content = json.loads((tmp_path / "student" / "config.json").read_text())
  family = "umt5" if config.bias_per_layer else "t5"
  assert content["model_type"] == (family if config.kind == "t5" else kind)


def test_rows_without_a_token_are_never_generated(tmp_path):
  import torch

  config, _, params = random_model(tie_embeddings=False, tau_id=36, num_tokens=36)
  loud = 1e3 * np.random.default_rng(0).standard_normal((4, config.d_model))  # rows 36 .. 39
  params["readout_kernel"][36:] = loud
  published.save_model(tmp_path / "student", params, config)
  model = parity.torch_model(tmp_path / "student")
  source = torch.tensor([[5, 6, 7, 1], [8, 9, 1, 0]])
  with torch.no_grad():
    free = model(input_ids=source, decoder_input_ids=torch.zeros((2, 1), dtype=torch.long)).logits
    written = model.generate(source, max_new_tokens=12, do_sample=False, num_beams=1)
  assert (free[:, -1].argmax(dim=-1) >= 36).any()  # they would be, but for generation_config.json
  assert written.shape[1] > 2 and (written < 36).all()
