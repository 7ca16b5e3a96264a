"""Models that a config describes; see also tests/published for the folders themselves."""

import json

import jax
import pytest

from kdtw_jax import config as config_lib
from kdtw_jax import config_models, data, published
from kdtw_jax.models import ModelConfig, build
from tests import causal_tokenizer


@pytest.fixture
def folder(tmp_path):
  """A causal model with a tokenizer of 303 ids and a context of 64 positions."""
  config = ModelConfig(
      kind="causal",
      vocab_size=310,
      d_model=8,
      d_ff=8,
      num_heads=2,
      d_kv=4,
      num_decoder_layers=1,
      feed_forward="gated-silu",
  )
  params = build(config).init(jax.random.key(0))
  published.save_model(tmp_path / "model", params, config)
  content = json.loads((tmp_path / "model/config.json").read_text(encoding="utf-8"))
  causal_tokenizer.make(tmp_path / "model")
  content |= {"max_position_embeddings": 64, "eos_token_id": None}
  (tmp_path / "model/config.json").write_text(json.dumps(content), encoding="utf-8")
  return tmp_path / "model"


def test_a_published_causal_model_gets_rows_and_a_template_from_its_tokenizer(folder):
  config = config_lib.defaults()
  config.student.pretrained = str(folder)
  with config.unlocked():
    config.data.update(buckets=((8, 8),), prompt_length=8)
    config.decode.max_length = 8
  tokenizer = data.load_tokenizer(folder)
  found = config_models.build_model(config, "student", tokenizer).config
  assert (found.kind, found.d_model, found.tau_id) == ("causal", 8, tokenizer.tau_id)
  assert (
      found.prompt_suffix == tokenizer.ids.prompt_suffix != ModelConfig(vocab_size=9).prompt_suffix
  )
  assert found.has_pad_row
  params = config_models.published_params(config, "student", build(found))
  assert params["shared"]["embedding"].shape == (tokenizer.vocab_size, 8)


def test_a_prompt_that_is_longer_than_the_context_is_refused(folder):
  config = config_lib.defaults()
  config.student.pretrained = str(folder)
  with pytest.raises(ValueError, match=r"decode.max_length=\d+: .* has 64: lower it"):
    config_models.build_model(config, "student", data.load_tokenizer(folder))
