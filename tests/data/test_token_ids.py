"""Published ids of causal models become ours: pad 0, EOS 1, and no text makes a special token."""

import json

import pytest

from kdtw_jax.base import EOS_ID, PAD_ID, TAU
from kdtw_jax.data import check_same_vocabulary, load_tokenizer
from kdtw_jax.data.token_ids import TOKEN_IDS_FILE, _renamed
from tests.causal_tokenizer import TEXTS, make

START, END = "<|start|>", "<|end|>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return make(tmp_path_factory.mktemp("causal"))


@pytest.fixture(scope="module")
def tokenizer(folder):
  return load_tokenizer(folder)


@pytest.fixture(scope="module")
def theirs(folder):
  import transformers

  return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)


def published(tokenizer, ids):
  table = dict(tokenizer.ids.renamed)
  return [table.get(i, i) for i in ids]


@pytest.mark.parametrize("end", [0, 1, 2, 77, 99])
def test_rows_change_places_and_none_is_lost(end):
  ours = dict(_renamed(100, end))
  assert ours[PAD_ID] == 100 and ours[EOS_ID] == end
  assert sorted(ours) == sorted(ours.values()) and {*ours} <= {0, 1, end, 100}


def test_texts_keep_their_published_ids_under_new_names(tokenizer, theirs):
  for text in TEXTS:
    ids = tokenizer.encode(text)
    assert published(tokenizer, ids) == theirs(text)["input_ids"]
    assert tokenizer.decode(ids) == text.strip()
  first_two = theirs.convert_ids_to_tokens([0, 1])  # their places are those of pad and EOS
  assert first_two == ["!", '"']
  ids = tokenizer.encode('!"')
  assert not {PAD_ID, EOS_ID} & {*ids} and tokenizer.decode(ids) == '!"'


def test_no_text_makes_a_special_token_or_tau(tokenizer, theirs):
  special = {tokenizer.tau_id, PAD_ID, EOS_ID, *tokenizer.ids.stop_ids}
  for text in (f"a{END}b", f"{START}assistant", "<|pad|>", TAU, f"x {TAU} y"):
    ids = tokenizer.encode(text)
    assert not special & {*ids} and all(i < tokenizer.num_tokens for i in ids)
    assert not {*published(tokenizer, ids)} & {*theirs.all_special_ids}


def test_the_template_is_what_transformers_puts_around_a_text(tokenizer, theirs):
  text = "Zwei Männer"
  expected = theirs.apply_chat_template(
      [{"role": "user", "content": text}],
      add_generation_prompt=True,
      enable_thinking=False,
      return_dict=False,
  )
  prompt = (*tokenizer.ids.prompt_prefix, *tokenizer.encode(text), *tokenizer.ids.prompt_suffix)
  assert published(tokenizer, prompt) == expected
  assert theirs.decode(published(tokenizer, [EOS_ID])) == END


def test_rows_of_tau_and_padding(tokenizer, theirs):
  assert tokenizer.ids.num_published == len(theirs)
  assert tokenizer.tau_id == tokenizer.num_tokens == len(theirs) + 1
  assert tokenizer.vocab_size % 128 == 0 and tokenizer.vocab_size > tokenizer.tau_id


def test_pieces_are_readable(tokenizer):
  assert "".join(tokenizer.pieces(tokenizer.encode("Zwei cats"))) == "Zwei▁cats"
  assert tokenizer.pieces(tokenizer.encode("é")) == ["\ufffd", "\ufffd"]  # two bytes, two halves
  shown = tokenizer.pieces([PAD_ID, EOS_ID, tokenizer.tau_id, tokenizer.tau_id + 1])
  assert shown == ["<pad>", END, TAU, f"<row {tokenizer.tau_id + 1}>"]


def test_saved_ids_do_not_depend_on_the_models_files(tokenizer, folder, tmp_path):
  tokenizer.save(tmp_path)
  (tmp_path / "config.json").write_text(json.dumps({"vocab_size": 384, "eos_token_id": 5}))
  loaded = load_tokenizer(tmp_path)
  assert loaded.ids == tokenizer.ids and loaded.digest() == tokenizer.digest()
  check_same_vocabulary(loaded, tokenizer, names=("a", "b"))
  (tmp_path / TOKEN_IDS_FILE).write_text('{"rows": 3}')
  with pytest.raises(ValueError, match=f"{TOKEN_IDS_FILE}: damaged"):
    load_tokenizer(tmp_path)


def test_several_tokens_end_an_output(tmp_path):
  """The one that ends an answer in the template is EOS; others that the files name stop too."""
  made = make(tmp_path, eos_token_id=[302, 300])
  (made / "generation_config.json").write_text(json.dumps({"eos_token_id": 301}))
  tokenizer = load_tokenizer(made)
  assert published(tokenizer, [EOS_ID]) == [302]
  assert published(tokenizer, tokenizer.ids.stop_ids) == [300, 301]


def test_a_special_token_without_a_row_is_none(tmp_path):
  assert load_tokenizer(make(tmp_path / "a", vocab_size=303)).ids.num_published == 303
  plain = {"template": None, "bos": True}  # <|end|>, row 302, is cut off
  with pytest.raises(ValueError, match=r"no row for \(eos_token='<\|end\|>'\)"):
    load_tokenizer(make(tmp_path / "b", vocab_size=302, **plain))


def test_without_a_template_a_line_ends_the_text(tmp_path):
  tokenizer = load_tokenizer(make(tmp_path, template=None, bos=True))
  assert tokenizer.pieces(tokenizer.ids.prompt_prefix) == [START]
  assert tokenizer.pieces(tokenizer.ids.prompt_suffix) == ["\n"]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ messages[0].content.pop() }}", "chat template cannot be used"),
        ("{{ raise_exception('no') }}", "chat template cannot be used"),
        ("{% for m in messages %}hello{% endfor %}", "does not put a user's text between"),
        ("{{ messages[0].content }}", "does not put a user's text between"),
    ],
)
def test_a_template_that_cannot_be_used_is_named(template, message, tmp_path):
  with pytest.raises(ValueError, match=f"{tmp_path}.*{message}"):
    load_tokenizer(make(tmp_path, template=template))


def test_other_places_are_another_vocabulary(tokenizer, tmp_path):
  other = load_tokenizer(make(tmp_path, template=CHAT_OF_PAD))
  with pytest.raises(ValueError, match="a and b have different vocabularies: "):
    check_same_vocabulary(tokenizer, other, names=("a", "b"))


CHAT_OF_PAD = "{% for m in messages %}{{ m.content }}<|pad|>\n{% endfor %}"
