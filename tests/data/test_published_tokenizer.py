"""Tokenizers of published models: transformers' own ids, and `<τ>` out of reach of any text."""

import json

import numpy as np
import pytest

from kdtw_jax.base import EOS_ID, PAD_ID, TAU, UNK_ID
from kdtw_jax.data import (
    PublishedTokenizer,
    check_same_vocabulary,
    load_tokenizer,
    tokenizer_text,
    train_tokenizer,
)
from tests.t5_tokenizer import PIECES, TEXTS, make_madlad, make_t5

SPELLINGS = (
    "</s>",
    "<pad>",
    TAU,
    f"Hallo {TAU} Welt",
    "<pad></s><unk>",
    "a</s>b",
    f"x{TAU}{TAU}",
    "▁<τ>",
)


def make_byt5(folder):
  """ByT5's tokenizer, as transformers writes it."""
  import transformers

  transformers.ByT5Tokenizer().save_pretrained(folder)
  (folder / "config.json").write_text(json.dumps({"model_type": "t5"}))
  return folder


MAKERS = {"t5": make_t5, "byt5": make_byt5, "madlad": make_madlad}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
  return {name: make(tmp_path_factory.mktemp("tokenizers") / name) for name, make in MAKERS.items()}


@pytest.fixture(scope="module", params=MAKERS)
def pair(request, folders):
  """Our tokenizer and transformers' own."""
  import transformers

  folder = folders[request.param]
  return (
      PublishedTokenizer.load(folder),
      transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True),
  )


@pytest.fixture(scope="module")
def tokenizer(pair):
  return pair[0]


def test_ids_are_those_of_transformers_without_eos(pair):
  ours, theirs = pair
  table = np.arange(len(theirs))
  table[[theirs.pad_token_id, theirs.eos_token_id, theirs.unk_token_id]] = PAD_ID, EOS_ID, UNK_ID
  rows = [table[theirs(text)["input_ids"]].tolist() for text in TEXTS]
  assert all(row[-1] == EOS_ID for row in rows)
  # transformers 5.24 takes id 2 for the unknown token of any T5, which is EOS in MADLAD-400.
  expected = [[i for i in row if i != EOS_ID] for row in rows]
  assert ours.encode_batch(TEXTS) == expected
  assert [ours.encode(text) for text in TEXTS] == expected
  assert ours.encode_batch([]) == []


def test_no_text_makes_pad_eos_or_tau(tokenizer):
  for text in (*SPELLINGS, *TEXTS):
    ids = tokenizer.encode(text)
    assert not {PAD_ID, EOS_ID, tokenizer.tau_id} & set(ids), text
    assert all(0 <= i < tokenizer.num_tokens for i in ids), text
  assert len(tokenizer.encode(TAU)) > 0  # its characters are text


@pytest.mark.parametrize("prefix", ["translate English to German: ", "Use 20%: ", "a ", "Äpfel. "])
def test_an_instruction_and_a_text_are_encoded_as_one(tokenizer, prefix):
  for text in ("The letter costs €12.50, Maria?", "a", "an apple", "Äpfel", "12", "x"):
    joined = tokenizer.encode_instruction(prefix) + tokenizer.encode(text)
    assert joined == tokenizer.encode(prefix + text)


def test_an_empty_instruction_has_no_ids(tokenizer):
  assert tokenizer.encode_instruction("") == []


def test_decoding_skips_special_ids_and_padding(tokenizer):
  text = "The letter costs 12.50, Maria?"
  ids = tokenizer.encode(text)
  noisy = np.array(
      [
          PAD_ID,
          tokenizer.tau_id,
          *ids[:2],
          tokenizer.tau_id,
          tokenizer.vocab_size - 1,
          *ids[2:],
          EOS_ID,
          PAD_ID,
      ],
      np.int32,
  )
  assert tokenizer.decode(ids) == tokenizer.decode(noisy) == text
  assert tokenizer.decode([]) == tokenizer.decode([PAD_ID, EOS_ID, tokenizer.tau_id]) == ""


@pytest.mark.parametrize(
    "name, num_tokens, vocab_size",
    [
        ("t5", PIECES + 100, 512),
        ("madlad", PIECES, 384),
        ("byt5", 384, 512),
    ],  # 384 is a multiple of 128, full of tokens
)
def test_tau_is_the_first_row_after_the_tokens(folders, name, num_tokens, vocab_size):
  tokenizer = PublishedTokenizer.load(folders[name])
  assert (tokenizer.num_tokens, tokenizer.tau_id) == (num_tokens, num_tokens)
  assert tokenizer.vocab_size == vocab_size
  assert (tokenizer.pad_id, tokenizer.eos_id, tokenizer.unk_id) == (0, 1, 2)


def test_a_decoder_that_starts_with_another_row_than_padding(folders):
  found = PublishedTokenizer.load(folders["madlad"]).model_fields
  assert found["renamed_ids"] == ((PAD_ID, 1), (EOS_ID, 2), (UNK_ID, 0))
  assert found["prompt_suffix"] == (EOS_ID, UNK_ID)
  plain = PublishedTokenizer.load(folders["t5"]).model_fields
  assert (plain["renamed_ids"], plain["prompt_suffix"]) == ((), (EOS_ID, PAD_ID))


class Sized:
  """As much of a tokenizer of transformers as decides the rows."""

  pad_token_id, eos_token_id, unk_token_id = 0, 1, 2

  def __init__(self, size: int):
    self.size = size

  def __len__(self) -> int:
    return self.size


@pytest.mark.parametrize(
    "num_tokens, vocab_size", [(32100, 32128), (250100, 250112), (127, 128), (128, 256), (1, 128)]
)
def test_rows_of_the_published_sizes(num_tokens, vocab_size):
  tokenizer = PublishedTokenizer(Sized(num_tokens))
  assert (tokenizer.tau_id, tokenizer.vocab_size) == (num_tokens, vocab_size)


def test_pieces_are_readable(pair):
  tokenizer, theirs = pair
  ids = tokenizer.encode("two words")
  pieces = tokenizer.pieces([PAD_ID, EOS_ID, *ids, tokenizer.tau_id, tokenizer.vocab_size - 1])
  assert pieces[:2] == [theirs.pad_token, "</s>"]
  assert "".join(pieces[2:-2]).removeprefix("▁") == "two▁words"
  assert pieces[-2:] == [TAU, f"<row {tokenizer.vocab_size - 1}>"]


def test_save_and_load(tokenizer, tmp_path):
  tokenizer.save(tmp_path)
  loaded = load_tokenizer(tmp_path)
  assert isinstance(loaded, PublishedTokenizer)
  assert loaded.model_fields == tokenizer.model_fields
  for text in (*TEXTS, *SPELLINGS):
    assert loaded.encode(text) == tokenizer.encode(text)
  check_same_vocabulary(loaded, tokenizer, names=("a", "b"))


def test_a_digest_is_of_the_vocabulary_and_its_rules(folders, tmp_path):
  names = sorted(folders)
  digests = {name: load_tokenizer(folders[name]).digest() for name in names}
  assert len({*digests.values()}) == len(names)
  load_tokenizer(folders[names[0]]).save(tmp_path / "copy")
  assert load_tokenizer(tmp_path / "copy").digest() == digests[names[0]]


def test_different_vocabularies_say_in_what(folders, tmp_path):
  t5, byt5 = (PublishedTokenizer.load(folders[name]) for name in ("t5", "byt5"))
  check_same_vocabulary(t5, PublishedTokenizer.load(folders["t5"]), names=("a", "b"))
  with pytest.raises(ValueError, match=r"t5 and byt5 have different .*: tokens are 420 and 384"):
    check_same_vocabulary(t5, byt5, names=("t5", "byt5"))
  own = train_tokenizer(tokenizer_text(), vocab_size=200)
  of_its_size = PublishedTokenizer(Sized(200))
  with pytest.raises(ValueError, match=r"special ids are \(0, 1, 2, 200\) and \(0, 1, 2, 3\)"):
    check_same_vocabulary(of_its_size, own, names=("t5", "own"))
  other = PublishedTokenizer.load(make_t5(tmp_path / "other", sentences=50))
  with pytest.raises(ValueError, match=r"t5 and other .*: pieces of id \d+ are \S+ and \S+\."):
    check_same_vocabulary(t5, other, names=("t5", "other"))


@pytest.mark.parametrize("config", [None, {"tokenizer_class": "T5Tokenizer", "extra_ids": 100}])
def test_a_folder_without_a_vocabulary(tmp_path, config):
  (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5"}))
  if config:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
  with pytest.raises(FileNotFoundError, match=r"(no|holds no) tokenizer.*spiece\.model"):
    load_tokenizer(tmp_path)


def test_an_empty_folder(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"holds no tokenizer: name WORKDIR/stages/tokenizer"):
    load_tokenizer(tmp_path)
