"""The tokenizer stage: nothing is kept before the checks, and what is kept belongs to its text."""

import pytest

from kdtw_jax import run
from kdtw_jax.stages import tokenizer
from kdtw_jax.stages.stage import TRAINING_TEXT
from tests.test_config import load


def opened(tmp_path, text):
  """A run on aligned files whose 40 lines hold the text."""
  for split in ("train", "validation", "test"):
    for side in ("en", "de"):
      lines = [f"{text} {side} {i}" for i in range(40)]
      (tmp_path / f"{side}.{split}.txt").write_text("\n".join(lines), encoding="utf-8")
  config = load("demo", "smoke")
  config.data.update(source="text", path=str(tmp_path))
  config.tokenizer.vocab_size = 100
  return run.open_run(config, tmp_path / "run")


def test_a_tokenizer_is_kept_when_it_is_made_and_not_before(tmp_path):
  first = opened(tmp_path, "the bridge is long")
  assert first.inputs.tokenizer.num_tokens == 100
  assert not (tmp_path / "run").exists()
  tokenizer.make(first)
  again = opened(tmp_path, "the bridge is long")
  assert again.workdir.begun("tokenizer")
  text = "the bridge is wide"
  assert again.inputs.tokenizer.encode(text) == first.inputs.tokenizer.encode(text)


def test_a_kept_tokenizer_refuses_other_text(tmp_path):
  tokenizer.make(opened(tmp_path, "the bridge is long"))
  same = opened(tmp_path, "the bridge is long")
  same.workdir.begin("sft", data={TRAINING_TEXT: same.inputs.text_fingerprint("train")})
  other = opened(tmp_path, "the letter is late")
  with pytest.raises(ValueError, match="stage 'tokenizer' was made from other data"):
    other.workdir.begin("teacher", data={TRAINING_TEXT: other.inputs.text_fingerprint("train")})
