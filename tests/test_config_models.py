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


def test_a_bart_of_ones_own_scales_its_embeddings_and_has_fields_of_its_kind():
  config = config_lib.defaults()
  config.student.model.kind = "bart"
  config_lib.validate(config)
  tokenizer = data.train_tokenizer(data.tokenizer_text(), vocab_size=100, seed=0)
  assert config_models.build_model(config, "student", tokenizer).config.scale_embedding
  assert not config_models.build_model(config, "teacher", tokenizer).config.scale_embedding
  for field, value, message in (
      ("feed_forward", "gated-gelu", "must be relu or gelu with kind='bart'"),
      ("d_kv", 5, "must be d_model / num_heads = 16 with kind='bart'"),
      ("tie_embeddings", False, "must be True with kind='bart'"),
  ):
    config.student.model[field], before = value, config.student.model[field]
    with pytest.raises(ValueError, match=f"student.model.{field}=.*: {message}"):
      config_lib.validate(config)
    config.student.model[field] = before


def test_texts_that_are_longer_than_a_bart_are_refused(tmp_path):
  config = config_lib.defaults()
  sizes = ModelConfig(kind="bart", vocab_size=310, d_model=8, num_heads=2, d_kv=4, max_positions=40)
  published.save_model(tmp_path, build(sizes).init(jax.random.key(0)), sizes)
  config.student.pretrained = str(tmp_path)
  tokenizer = data.train_tokenizer(data.tokenizer_text(), vocab_size=100, seed=0)
  with pytest.raises(ValueError, match=r"data.buckets=40: a source of 40 .* need 60 .* has 40"):
    config_models.build_model(config, "student", tokenizer)
  with config.unlocked():
    config.data.update(buckets=((16, 16),))
  config_models.build_model(config, "student", tokenizer)
  config.decode.max_length = 41
  with pytest.raises(ValueError, match=r"decode.max_length=41: an output .* need 41 positions"):
    config_models.build_model(config, "student", tokenizer)
