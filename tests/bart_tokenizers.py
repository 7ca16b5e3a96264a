"""Small tokenizers in the layouts of the published BART, mBART, Pegasus, M2M-100 and NLLB."""

import functools
import io
import json
from pathlib import Path

import sentencepiece

from kdtw_jax.data.phrasebook import PhrasebookSource

_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")  # ids 0 to 3, as in fairseq
_PIECES = 160
ENGLISH_GERMAN = {
    "m2m_100": ("en", "de"),
    "nllb": ("eng_Latn", "deu_Latn"),
    "mbart": ("en_XX", "de_DE"),
}


@functools.cache
def _lines() -> tuple[str, ...]:
  source = PhrasebookSource("train", size=200, seed=0)
  return tuple(text for i in range(200) for text in (source[i].source, source[i].target))


@functools.cache
def _sentencepiece(kind: str) -> bytes:
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter(_lines()),
      model_writer=model,
      vocab_size=_PIECES,
      model_type=kind,
      num_threads=1,
      minloglevel=2,
  )
  return model.getvalue()


def _pieces(kind: str) -> list[tuple[str, float]]:
  """The pieces of text, with their scores."""
  model = sentencepiece.SentencePieceProcessor(model_proto=_sentencepiece(kind))
  return [(model.id_to_piece(i), model.get_score(i)) for i in range(3, model.get_piece_size())]


def _bpe(pre_tokenizer, special) -> tuple[dict, list]:
  """Vocabulary and merges of a trained BPE model."""
  import tokenizers
  from tokenizers import models, pre_tokenizers, trainers

  tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))
  tokenizer.pre_tokenizer = pre_tokenizer
  is_bytes = isinstance(pre_tokenizer, pre_tokenizers.ByteLevel)
  trainer = trainers.BpeTrainer(
      vocab_size=320 if is_bytes else _PIECES,
      special_tokens=list(special),
      initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()) if is_bytes else [],
      show_progress=False,
  )
  tokenizer.train_from_iterator(_lines(), trainer)
  model = json.loads(tokenizer.to_str())["model"]
  return model["vocab"], [tuple(pair) for pair in model["merges"]]


def _bart():
  from tokenizers import pre_tokenizers
  import transformers

  vocab, merges = _bpe(pre_tokenizers.ByteLevel(add_prefix_space=False), _SPECIAL)
  return transformers.BartTokenizer(vocab={**vocab, "<mask>": len(vocab)}, merges=merges)


def _nllb():
  from tokenizers import pre_tokenizers
  import transformers

  vocab, merges = _bpe(pre_tokenizers.Metaspace(), _SPECIAL)
  languages = ["ace_Latn", "deu_Latn", "eng_Latn"]
  return transformers.NllbTokenizer(vocab=vocab, merges=merges, extra_special_tokens=languages)


def _mbart():
  from transformers.models.mbart import tokenization_mbart

  tail = [*tokenization_mbart.FAIRSEQ_LANGUAGE_CODES, "<mask>"]
  front, back = ([(token, 0.0) for token in tokens] for tokens in (_SPECIAL, tail))
  return tokenization_mbart.MBartTokenizer(vocab=[*front, *_pieces("unigram"), *back])


def _pegasus():
  import transformers

  special = ["<pad>", "</s>", "<mask_1>", "<mask_2>", *(f"<unk_{i}>" for i in range(2, 103))]
  vocab = [(token, 0.0) for token in (*special, "<unk>")]
  return transformers.PegasusTokenizer(vocab=[*vocab, *_pieces("unigram")])


def _write_m2m_100(folder: Path) -> None:
  """M2M-100's has no tokenizer.json: a SentencePiece model, and other ids for its pieces."""
  (folder / "sentencepiece.bpe.model").write_bytes(_sentencepiece("bpe"))
  pieces = [*_SPECIAL, *(piece for piece, _ in _pieces("bpe"))]
  vocab = {piece: i for i, piece in enumerate(pieces)}
  for name, content in (
      ("vocab.json", vocab),
      ("tokenizer_config.json", {"tokenizer_class": "M2M100Tokenizer"}),
  ):
    (folder / name).write_text(json.dumps(content), encoding="utf-8")


_FAST = {"bart": _bart, "nllb": _nllb, "mbart": _mbart, "pegasus": _pegasus}
_CONFIGS = {
    "bart": {"model_type": "bart", "forced_bos_token_id": 0},
    "nllb": {"model_type": "m2m_100"},
    "m2m_100": {"model_type": "m2m_100"},
    "mbart": {"model_type": "mbart"},
    "pegasus": {"model_type": "pegasus"},
}
FAMILIES = tuple(_CONFIGS)


def save(family: str, folder: Path) -> None:
  """Writes the files of a family's tokenizer."""
  if family in _FAST:
    _FAST[family]().save_pretrained(folder)
  else:
    _write_m2m_100(folder)


def write_tokenizer(family: str, folder: Path) -> Path:
  """Writes the files of a family's tokenizer, and what config.json says of its ids."""
  folder.mkdir(parents=True, exist_ok=True)
  save(family, folder)
  start = {"mbart": None, "pegasus": 0}.get(family, 2)
  config = {**_CONFIGS[family], "is_encoder_decoder": True, "decoder_start_token_id": start}
  (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
  return folder
