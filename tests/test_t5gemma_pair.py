"""A pair of two T5Gemma that are asked in turns, from a published folder to an export."""

import functools
import json

import jax
import numpy as np
import pytest

from kdtw_jax import config as config_lib
from kdtw_jax import config_models, data, pair, published
from kdtw_jax.base import EOS_ID, PAD_ID
from kdtw_jax.models import ModelConfig, build
from kdtw_jax.models.config_checks import GEMMA_BLOCKS
from tests import causal_tokenizer, exported_card
from tests.test_config import load

NAMED = {"model_type": "t5gemma", "is_encoder_decoder": True, "decoder": {"eos_token_id": [302, 5]}}
TEXT = "Zwei Männer"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """A published T5Gemma of 64 positions, and its tokenizer's folder."""
  base = tmp_path_factory.mktemp("t5gemma")
  tokenizer = data.load_tokenizer(causal_tokenizer.make(base / "tokenizer", bos=True, **NAMED))
  sizes = ModelConfig(
      kind="t5gemma",
      **GEMMA_BLOCKS,
      qk_norm=False,
      tie_embeddings=False,
      feed_forward="gated-gelu",
      d_model=16,
      d_ff=24,
      num_heads=2,
      d_kv=8,
      windows=(6,),
      encoder=(("d_model", 12), ("windows", (4,))),
      num_encoder_layers=1,
      num_decoder_layers=1,
      **{**tokenizer.model_fields, "vocab_size": tokenizer.num_tokens, "tau_id": -1},
  )
  params = build(sizes).init(jax.random.key(0))
  save = functools.partial(causal_tokenizer.make, bos=True)
  published.save_model(base / "model", params, sizes, save_tokenizer=save)
  config = published.config_json(sizes)  # over that of the tokenizer
  config["encoder"] |= {"max_position_embeddings": 64}
  (base / "model" / "config.json").write_text(json.dumps(config), encoding="utf-8")
  for name in ("kdtw.json", "generation_config.json"):  # a published model has none of ours
    (base / "model" / name).unlink()
  return base


def test_the_encoder_reads_a_turn_and_the_decoder_starts_with_bos(folder, tmp_path):
  import transformers

  theirs = transformers.AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
  tokenizer = data.load_tokenizer(folder / "tokenizer")
  ids, table = tokenizer.ids, dict(tokenizer.ids.renamed)
  whole = [*ids.prompt_prefix, *tokenizer.encode(TEXT), *ids.prompt_suffix]
  asked = theirs.apply_chat_template(
      [{"role": "user", "content": TEXT}],
      add_generation_prompt=True,
      enable_thinking=False,
      return_dict=False,
  )
  assert [table.get(i, i) for i in whole] == [*asked, theirs.bos_token_id]
  assert (table[PAD_ID], table[EOS_ID]) == (theirs.pad_token_id, theirs.eos_token_id)
  assert (ids.stop_ids, ids.adds_padding) == ((5,), False)
  plain = data.load_tokenizer(causal_tokenizer.make(tmp_path, template=None, bos=True, **NAMED))
  assert plain.pieces(plain.ids.prompt_prefix) == ["<|start|>"]
  assert plain.pieces(plain.ids.prompt_suffix) == ["<|start|>"]  # no line's end


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")  # the library's own deprecations are not ours to fail on
def test_a_pair_writes_what_transformers_writes_by_the_code_on_its_card(folder):
  pytest.importorskip("torch")
  config = load("demo", "smoke")
  config.data.update(buckets=((24, 24),), prompt_length=0)
  config.decode.update(max_length=24, chunk=25)
  config.teacher.pretrained = config.student.pretrained = str(folder / "model")
  config_lib.validate(config)
  tokenizer = data.load_tokenizer(folder / "model")
  models = config_models.build_models(config, tokenizer)
  assert models.student.config.encoder_config.windows == (4,)
  pair.save_pair(
      folder / "pair",
      config=config_lib.to_json(config),
      models=models,
      tokenizer=tokenizer,
      student_params=jax.tree.map(lambda leaf: 4.0 * leaf, models.student.init(jax.random.key(1))),
      teacher_params=config_models.published_params(config, "teacher", models.teacher),
      duals=np.ones(len(config.budgets.knots), np.float32),
      shortest=(1.0, 0.5),
      paces={"paced": 1.0, "hard": 1.0, "prefix": 1.0, "ledger": 1.0},
  )
  written = pair.load_pair(folder / "pair").write(TEXT, budget=0)
  assert len({*written.tokens}) > 2 and written.calls == 0
  found = exported_card.output(folder / "pair", folder / "exported", TEXT)
  assert found == written.text.strip()


def test_texts_that_are_longer_than_either_stack_are_refused(folder):
  config = config_lib.defaults()
  config.student.pretrained = str(folder / "model")
  tokenizer = data.load_tokenizer(folder / "model")
  with pytest.raises(ValueError, match=r"data.buckets=40: a source of 40 .* has 64"):
    config_models.build_model(config, "student", tokenizer)


def test_a_t5gemma_of_ones_own_has_the_blocks_of_its_kind():
  config = config_lib.defaults()
  config.student.model.update(kind="t5gemma", feed_forward="gated-gelu", num_key_heads=2)
  config_lib.validate(config)
  tokenizer = data.train_tokenizer(data.tokenizer_text(), vocab_size=100, seed=0)
  found = config_models.build_model(config, "student", tokenizer).config
  assert found.post_norms and found.norm_offset and not found.qk_norm
  config.student.model.feed_forward = "relu"
  with pytest.raises(ValueError, match="feed_forward='relu': must be gated-.* with kind='t5gemma'"):
    config_lib.validate(config)
