"""A pair of two NLLB: told its languages once, it knows them wherever it goes."""

import functools

import jax
import numpy as np
import pytest

from kdtw_jax import config as config_lib
from kdtw_jax import config_models, data, pair, published
from kdtw_jax.models import ModelConfig, build
from tests import bart_tokenizers, exported_card
from tests.test_config import load

LANGUAGES = bart_tokenizers.ENGLISH_GERMAN["nllb"]
TEXT = "The letter costs 12 euros, Maria?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """A published NLLB, and beside it a pair that starts from it."""
  base = tmp_path_factory.mktemp("nllb")
  named = bart_tokenizers.write_tokenizer("nllb", base / "tokenizer")
  tokenizer = data.load_tokenizer(named, LANGUAGES)
  sizes = ModelConfig(
      kind="bart",
      positions="m2m",
      scale_embedding=True,
      d_model=16,
      d_ff=24,
      num_heads=2,
      d_kv=8,
      num_encoder_layers=1,
      num_decoder_layers=1,
      **{**tokenizer.model_fields, "vocab_size": tokenizer.num_tokens, "tau_id": -1},
  )
  save = functools.partial(bart_tokenizers.save, "nllb")
  params = build(sizes).init(jax.random.key(0))
  published.save_model(base / "model", params, sizes, save_tokenizer=save)
  for name in ("kdtw.json", "generation_config.json"):  # a published model has none of ours
    (base / "model" / name).unlink()
  config = load("demo", "smoke")
  config.data.update(buckets=((40, 24),), prompt_length=0)
  config.decode.update(max_length=24, chunk=25)
  config.tokenizer.update(source_language=LANGUAGES[0], target_language=LANGUAGES[1])
  config.teacher.pretrained = config.student.pretrained = str(base / "model")
  config_lib.validate(config)
  models = config_models.build_models(config, tokenizer)
  teacher_params = config_models.published_params(config, "teacher", models.teacher)
  student_params = jax.tree.map(lambda leaf: 4.0 * leaf, models.student.init(jax.random.key(1)))
  pair.save_pair(
      base / "pair",
      config=config_lib.to_json(config),
      models=models,
      tokenizer=tokenizer,
      student_params=student_params,
      teacher_params=teacher_params,
      duals=np.ones(len(config.budgets.knots), np.float32),
      shortest=(1.0, 0.5),
      paces={"paced": 1.0, "hard": 1.0, "prefix": 1.0, "ledger": 1.0},
  )
  return base


def test_a_pair_writes_what_transformers_writes_by_the_code_on_its_card(folder):
  loaded = pair.load_pair(folder / "pair")
  assert loaded.tokenizer.ids.languages == LANGUAGES
  for model in (loaded.student, loaded.teacher):
    assert loaded.tokenizer.pieces(model.config.prompt_prefix) == ["eng_Latn"]
    given = (*model.config.decoder_prefix, model.config.prompt_suffix[-1])
    assert loaded.tokenizer.pieces(given) == ["</s>", "deu_Latn"]
  written = loaded.write(TEXT, budget=0)
  assert len(written.tokens) == 24 and len({*written.tokens}) > 2 and written.calls == 0
  found = exported_card.output(folder / "pair", folder / "exported", TEXT)
  assert found == written.text


def test_published_models_of_languages_need_them_named(folder):
  with pytest.raises(ValueError, match="tokenizer.source_language='': .* has 3 languages"):
    data.load_tokenizer(folder / "model")
  config = load("demo", "smoke")
  config.tokenizer.source_language = "eng_Latn"
  with pytest.raises(ValueError, match="source_language='eng_Latn': must be '' without a publ"):
    config_lib.validate(config)
  config.student.pretrained = str(folder / "model")
  with pytest.raises(ValueError, match="target_language='': must be named, as the language of s"):
    config_lib.validate(config)
