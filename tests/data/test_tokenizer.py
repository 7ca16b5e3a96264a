"""The tokenizer: round trip, fixed special ids, and `<τ>` out of reach of any text."""

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
import sentencepiece

from kdtw_jax.base import EOS_ID, PAD_ID, TAU, UNK_ID
from kdtw_jax.data import Tokenizer, load_tokenizer, tokenizer_text, train_tokenizer
from kdtw_jax.data.normalising import normalise
from kdtw_jax.data.phrasebook import PhrasebookSource
from kdtw_jax.data.tokenizer import chosen_vocab_size


@pytest.fixture(scope="module")
def sentences():
  source = PhrasebookSource("train", size=600, seed=0)
  pairs = [text for i in range(600) for text in (source[i].source, source[i].target)]
  return [*pairs, "<τ> Öl für Übung, Maß und Äpfel"]


@pytest.fixture(scope="module", params=("unigram", "bpe", "bytes"))
def tokenizer(request, sentences):
  kind = "unigram" if request.param == "bytes" else request.param
  return train_tokenizer(
      sentences, vocab_size=700, kind=kind, byte_fallback=request.param == "bytes"
  )


def test_special_ids(tokenizer):
  assert (tokenizer.pad_id, tokenizer.eos_id, tokenizer.unk_id) == (PAD_ID, EOS_ID, UNK_ID)
  assert tokenizer.tau_id == 3
  assert tokenizer.pieces([tokenizer.tau_id]) == [TAU]
  assert tokenizer.vocab_size == 700


def test_round_trip_with_umlauts_and_digits(tokenizer):
  for text in ("Für 3.205 Äpfel und Öl übt Paul groß.", "The letter costs €12.50, Maria?"):
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode_batch([text, ""]) == [tokenizer.encode(text), []]


def test_digits_are_pieces_of_their_own(tokenizer):
  pieces = tokenizer.pieces(tokenizer.encode("7% 2025 1999"))
  assert [piece for piece in pieces if piece != "▁"] == list("7%20251999")


def test_special_ids_are_ignored_when_decoding(tokenizer):
  ids = tokenizer.encode("Paul kommt aus Kenia.")
  noisy = np.array([0, 3, *ids[:2], 3, *ids[2:], 1, 0, 0], np.int32)
  assert tokenizer.decode(noisy) == "Paul kommt aus Kenia."


def test_no_text_makes_special_ids_even_if_it_was_trained_on(tokenizer):
  for text in (TAU, f"Hallo {TAU} Welt", f"{TAU}{TAU}", "<pad> </s> <unk> <s>", f"x{TAU}", "▁<τ>"):
    assert not {PAD_ID, EOS_ID, tokenizer.tau_id} & set(tokenizer.encode(text)), text


SPELLINGS = st.sampled_from((TAU, "<", "τ", ">", "▁", "</s>", "<pad>"))


@settings(max_examples=200, deadline=None)
@given(parts=st.lists(st.one_of(st.text(max_size=8), SPELLINGS)))
def test_special_ids_are_out_of_reach(shared_tokenizer, parts):
  ids = shared_tokenizer.encode("".join(parts))
  assert not {PAD_ID, EOS_ID, shared_tokenizer.tau_id} & set(ids)
  assert all(0 <= i < shared_tokenizer.vocab_size for i in ids)


@pytest.fixture(scope="module")
def shared_tokenizer(sentences):
  return train_tokenizer(sentences, vocab_size=700)


def test_newlines_and_odd_spaces_become_spaces(shared_tokenizer):
  text = "  Paul\r\nkommt\u2028aus\xa0 \tKenia.\x00\u200b "
  assert normalise(text) == "Paul kommt aus Kenia."
  assert shared_tokenizer.encode(text) == shared_tokenizer.encode("Paul kommt aus Kenia.")
  assert normalise("u\u0308ber") == "über"
  assert normalise("a▁b") == "a_b"


def test_training_is_repeatable(sentences, tmp_path, shared_tokenizer):
  first = train_tokenizer(sentences, vocab_size=700)
  path = tmp_path / "deep" / "tokenizer.model"
  first.save(path.parent)
  content = path.read_bytes()
  train_tokenizer(sentences, vocab_size=700).save(path.parent)  # replaces the file
  assert path.read_bytes() == content
  for saved in (path, path.parent):
    assert load_tokenizer(saved).pieces(range(700)) == first.pieces(range(700))
  assert first.pieces(range(700)) == shared_tokenizer.pieces(range(700))


def test_a_digest_is_of_the_model(sentences, tmp_path, shared_tokenizer):
  shared_tokenizer.save(tmp_path)
  assert Tokenizer.load(str(tmp_path / "tokenizer.model")).digest() == shared_tokenizer.digest()
  assert train_tokenizer(sentences, vocab_size=100).digest() != shared_tokenizer.digest()


def test_a_sample_of_many_sentences_depends_on_the_seed(sentences):
  pieces = []
  for seed in (0, 0, 1):
    tokenizer = train_tokenizer(sentences, vocab_size=300, seed=seed, max_sentences=200)
    pieces.append(tokenizer.pieces(range(300)))
  assert pieces[0] == pieces[1] != pieces[2]


@pytest.mark.parametrize("kind", ("unigram", "bpe"))
def test_too_large_a_vocabulary_is_refused(kind):
  with pytest.raises(ValueError, match=r"vocab_size=5000 on 2 sentences: .* at most .*set it to 0"):
    train_tokenizer(["ein Hund", "a dog"], vocab_size=5000, kind=kind)


def test_too_small_a_vocabulary_is_refused(sentences):
  with pytest.raises(ValueError, match=r"vocab_size=8 on .* SentencePiece said: .*smaller"):
    train_tokenizer(sentences, vocab_size=8)


@pytest.mark.parametrize("kind", ("unigram", "bpe"))
def test_a_size_may_be_chosen_for_the_text(sentences, kind):
  few = train_tokenizer(sentences[:100], vocab_size=0, kind=kind)
  many = train_tokenizer(sentences, vocab_size=0, kind=kind)
  assert few.vocab_size < many.vocab_size <= chosen_vocab_size([normalise(s) for s in sentences])
  assert many.vocab_size > 500
  again = train_tokenizer(sentences, vocab_size=0, kind=kind)
  assert again.pieces(range(many.vocab_size)) == many.pieces(range(many.vocab_size))
  for text in sentences[:-1]:  # the last one holds <τ>
    assert many.unk_id not in many.encode(text)


@pytest.mark.parametrize("kind", ("unigram", "bpe"))
@pytest.mark.parametrize("byte_fallback", (False, True))
@pytest.mark.parametrize(
    "text", (["ein Hund", "a dog"], ["x"], ["".join(map(chr, range(0x4E00, 0x5500)))])
)
def test_a_chosen_size_is_one_that_the_text_supports(kind, byte_fallback, text):
  tokenizer = train_tokenizer(text, vocab_size=0, kind=kind, byte_fallback=byte_fallback)
  assert tokenizer.vocab_size <= chosen_vocab_size(text, byte_fallback=byte_fallback)
  for line in text:
    assert tokenizer.decode(tokenizer.encode(line)) == line


def test_the_chosen_size_grows_with_the_root_of_the_text(monkeypatch):
  line = "abcdefghij" * 10
  needed = 4 + 10 + 11
  assert chosen_vocab_size([line]) == needed + 20
  assert chosen_vocab_size([line] * 100) == needed + 200
  assert chosen_vocab_size([line] * 100, byte_fallback=True) == needed + 200 + 256
  monkeypatch.setattr("kdtw_jax.data.tokenizer._MOST_CHOSEN", 150)
  assert chosen_vocab_size([line] * 100) == needed + 150


def test_bad_arguments(tmp_path):
  with pytest.raises(ValueError, match="kind='char'"):
    train_tokenizer(["a"], vocab_size=9, kind="char")
  with pytest.raises(ValueError, match="no training text"):
    train_tokenizer(["", " \n"], vocab_size=9)
  with pytest.raises(FileNotFoundError, match=r"nowhere\.model: no such tokenizer file"):
    Tokenizer.load(str(tmp_path / "nowhere.model"))
  (tmp_path / "junk.model").write_bytes(b"no model at all")
  with pytest.raises(ValueError, match=r"junk\.model: not a SentencePiece model"):
    Tokenizer.load(str(tmp_path / "junk.model"))


def test_a_model_with_other_special_ids_is_refused(tmp_path):
  with open(tmp_path / "other.model", "wb") as file:
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(tokenizer_text()[:50]),
        model_writer=file,
        vocab_size=60,
        minloglevel=2,
        hard_vocab_limit=False,
    )
  with pytest.raises(ValueError, match=r"ids of \(pad, EOS, unknown, <τ>\)"):
    Tokenizer.load(str(tmp_path / "other.model"))
