"""Small tokenizers in the layouts of the published T5 and MADLAD-400, for tests."""

import json

import sentencepiece

from kdtw_jax.base import EOS_ID, PAD_ID, UNK_ID
from kdtw_jax.data import tokenizer_text
from kdtw_jax.data.phrasebook import PhrasebookSource

PIECES = 320
TEXTS = (
    "The letter costs €12.50, Maria?",
    "Für 3.205 Äpfel übt Paul groß.",
    "",
    " ",
    "a",
    "你好 привет",
    "two  spaces and\ttabs",
    "Use the teacher for at most 20% of the tokens.",
)


T5_IDS = {"pad_id": PAD_ID, "eos_id": EOS_ID, "unk_id": UNK_ID, "bos_id": -1}
MADLAD_IDS = {"unk_id": 0, "bos_id": 1, "eos_id": 2, "pad_id": -1}


def make_t5(folder, sentences=600, extra_ids=100):
  """A tokenizer in the layout of the published T5: a SentencePiece model and its config."""
  folder.mkdir(exist_ok=True)
  (folder / "config.json").write_text(json.dumps({"model_type": "t5"}))
  return _make(folder, sentences, T5_IDS, extra_ids=extra_ids)


def make_madlad(folder, languages=()):
  """One as MADLAD-400 has it: it pads with `<s>`, and its decoder starts with `<unk>`.

  The published one has a piece for each language that it writes.
  """
  config = {"model_type": "t5", "is_encoder_decoder": True, "decoder_start_token_id": 0}
  folder.mkdir(exist_ok=True)
  (folder / "config.json").write_text(json.dumps(config))
  tags = {"user_defined_symbols": [f"<2{language}>" for language in languages]}
  return _make(folder, 200, MADLAD_IDS | tags, extra_ids=0, pad_token="<s>")


def _make(folder, sentences, options, **config):
  source = PhrasebookSource("train", size=sentences, seed=0)
  lines = [text for i in range(sentences) for text in (source[i].source, source[i].target)]
  lines += [*tokenizer_text()[:200], *TEXTS[:2], "< > / s p a d τ"]
  with open(folder / "spiece.model", "wb") as file:
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=file,
        vocab_size=PIECES,
        num_threads=1,
        minloglevel=2,
        **options,
    )
  (folder / "tokenizer_config.json").write_text(
      json.dumps({"tokenizer_class": "T5Tokenizer", **config})
  )
  return folder
