"""Tokenizers of BART's family: what stands around a text, and languages, which no text names."""

import json

import numpy as np
import pytest

from kdtw_jax.base import EOS_ID, PAD_ID
from kdtw_jax.data import check_same_vocabulary, load_tokenizer
from tests import causal_tokenizer
from tests.bart_tokenizers import ENGLISH_GERMAN, FAMILIES, write_tokenizer
from tests.t5_tokenizer import make_madlad, make_t5

# What transformers puts around a text, and what its decoder is given before it writes.
AROUND = {
    "bart": ("<s> | </s>", "</s> <s>"),
    "nllb": ("eng_Latn | </s>", "</s> deu_Latn"),
    "m2m_100": ("__en__ | </s>", "</s> __de__"),
    "mbart": ("| </s> en_XX", "de_DE"),
    "pegasus": ("| </s>", "<pad>"),
}
SPELLINGS = ("a deu_Latn b", "__en__ a", "de_DE", "<s> a <pad> b </s>", "a<mask>b")
TEXT = "The letter costs 12.50, Maria?"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
  return {name: write_tokenizer(name, tmp_path_factory.mktemp(name)) for name in FAMILIES}


def load(family, folders):
  return load_tokenizer(folders[family], ENGLISH_GERMAN.get(family, ("", "")))


def theirs_of(family, folder):
  import transformers

  found = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
  if family in ENGLISH_GERMAN:
    found.src_lang, found.tgt_lang = ENGLISH_GERMAN[family]
  return found


@pytest.mark.parametrize("family", FAMILIES)
def test_ids_are_those_of_transformers_and_so_is_what_stands_around_them(family, folders, tmp_path):
  tokenizer, theirs = load(family, folders), theirs_of(family, folders[family])
  ids = tokenizer.ids
  table = np.arange(tokenizer.vocab_size)
  for ours, published in ids.renamed:
    table[ours] = published
  assert table[[PAD_ID, EOS_ID]].tolist() == [theirs.pad_token_id, theirs.eos_token_id]
  whole = [*ids.prompt_prefix, *tokenizer.encode(TEXT), *ids.prompt_suffix[:-1]]
  assert table[whole].tolist() == theirs(TEXT)["input_ids"]
  assert tokenizer.decode(whole) == TEXT
  around, before = AROUND[family]
  prefix, suffix = (tokenizer.pieces(x) for x in (ids.prompt_prefix, ids.prompt_suffix))
  assert [*prefix, "|", *suffix[:-1]] == around.split()
  assert [*tokenizer.pieces(ids.decoder_prefix), suffix[-1]] == before.split()
  tokenizer.save(tmp_path)  # as a run does, without config.json
  again = load_tokenizer(tmp_path)
  assert again.ids == ids and again.digest() == tokenizer.digest()
  assert theirs_of("", tmp_path)(TEXT)["input_ids"] == theirs(TEXT)["input_ids"]  # knows its own
  check_same_vocabulary(again, tokenizer, names=("a", "b"))


@pytest.mark.parametrize("family", ["bart", *ENGLISH_GERMAN])
def test_no_text_says_its_language_or_any_other_special_token(family, folders):
  tokenizer = load(family, folders)
  known = tokenizer.model_fields
  special = {PAD_ID, EOS_ID, *known["prompt_prefix"], *known["prompt_suffix"]}
  for text in SPELLINGS:
    assert not special & {*tokenizer.encode(text)}, text
  unknown = tokenizer.encode("a ∞ b")  # a text may be unknown
  assert (tokenizer.unk_id in unknown) == (family != "bart")


def test_what_a_config_does_not_say_right_is_named(folders, tmp_path):
  for family, languages, message in (
      ("nllb", ("", ""), "source_language='': the model in .* has 3 languages, such as ace_Latn, "),
      ("nllb", ("eng_Latn", "deu"), "target_language='deu': .* such as deu_Latn: name the one of"),
      ("m2m_100", ("eng_Latn", "de"), "source_language='eng_Latn': .* has 100 languages"),
      ("bart", ("en", "de"), "source_language='en': the model in .* has no languages: set it to"),
  ):
    with pytest.raises(ValueError, match=message):
      load_tokenizer(folders[family], languages)
  with pytest.raises(ValueError, match="source_language='en': .* has no languages"):
    load_tokenizer(make_t5(tmp_path / "t5", sentences=200), ("en", "de"))
  load("nllb", folders).save(tmp_path)
  assert load_tokenizer(tmp_path, ENGLISH_GERMAN["nllb"]).ids.languages == ENGLISH_GERMAN["nllb"]
  with pytest.raises(ValueError, match="target_language='ace_Latn': .* saved with 'deu_Latn'"):
    load_tokenizer(tmp_path, ("eng_Latn", "ace_Latn"))


def test_madlad_reads_the_language_of_the_output_before_a_source(tmp_path):
  folder = make_madlad(tmp_path, languages=("de", "fr"))
  tokenizer, theirs = load_tokenizer(folder, ("", "de")), theirs_of("", folder)
  ids = tokenizer.ids
  assert tokenizer.pieces(ids.prompt_prefix) == ["<2de>"] and ids.decoder_prefix == ()
  published = {ours: theirs for ours, theirs in ids.renamed}
  whole = [*ids.prompt_prefix, *tokenizer.encode(TEXT), *ids.prompt_suffix[:-1]]
  assert [published.get(i, i) for i in whole] == theirs(f"<2de> {TEXT}")["input_ids"]
  for languages, message in (
      (("", ""), "target_language='': the model in .* has 2 languages, such as de, fr"),
      (("en", "de"), "source_language='en': the model in .* is told no such: set it to ''"),
  ):
    with pytest.raises(ValueError, match=message):
      load_tokenizer(folder, languages)


def test_a_template_that_states_languages_is_told_them(tmp_path):
  """TranslateGemma's wants them beside the text, and puts them into words."""
  template = (
      "{% for m in messages %}<|start|>{{ m.role }}\n{% if m.role == 'user' %}"
      "Translate {{ m.content[0].source_lang_code }} to {{ m.content[0].target_lang_code }}:\n"
      "{{ m.content[0].text }}{% else %}{{ m.content }}{% endif %}<|end|>\n{% endfor %}"
      "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
  )
  folder = causal_tokenizer.make(tmp_path / "a", template=template)
  tokenizer, theirs = load_tokenizer(folder, ("en", "de-DE")), theirs_of("", folder)
  part = {"type": "text", "source_lang_code": "en", "target_lang_code": "de-DE", "text": TEXT}
  expected = theirs.apply_chat_template(
      [{"role": "user", "content": [part]}], add_generation_prompt=True, return_dict=False
  )
  ids = tokenizer.ids
  published = {ours: theirs for ours, theirs in ids.renamed}
  whole = [*ids.prompt_prefix, *tokenizer.encode(TEXT), *ids.prompt_suffix]
  assert [published.get(i, i) for i in whole] == expected
  tokenizer.save(tmp_path / "saved")
  assert load_tokenizer(tmp_path / "saved").ids == ids
  with pytest.raises(ValueError, match="target_language='': the chat template of .* states the"):
    load_tokenizer(folder, ("en", ""))


def test_a_language_that_is_the_published_start_gives_way_to_the_named_one(folders, tmp_path):
  """MBART's decoder starts with a language; that of mBART-50 and NLLB reads it second."""
  folder = write_tokenizer("mbart", tmp_path)
  content = json.loads((folder / "config.json").read_text())
  romanian = theirs_of("", folder).convert_tokens_to_ids("ro_RO")
  (folder / "config.json").write_text(json.dumps(content | {"decoder_start_token_id": romanian}))
  assert load("mbart", {"mbart": folder}).ids == load("mbart", folders).ids
