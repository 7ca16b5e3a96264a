"""A tokenizer as causal models are published with: byte-level BPE, a chat template, ids of its own.

Text that names a special token is read as that token by transformers; pad and EOS are 258 and 260.
"""

import functools
import json
from pathlib import Path

TEXTS = (
    "The teacher writes a sentence about 3.14 cats.",
    "Zwei Männer kochen Öl & Salz!",
    "Use the teacher for at most 20% of the tokens: ",
    '你好, привет! "quotes" and\nlines',
)
CHAT = (
    "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
    "{% endif %}"
)
NUM_PIECES = 300


@functools.cache
def _trained() -> str:
  import tokenizers
  from tokenizers import decoders, models, pre_tokenizers, trainers

  tokenizer = tokenizers.Tokenizer(models.BPE())
  tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  tokenizer.decoder = decoders.ByteLevel()
  letters = sorted(pre_tokenizers.ByteLevel.alphabet())
  trainer = trainers.BpeTrainer(
      vocab_size=NUM_PIECES, initial_alphabet=letters, show_progress=False
  )
  tokenizer.train_from_iterator(list(TEXTS) * 20, trainer)
  return tokenizer.to_str()


def make(folder: Path, *, template: str | None = CHAT, bos: bool = False, **config) -> Path:
  """Writes the tokenizer with transformers, and a config.json with these fields."""
  import tokenizers
  import transformers

  tokenizer = tokenizers.Tokenizer.from_str(_trained())
  tokenizer.add_special_tokens(["<|pad|>", "<|start|>", "<|end|>"])
  fast = transformers.PreTrainedTokenizerFast(
      tokenizer_object=tokenizer,
      eos_token="<|end|>",
      pad_token="<|pad|>",
      bos_token="<|start|>" if bos else None,
  )
  fast.chat_template = template
  fast.save_pretrained(folder)
  content = {"model_type": "qwen3", "vocab_size": 320, **config}
  (Path(folder) / "config.json").write_text(json.dumps(content), encoding="utf-8")
  return Path(folder)
