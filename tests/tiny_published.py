"""Small models in published format, made without torch: for tests and smoke runs.

The teacher lies in shards and its table has padding rows, as Flan-T5-XL's; the student's table ends
with the tokenizer's last token, as after a `resize_token_embeddings`.
"""

import io
import json
from pathlib import Path

import jax
import sentencepiece

from kdtw_jax import data, published
from kdtw_jax.data.phrasebook import PhrasebookSource
from kdtw_jax.models import ModelConfig, build

SIZES = {
    "num_heads": 2,
    "num_encoder_layers": 1,
    "num_decoder_layers": 1,
    "feed_forward": "gated-gelu",
    "tie_embeddings": False,
}


def write_tokenizer(folder: Path, vocab_size: int = 300, extra_ids: int = 20) -> None:
  """A T5 tokenizer as published: spiece.model and tokenizer_config.json."""
  phrases = PhrasebookSource("train", size=300, seed=0)
  text = [side for i in range(300) for side in (phrases[i].source, phrases[i].target)]
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter([*text, *data.tokenizer_text("summarize")[:50]]),
      model_writer=model,
      vocab_size=vocab_size,
      pad_id=0,
      eos_id=1,
      unk_id=2,
      bos_id=-1,
      minloglevel=2,
  )
  folder.mkdir(parents=True, exist_ok=True)
  (folder / "spiece.model").write_bytes(model.getvalue())
  (folder / "tokenizer_config.json").write_text(
      json.dumps({"tokenizer_class": "T5Tokenizer", "extra_ids": extra_ids})
  )


def write_pair(folder: Path) -> tuple[Path, Path]:
  """A teacher and a student of one vocabulary; gives their folders."""
  tokenizer_files = folder / "tokenizer"
  write_tokenizer(tokenizer_files)
  (tokenizer_files / "config.json").write_text(json.dumps({"model_type": "t5"}))
  tokenizer = data.load_tokenizer(tokenizer_files)
  for number, (who, rows, width) in enumerate(
      (("teacher", tokenizer.vocab_size, 32), ("student", tokenizer.num_tokens, 16))
  ):
    config = ModelConfig(vocab_size=rows, d_model=width, d_ff=2 * width, d_kv=width // 2, **SIZES)
    params = build(config).init(jax.random.key(number))
    published.save_model(
        folder / who,
        params,
        config,
        shard_bytes=20_000 * (2 - number) ** 3,
        save_tokenizer=lambda path: write_tokenizer(path),
    )
    (folder / who / "kdtw.json").unlink()  # a published model has none
  return folder / "teacher", folder / "student"
