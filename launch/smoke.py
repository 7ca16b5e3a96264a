"""All steps of a task in a minute: its config's `:smoke` on synthetic data and tiny models.

    python launch/smoke.py wmt [--causal|--nllb] [--workdir=runs/smoke-wmt] [flags of kdtw_jax.main]

`tfds.testing.mock_data` makes the data; those of gsm8k are sums in words. The models are written
here, untrained, in the layout of published ones: T5s, with --causal two Qwen3 with a chat template,
or with --nllb two NLLB, which are told their languages. Nothing is downloaded. Everything else is
the same as in
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
import tokenizers
import transformers

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


def write_sums(folder: Path) -> None:
  """Writes problems in GSM8K's form: a question, and an answer that ends with #### and a number."""
  folder.mkdir(parents=True, exist_ok=True)
  for split, first, number in (("train", 1, 64), ("validation", 65, 16), ("test", 81, 16)):
    rows = [
        {
            "question": f"Anna has {i} cats and buys {i % 7}. How many has she?",
            "answer": f"{i} + {i % 7} = {i + i % 7}\n#### {i + i % 7}",
        }
        for i in range(first, first + number)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")


CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_causal_tokenizer(folder: Path) -> None:
  """Writes a byte-level BPE tokenizer with a chat template, whose ids 0 and 1 are of letters."""
  phrases = PhrasebookSource("train", size=300, seed=0)
  tokenizer = tokenizers.ByteLevelBPETokenizer()
  text = (side for i in range(300) for side in (phrases[i].source, phrases[i].target))
  tokenizer.train_from_iterator(text, vocab_size=400, show_progress=False)
  tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
  published_as = transformers.PreTrainedTokenizerFast(
      tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>"
  )
  published_as.chat_template = CHAT
  published_as.save_pretrained(folder)


def write_causal_pair(folder: Path) -> tuple[Path, Path]:
  """Writes a teacher, in shards, and a student in Qwen3's layout; returns their folders."""
  write_causal_tokenizer(folder / "tokenizer")
  rows = data.load_tokenizer(folder / "tokenizer").ids.num_published
  for number, (who, padding, width) in enumerate((("teacher", 40, 32), ("student", 0, 16))):
    sizes = ModelConfig(
        kind="causal",
        vocab_size=rows + padding,
        d_model=width,
        d_ff=2 * width,
        num_heads=2,
        num_key_heads=1,
        d_kv=width // 2,
        num_decoder_layers=2,
        feed_forward="gated-silu",
    )
    params = build(sizes).init(jax.random.key(number))
    shard = {"shard_bytes": 40_000 if who == "teacher" else 10**9}
    published.save_model(
        folder / who, params, sizes, save_tokenizer=write_causal_tokenizer, **shard
    )
    for name in ("kdtw.json", "generation_config.json"):  # of ours, with our special ids
      (folder / who / name).unlink()
    config_file = folder / who / "config.json"
    content = json.loads(config_file.read_text(encoding="utf-8"))
    content["eos_token_id"] = content["pad_token_id"] = None
    config_file.write_text(json.dumps(content), encoding="utf-8")
  return folder / "teacher", folder / "student"


LANGUAGES = {"source_language": "eng_Latn", "target_language": "deu_Latn"}


def write_nllb_tokenizer(folder: Path) -> None:
  """Writes a tokenizer as NLLB's: BPE, whose padding is row 1, and languages as special tokens."""
  phrases = PhrasebookSource("train", size=300, seed=0)
  tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>"))
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
  trainer = tokenizers.trainers.BpeTrainer(
      vocab_size=300, special_tokens=["<s>", "<pad>", "</s>", "<unk>"], show_progress=False
  )
  text = (side for i in range(300) for side in (phrases[i].source, phrases[i].target))
  tokenizer.train_from_iterator(text, trainer)
  model = json.loads(tokenizer.to_str())["model"]
  transformers.NllbTokenizer(
      vocab=model["vocab"],
      merges=[tuple(pair) for pair in model["merges"]],
      extra_special_tokens=[*LANGUAGES.values(), "fra_Latn"],
  ).save_pretrained(folder)


def write_nllb_pair(folder: Path) -> tuple[Path, Path]:
  """Writes a teacher and a student in NLLB's layout; returns their folders."""
  write_nllb_tokenizer(folder / "tokenizer")
  named = {"model_type": "m2m_100", "is_encoder_decoder": True, "decoder_start_token_id": 2}
  (folder / "tokenizer" / "config.json").write_text(json.dumps(named), encoding="utf-8")
  languages = LANGUAGES["source_language"], LANGUAGES["target_language"]
  tokenizer = data.load_tokenizer(folder / "tokenizer", languages)
  for number, (who, width) in enumerate((("teacher", 32), ("student", 16))):
    rows = tokenizer.model_fields | {"vocab_size": tokenizer.num_tokens, "tau_id": -1}
    sizes = ModelConfig(
        kind="bart",
        positions="m2m",
        scale_embedding=True,
        d_model=width,
        d_ff=2 * width,
        num_heads=2,
        d_kv=width // 2,
        num_encoder_layers=1,
        num_decoder_layers=1,
        **rows,
    )
    params = build(sizes).init(jax.random.key(number))
    published.save_model(folder / who, params, sizes, save_tokenizer=write_nllb_tokenizer)
    for name in ("kdtw.json", "generation_config.json"):  # of ours, with our languages
      (folder / who / name).unlink()
  return folder / "teacher", folder / "student"


PAIRS = {"--causal": write_causal_pair, "--nllb": write_nllb_pair}


def main() -> None:
  """Writes the models and runs the config."""
  if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
    sys.exit(__doc__)
  task, *further = sys.argv[1:]
  kind = next((flag for flag in further if flag in PAIRS), "")
  further = [flag for flag in further if flag not in PAIRS]
  workdir = next(
      (flag.partition("=")[2] for flag in further if flag.startswith("--workdir=")),
      f"runs/smoke-{task}",
  )
  os.environ["XLA_FLAGS"] = config.fast_compile_flags()  # read when JAX starts, with these models
  teacher, student = PAIRS.get(kind, write_pair)(Path(workdir) / "published")
  own_data = []
  if kind == "--nllb":
    own_data = [f"--config.tokenizer.{name}={value}" for name, value in LANGUAGES.items()]
  if task == "gsm8k":
    write_sums(Path(workdir) / "sums")
    own_data += [f"--config.data.path={workdir}/sums"]
  flags = [
      f"--config=configs/{task}.py:smoke",
      f"--config.teacher.pretrained={teacher}",
      f"--config.student.pretrained={student}",
      f"--workdir={workdir}",
      *own_data,
      *further,
  ]
  with tfds.testing.mock_data(num_examples=64), mock.patch.object(sys, "argv", ["main", *flags]):
    command_line.cli()


if __name__ == "__main__":
  main()
