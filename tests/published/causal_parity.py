"""A family of causal models read by transformers and torch, and here: the same numbers?

As `parity.py`, for models without an encoder: a small checkpoint with random weights is written for
each family by transformers itself. Compared in float32: logits of prompts and of what follows them,
in one pass and in cached steps; greedy generation; weights and logits on the way back. Prompts have
unequal lengths, longer than a window. Ids are those of the published table: `RENAMED` gives them
new rows, as the tokenizer of a published model does.
"""

from pathlib import Path
import tempfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import parity
from parity import CHUNKS, GENERATED, TARGET, file_tensors, same_bits

from kdtw_jax import decoding, published
from kdtw_jax.base import EOS_ID, PAD_ID
from kdtw_jax.models import Model, ModelConfig, build

VOCAB, PUBLISHED_EOS, STOP = 93, 7, 11
RENAMED = ((0, VOCAB), (1, PUBLISHED_EOS), (VOCAB, 0), (PUBLISHED_EOS, 1))
PREFIX, SUFFIX = (20, 21), (22, 23, 24)
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 10,  # 4 heads of 10 are 40 wide: not hidden_size
    "num_hidden_layers": 3,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
GEMMA3 = {
    "sliding_window": 9,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    "query_pre_attn_scalar": 12,
    "rope_theta": 1e6,
    "rope_scaling": {"rope_type": "linear", "factor": 8.0},
}
VISION = {
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "qwen3": {"class": "Qwen3", "rope_theta": 1e6},
    "qwen3_untied": {"class": "Qwen3", "tie_word_embeddings": False, "shard": "40KB"},
    "llama3": {"class": "Llama", "rope_theta": 5e5, "rope_scaling": LLAMA3, "rms_norm_eps": 1e-5},
    "gemma3": {"class": "Gemma3", **GEMMA3},
    "gemma3_sees": {"class": "Gemma3", **GEMMA3, "sees": True},
    "qwen2": {
        "class": "Qwen2",
        "rope_theta": 1e6,
        "use_sliding_window": True,
        "sliding_window": 9,
        "max_window_layers": 1,
    },
    "llama_biases": {"class": "Llama", "attention_bias": True, "tie_word_embeddings": False},
    "gemma2": {
        "class": "Gemma2",
        "sliding_window": 9,
        "query_pre_attn_scalar": 12,
        "attn_logit_softcapping": 5.0,
        "final_logit_softcapping": 3.0,
    },
}
SOURCE = 40


def write_checkpoint(family: str, folder: Path, seed: int, dtype: str = "float32") -> None:
  """Writes a small random model of a family with transformers' own `save_pretrained`."""
  import torch
  import transformers

  kind = dict(FAMILIES[family])
  name, shard, sees = kind.pop("class"), kind.pop("shard", "5GB"), kind.pop("sees", False)
  config_name = f"{name}TextConfig" if name == "Gemma3" else f"{name}Config"
  torch.manual_seed(seed)
  ids = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": [PUBLISHED_EOS, STOP]}
  given = {"tie_word_embeddings": True, "max_position_embeddings": 512} | SIZES | kind | ids
  config = getattr(transformers, config_name)(**given)
  if sees:
    whole = transformers.Gemma3Config(text_config=config, vision_config=VISION)
    model = transformers.Gemma3ForConditionalGeneration(whole)
  else:
    model = getattr(transformers, f"{name}ForCausalLM")(config)
  with torch.no_grad():
    for parameter_name, parameter in model.named_parameters():
      if "norm" in parameter_name:  # fresh norms are all alike, which would hide a forgotten weight
        parameter.add_(0.3 * torch.randn_like(parameter))
      else:
        std = {"lm_head": 0.5, "embed_tokens": 0.1 if "Gemma" in name else 0.5}.get(
            parameter_name.split(".")[-2], 0.2
        )
        parameter.copy_(std * torch.randn_like(parameter))
  model.to(getattr(torch, dtype)).save_pretrained(folder, max_shard_size=shard)


def text_tensors(folder: Path) -> dict[str, Any]:
  """All tensors of a folder's text model, by their names in a text model."""
  prefix, found = "language_model.", file_tensors(folder)
  inside = {k.removeprefix(prefix): v for k, v in found.items() if k.startswith(prefix)}
  return inside or found


def torch_model(folder: Path) -> Any:
  """What transformers makes of a folder, in evaluation mode and the dtype of the file."""
  import transformers

  return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()


def our_model(folder: Path, **changes: Any) -> Model:
  """Our functions for a folder, with rows for `<τ>` and PAD_ID, and a chat template."""
  vocabulary = {
      "vocab_size": 96,
      "num_tokens": VOCAB + 1,
      "tau_id": VOCAB + 1,
      "renamed_ids": RENAMED,
      "stop_ids": (STOP,),
      "prompt_prefix": PREFIX,
      "prompt_suffix": SUFFIX,
  }
  found = published.open_published(folder).architecture
  return build(ModelConfig(**found, **{**vocabulary, **changes}))


def theirs_of(ids: np.ndarray) -> np.ndarray:
  """Gives ids of ours those of the published table."""
  table = np.arange(96)
  for ours, theirs in RENAMED:
    table[ours] = theirs
  return table[ids]


def random_ids(seed: int) -> tuple[np.ndarray, np.ndarray]:
  """Sources `[3, SOURCE]` that end with EOS, and targets `[3, TARGET]`, in our ids."""
  rng = np.random.default_rng(seed)
  words = np.setdiff1d(np.arange(2, VOCAB), [STOP])
  source = rng.choice(words, (3, SOURCE)).astype(np.int32)
  for row, length in enumerate((SOURCE, SOURCE - 17, 2)):
    source[row, length - 1] = EOS_ID
    source[row, length:] = PAD_ID
  inputs = rng.choice(words, (3, TARGET)).astype(np.int32)
  inputs[:, 0] = PAD_ID
  return source, inputs


def our_outputs(model: Model, params: Any, source: np.ndarray, inputs: np.ndarray) -> dict:
  """Logits of a pass and of cached steps in chunks, and greedy tokens."""

  @jax.jit
  def run(params, source, inputs):
    logits = model.logits(params, model.hidden(params, model.encode(params, source), inputs))
    cache, parts, position = model.start(params, source, TARGET), [], 0
    for size in CHUNKS:
      chunk = inputs[:, position : position + size]
      places = jnp.full(len(source), position, jnp.int32)
      hidden, cache = model.extend(params, cache, chunk, places)
      parts.append(model.logits(params, hidden))
      position += size
    return logits, jnp.concatenate(parts, axis=1)

  decoder = decoding.make_decoder(None, model.decoder_fns, max_length=GENERATED)
  budget, key = np.zeros(len(source), np.float32), jax.random.key(0)
  written = decoder(None, params, None, source, budget, key, decoding.make_policy("teacher"))
  found = (*run(params, source, inputs), written.tokens)
  return dict(zip(("logits", "cached", "greedy"), map(np.asarray, found), strict=True))


def torch_outputs(model: Any, source: np.ndarray, inputs: np.ndarray) -> dict:
  """The same of transformers' model, row by row, so that nothing is padded."""
  import torch

  logits, greedy = [], []
  for row, tokens in zip(source, inputs, strict=True):
    words = theirs_of(row[: (row != PAD_ID).sum() - 1]).tolist()
    prompt = [*PREFIX, *words, *SUFFIX]
    ids = torch.tensor([[*prompt, *theirs_of(tokens[1:]).tolist()]])
    with torch.inference_mode():
      full = model(input_ids=ids).logits[0, len(prompt) - 1 :].float().numpy()
      start = torch.tensor([prompt])
      written = model.generate(
          start,
          attention_mask=torch.ones_like(start),
          do_sample=False,
          max_new_tokens=GENERATED,
          eos_token_id=PUBLISHED_EOS,
          pad_token_id=PUBLISHED_EOS,
      )
    logits.append(full)
    greedy.append(written[0, len(prompt) :].tolist())
  return {"logits": np.stack(logits), "greedy": greedy}


def differences(folder: Path, seed: int = 0) -> dict[str, Any]:
  """Compares both readings of a folder, and transformers' reading of what we write.

  Args:
    folder: a published model in float32.
    seed: of the token ids.

  Returns:
    Largest absolute differences `logits`, `cached` (steps against one pass), `end` (EOS with a
    second stop id, against the log of the sum of both probabilities), `back` (logits of
    transformers on our folder); `max_logit`; `greedy_same`, with the numbers of tokens and of
    different ones; `weights_same`, whether what we export has the original's bits.
  """
  theirs, model = torch_model(folder), our_model(folder, stop_ids=())
  params = published.load_params(folder, model.config)
  source, inputs = random_ids(seed)
  ours, reference = our_outputs(model, params, source, inputs), torch_outputs(
      theirs, source, inputs
  )
  stopping = our_model(folder)
  ends = stopping.logits(params, stopping.hidden(params, stopping.encode(params, source), inputs))
  stops = jnp.asarray(reference["logits"][..., [PUBLISHED_EOS, STOP]])
  rows = np.setdiff1d(np.arange(VOCAB + 1), [PAD_ID])
  written = [theirs_of(row) for row in ours["greedy"]]
  with tempfile.TemporaryDirectory() as saved:
    original = published.open_published(folder).config
    published.save_model(Path(saved) / "ours", params, model.config, original=original)
    back = torch_outputs(torch_model(Path(saved) / "ours"), source, inputs)["logits"]
  return {
      "max_logit": _largest(reference["logits"]),
      "logits": _largest(ours["logits"][..., rows] - reference["logits"][..., theirs_of(rows)]),
      "cached": _largest(ours["cached"] - ours["logits"]),
      "end": _largest(np.asarray(ends)[..., EOS_ID] - jax.nn.logsumexp(stops, axis=-1)),
      "back": _largest(back[..., :VOCAB] - reference["logits"]),
      "greedy_same": all(
          row[: len(other)].tolist() == other
          for row, other in zip(written, reference["greedy"], strict=True)
      ),
      "greedy_tokens": sum(map(len, reference["greedy"])),
      "greedy_distinct": len({i for row in reference["greedy"] for i in row}),
      "weights_same": same_bits(
          dict(published.export_weights(params, model.config)), text_tensors(folder)
      ),
  }


def _largest(x: np.ndarray) -> float:
  return float(np.abs(x).max())


def report(families: dict[str, dict]) -> dict[str, Any]:
  """As `parity.report`, with the length of these sources."""
  return parity.report(families, source=SOURCE)
