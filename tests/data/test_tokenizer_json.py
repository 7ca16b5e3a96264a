"""A saved tokenizer in transformers' hands: the same ids, the same text, `<τ>` out of reach."""

import io
import json
import os
from pathlib import Path
import random
import unicodedata

import pytest
import sentencepiece

from kdtw_jax.base import TAU
from kdtw_jax.data import (
    HELD_OUT_WORDINGS,
    TRAIN_WORDINGS,
    load_tokenizer,
    render,
    tokenizer_text,
    train_tokenizer,
)
from kdtw_jax.data.normalising import DIGITS, normalise, normalizer_steps
from kdtw_jax.data.phrasebook import PhrasebookSource
from kdtw_jax.data.tokenizer import Tokenizer

SPELLED = (TAU, "</s>", "<pad>", "<unk>", "<0x41>", "<", "τ>", "</", "<p", "a<τ>b")
SPACES = (" ", "  ", "\t", "\r\n", "\xa0", "\u2028", "\u3000", "\x1c", "\x85", "\u200b", "\ufeff")
OTHERS = ("你好", "привет", "😀👍🏽", "u\u0308", "e\u0301", "\u0301", "ﬁ", "ก็", "\u1100\u1161")
OTHERS += ("▁", "\x00", "\x1a", "\ufffd", "\U0010ffff", "…", "......", "aaaa", "ababa", "\\[^]-")
NUMBERS = ("12%", "3.205", "%%", "€12.50", "007", "½", "٣")
HTML = (
    "a <b>bold</b> </s>old<s> <pad>ded <unk>nown"  # pieces that span the spelling of special ones
)
KINDS = {
    name: {"kind": kind, "byte_fallback": has_bytes, "html": with_html}
    for kind in ("bpe", "unigram")
    for has_bytes in (False, True)
    for with_html in (False, True)
    for name in ["".join((kind, " with bytes" * has_bytes, " and <" * with_html))]
}


def phrases(split, count):
  source = PhrasebookSource(split, size=count, seed=0)
  return [text for i in range(count) for text in (source[i].source, source[i].target)]


@pytest.fixture(scope="module")
def texts():
  """1,000 of them, most of which no model was trained on."""
  rng = random.Random(0)
  plain = phrases("test", 200)
  wordings = (*TRAIN_WORDINGS, *HELD_OUT_WORDINGS)
  prompts = [render(rng.randrange(101) / 100, rng.choice(wordings)) + text for text in plain[:200]]
  words = " ".join(plain).split()
  parts = (*SPELLED, *SPACES, *OTHERS, *NUMBERS)

  def odd():
    chosen = (rng.choice(parts if rng.random() < 0.7 else words) for _ in range(rng.randrange(12)))
    return rng.choice(("", " ")).join(chosen)

  fixed = ["", " ", "\n\t", "\u200b \ufeff", TAU, f"Hallo {TAU} Welt", "▁<τ>", *parts]
  odds = [odd() for _ in range(1000 - len(plain) - len(prompts) - len(fixed))]
  return [*plain, *prompts, *fixed, *odds]


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request):
  options = dict(KINDS[request.param])
  lines = [*phrases("train", 500), *tokenizer_text()[:100], "ab abab aaaa ......"]
  lines += [HTML] * (50 if options.pop("html") else 0)
  return train_tokenizer(lines, vocab_size=700, **options)


def as_theirs(tokenizer, folder):
  """What AutoTokenizer makes of the folder of a T5 with our files."""
  import transformers

  tokenizer.save(folder)
  (folder / "config.json").write_text(json.dumps({"model_type": "t5"}))
  return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)


@pytest.fixture(scope="module")
def theirs(tokenizer, tmp_path_factory):
  return as_theirs(tokenizer, tmp_path_factory.mktemp("theirs"))


def test_the_ids_are_ours_and_eos(tokenizer, theirs, texts):
  assert len(set(texts)) > 900 and len(texts) == 1000
  expected = [[*ids, tokenizer.eos_id] for ids in tokenizer.encode_batch(texts)]
  assert len(set().union(*expected)) > 350  # of 700
  found = theirs(texts)["input_ids"]
  wrong = [text for text, a, b in zip(texts, found, expected, strict=True) if a != b]
  assert wrong == []


@pytest.mark.real_data
@pytest.mark.skipif("KDTW_DATA" not in os.environ, reason="KDTW_DATA names no folder")
def test_the_ids_of_real_sentences(tmp_path):
  folder = Path(os.environ["KDTW_DATA"]) / "multi30k"
  train, texts = (
      [
          line
          for language in ("en", "de")
          for line in (folder / f"{language}.{split}.txt").read_text(encoding="utf-8").splitlines()
      ]
      for split in ("validation", "test")
  )
  ours = train_tokenizer(train, vocab_size=2000, kind="unigram")
  expected = [[*ids, ours.eos_id] for ids in ours.encode_batch(texts)]
  assert as_theirs(ours, tmp_path)(texts)["input_ids"] == expected and len(texts) == 2000


def test_text_comes_back_as_ours(tokenizer, theirs, texts):
  known = [ids for ids in tokenizer.encode_batch(texts) if tokenizer.unk_id not in ids]
  assert len(known) > 400
  noisy = [[0, 3, *ids[:2], 3, *ids[2:], 1, 0] for ids in known]
  found = theirs.batch_decode(noisy, skip_special_tokens=True)
  assert found == [tokenizer.decode(ids) for ids in noisy]


def test_any_ids_read_as_ours(tokenizer, theirs):
  rng = random.Random(1)
  plain = [i for i, piece in enumerate(tokenizer.pieces(range(700))) if not piece.startswith("<0x")]
  rows = [[rng.choice([i for i in plain if i != 2]) for _ in range(8)] for _ in range(200)]
  rows += [tokenizer.encode("a")[:1] * 3]  # nothing but spaces, or nearly
  found = theirs.batch_decode(rows, skip_special_tokens=True)
  assert found == [tokenizer.decode(ids) for ids in rows]


def test_the_special_tokens_are_declared(tokenizer, theirs):
  assert len(theirs) == len(theirs.get_vocab()) == theirs.vocab_size == tokenizer.vocab_size
  assert (theirs.pad_token_id, theirs.eos_token_id, theirs.unk_token_id) == (0, 1, 2)
  assert (theirs.tau_token, theirs.tau_token_id) == (TAU, tokenizer.tau_id)
  assert set(theirs.all_special_ids) == {0, 1, 2, tokenizer.tau_id}
  assert theirs("Hallo").keys() == {"input_ids", "attention_mask"}  # all that a T5 takes
  assert theirs(["a", "a b"], padding=True)["attention_mask"][0][-1] == 0


def test_the_text_of_a_special_token_is_text_unless_asked_for(theirs):
  assert 3 not in theirs(TAU)["input_ids"]
  assert theirs(TAU, split_special_tokens=False)["input_ids"] == [3, 1]


def test_the_folder_is_still_ours(tokenizer, tmp_path, texts):
  tokenizer.save(tmp_path)
  assert sorted(file.name for file in tmp_path.iterdir()) == [
      "tokenizer.json",
      "tokenizer.model",
      "tokenizer_config.json",
  ]
  loaded = load_tokenizer(tmp_path)
  assert isinstance(loaded, Tokenizer)
  assert loaded.encode_batch(texts) == tokenizer.encode_batch(texts)


def test_the_normalizers_do_as_normalise_does():
  from tokenizers import normalizers

  theirs = normalizers.Sequence(normalizer_steps())
  texts = ["", " ", "\x00", "a \u200b b", "\x00 a", "u\u200b\u0308", "a▁ ▁b"]
  for letter in map(chr, (*range(0x3100), *range(0xF900, 0x10000), *range(0x1D000, 0x1D800))):
    if unicodedata.ucd_3_2_0.category(letter) != "Cn":  # how newer ones compose is not known to all
      texts += [letter, f"a{letter}b", unicodedata.normalize("NFD", f"{letter}\u0301")]
  for text in texts:
    words = normalise(text).split()
    assert theirs.normalize_str(text) == "".join("▁" + word for word in words), ascii(text)


@pytest.mark.parametrize(
    "setting, value",
    [
        ("normalization_rule_name", "nmt_nfkc"),
        ("add_dummy_prefix", False),
        ("remove_extra_whitespaces", False),
        ("split_by_whitespace", False),
        ("user_defined_symbols", ["%"]),
        ("model_type", "char"),
    ],
)
def test_a_model_that_reads_text_in_another_way_is_refused(setting, value, tmp_path):
  model = io.BytesIO()
  settings = {
      "model_type": "bpe",
      "normalization_rule_name": "identity",
      "user_defined_symbols": list(DIGITS),
      "vocab_size": 300,
      **{setting: value},
  }
  sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter([*phrases("train", 200), "on the on the on the"]),
      model_writer=model,
      pad_id=0,
      eos_id=1,
      unk_id=2,
      bos_id=-1,
      control_symbols=[TAU],
      hard_vocab_limit=False,
      minloglevel=2,
      **settings,
  )
  with pytest.raises(ValueError, match=f"model: {setting} is not as train_tokenizer sets it"):
    Tokenizer(model.getvalue()).save(tmp_path / "new")
  assert not (tmp_path / "new").exists()
