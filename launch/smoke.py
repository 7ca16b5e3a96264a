"""All steps of a task in a minute: its config's `:smoke` on synthetic data and tiny models.

    python launch/smoke.py wmt [--workdir=runs/smoke-wmt] [further flags of kdtw_jax.main]

`tfds.testing.mock_data` makes the data. The models are written here, untrained, in the layout of
published ones. Nothing is downloaded. Everything else is the same as in
`python -m kdtw_jax.main --config=configs/wmt.py`.
"""

import io
import json
import os
from pathlib import Path
import sys
from unittest import mock

import jax
import sentencepiece
import tensorflow_datasets as tfds

from kdtw_jax import config, data, published
from kdtw_jax import main as command_line
from kdtw_jax.data.phrasebook import PhrasebookSource
from kdtw_jax.models import ModelConfig, build

SIZES = {
    "num_heads": 2,
    "num_encoder_layers": 1,
    "num_decoder_layers": 1,
    "feed_forward": "gated-gelu",
    "tie_embeddings": False,
}


def write_tokenizer(folder: Path) -> None:
  """Writes a T5 tokenizer as published: spiece.model and tokenizer_config.json."""
  phrases = PhrasebookSource("train", size=300, seed=0)
  text = [side for i in range(300) for side in (phrases[i].source, phrases[i].target)]
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter([*text, *data.tokenizer_text("summarize")[:50]]),
      model_writer=model,
      vocab_size=300,
      pad_id=0,
      eos_id=1,
      unk_id=2,
      bos_id=-1,
      minloglevel=2,
  )
  folder.mkdir(parents=True, exist_ok=True)
  (folder / "spiece.model").write_bytes(model.getvalue())
  (folder / "tokenizer_config.json").write_text(
      json.dumps({"tokenizer_class": "T5Tokenizer", "extra_ids": 20})
  )


def write_pair(folder: Path) -> tuple[Path, Path]:
  """Writes a teacher and a student with the same vocabulary.

  Like Flan-T5-XL, the teacher has shards and a table with padding rows. The student's table ends
  with the tokenizer's last token, as after `resize_token_embeddings`.

  Args:
    folder: the folder; created if missing.

  Returns:
    The teacher's and the student's folder.
  """
  tokenizer_files = folder / "tokenizer"
  write_tokenizer(tokenizer_files)
  (tokenizer_files / "config.json").write_text(json.dumps({"model_type": "t5"}))
  tokenizer = data.load_tokenizer(tokenizer_files)
  for number, (who, rows, width) in enumerate(
      (("teacher", tokenizer.vocab_size, 32), ("student", tokenizer.num_tokens, 16))
  ):
    sizes = ModelConfig(vocab_size=rows, d_model=width, d_ff=2 * width, d_kv=width // 2, **SIZES)
    params = build(sizes).init(jax.random.key(number))
    published.save_model(
        folder / who,
        params,
        sizes,
        shard_bytes=20_000 * (2 - number) ** 3,
        save_tokenizer=write_tokenizer,
    )
    (folder / who / "kdtw.json").unlink()  # a published model has none
  return folder / "teacher", folder / "student"


def main() -> None:
  """Writes the models and runs the config."""
  if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
    sys.exit(__doc__)
  task, *further = sys.argv[1:]
  workdir = next(
      (flag.partition("=")[2] for flag in further if flag.startswith("--workdir=")),
      f"runs/smoke-{task}",
  )
  os.environ["XLA_FLAGS"] = config.fast_compile_flags()  # read when JAX starts, with these models
  teacher, student = write_pair(Path(workdir) / "published")
  flags = [
      f"--config=configs/{task}.py:smoke",
      f"--config.teacher.pretrained={teacher}",
      f"--config.student.pretrained={student}",
      f"--workdir={workdir}",
      *further,
  ]
  with tfds.testing.mock_data(num_examples=64), mock.patch.object(sys, "argv", ["main", *flags]):
    command_line.cli()


if __name__ == "__main__":
  main()
