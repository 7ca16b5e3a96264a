"""A family of published models read by transformers and torch, and here: the same numbers?

A small checkpoint with random weights is written for each family by transformers itself, in the
layout of the published ones, and read by both. Compared in float32: encoder states, teacher-forced
logits, logits of cached steps in chunks, greedy generation; then the way back: what we save is
loaded by transformers, and must give the same logits from the same bits. Sequences are longer than
128 positions, so that the last bucket of the position bias is reached. Not a measure of speed, nor
of the published weights themselves.
"""

import importlib.metadata
import itertools
import json
from pathlib import Path
import tempfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdtw_jax import decoding, published
from kdtw_jax.base import EOS_ID, PAD_ID
from kdtw_jax.data import load_tokenizer
from kdtw_jax.models import Model, ModelConfig, build
from kdtw_jax.published import special_ids
from tests.bart_tokenizers import ENGLISH_GERMAN, write_tokenizer
from tests.t5_tokenizer import PIECES, make_madlad

# What each family's config says beyond SIZES; v1.1 and its successors have a readout of their own.
V1_1 = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
FAMILIES: dict[str, dict[str, Any]] = {
    "t5": {"class": "T5", "feed_forward_proj": "relu"},
    "t5_v1_1": {"class": "T5", **V1_1},
    "flan_t5": {"class": "T5", **V1_1, "max_shard_size": "40KB"},
    "mt5": {"class": "MT5", **V1_1},
    "umt5": {"class": "UMT5", **V1_1},
    "byt5": {"class": "T5", **V1_1, "vocab_size": 384, "num_layers": 3, "num_decoder_layers": 1},
    "madlad": {
        "class": "T5",
        **V1_1,
        "pad_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 0,
        "vocab_size": PIECES,
    },
    "m2m_100": {"class": "M2M100"},
    "nllb": {"class": "M2M100"},
    "bart": {"class": "Bart", "forced_bos_token_id": 0},
    "mbart": {"class": "MBart", "scale_embedding": True},
    "pegasus": {"class": "Pegasus", "scale_embedding": True, "activation_function": "relu"},
    "t5gemma": {"class": "T5Gemma", "max_shard_size": "40KB"},
    "t5gemma2": {"class": "T5Gemma2"},
}
GEMMAS = ("t5gemma", "t5gemma2")
BARTS = ("m2m_100", "nllb", "bart", "mbart", "pegasus")
# 3 heads of 10 are 30 wide: not d_model.
SIZES = {
    "vocab_size": 96,
    "d_model": 32,
    "d_ff": 48,
    "num_heads": 3,
    "d_kv": 10,
    "num_layers": 2,
    "num_decoder_layers": 2,
}
BART_SIZES = {
    "d_model": 32,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "max_position_embeddings": 160,
}
# Each stack has sizes of its own, and layers with a window and without.
GEMMA_SIZES = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 10,
    "num_hidden_layers": 2,
    "layer_types": ["sliding_attention", "full_attention"],
    "sliding_window": 9,
    "query_pre_attn_scalar": 12,
    "max_position_embeddings": 512,
}
GEMMA_INSIDE = {**GEMMA_SIZES, "num_key_value_heads": 1, "sliding_window": 6}
GEMMA_CAPS = {"attn_logit_softcapping": 5.0, "final_logit_softcapping": 9.0}
GEMMA_ROPE = {"rope_theta": 1e6, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}
GEMMA_STD = {"embed_tokens": 0.15, "out_proj": 0.3}  # of weights; else 0.2
VISION = {
    "model_type": "siglip_vision_model",
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 14,
    "patch_size": 14,
}
BART_STD = 0.18  # of weights: logits of size 1 to 10, and outputs of several tokens
READOUT_STD = 0.25  # logits of size 1 to 10
OUTPUT_SCALE = 2.0  # of attention and feed-forward, so that a tied model does not repeat its input
LAST_KERNELS = (".o.weight", ".wo.weight", ".out_proj.weight", ".fc2.weight")
SOURCE, TARGET, GENERATED = 150, 140, 32
CHUNKS = (1, 1, 64, 74)  # of the cached steps; they sum to TARGET


# A checkpoint as published ------------------------------------------------------------------------


def write_checkpoint(family: str, folder: Path, seed: int, dtype: str = "float32") -> None:
  """Writes a small random model of a family with transformers' own `save_pretrained`.

  Args:
    family: a key of FAMILIES.
    folder: where; made if missing.
    seed: of the weights.
    dtype: of the weights in the file.
  """
  import torch
  import transformers

  torch.manual_seed(seed)
  if family in GEMMAS:
    _write_gemma(family, folder, dtype)
    return
  kind = dict(FAMILIES[family])
  name, shard = kind.pop("class"), kind.pop("max_shard_size", "5GB")
  sizes = {**SIZES, "decoder_start_token_id": PAD_ID}
  if family in BARTS:
    write_tokenizer(family, Path(folder))
    named = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    rows = load_tokenizer(folder, ENGLISH_GERMAN.get(family, ("", ""))).num_tokens
    start = named["decoder_start_token_id"]
    sizes = {**BART_SIZES, "vocab_size": rows, "decoder_start_token_id": start}
  config = getattr(transformers, f"{name}Config")(**{**sizes, **kind})
  model = getattr(transformers, f"{name}ForConditionalGeneration")(config)
  untied = not kind.get("tie_word_embeddings", True)
  if untied:  # transformers 5 ties a fresh model's readout whatever its config says
    model.lm_head.weight = torch.nn.Parameter(
        READOUT_STD * torch.randn(config.vocab_size, config.d_model)
    )
  with torch.no_grad():  # fresh norms are all ones, which would hide a forgotten weight
    for parameter_name, parameter in model.named_parameters():
      if parameter_name.endswith(".bias"):  # larger ones would decide what is written
        parameter.add_(0.1 * torch.randn_like(parameter))
        continue
      if family in BARTS and parameter.requires_grad:  # Pegasus' sinusoids need none
        parameter.add_(BART_STD * torch.randn_like(parameter))
      if "layer_norm" in parameter_name:
        parameter.add_(0.3 * torch.randn_like(parameter))
      if "relative_attention_bias" in parameter_name:
        parameter.copy_(torch.randn_like(parameter))
      if parameter_name.endswith(LAST_KERNELS):
        parameter.mul_(OUTPUT_SCALE)
  if family == "madlad":
    make_madlad(folder)
  model.to(getattr(torch, dtype)).save_pretrained(folder, max_shard_size=shard)
  if family != "flan_t5":  # which stays as transformers 5 writes it
    as_on_the_hub(Path(folder) / "config.json", tied=not untied)
  if family == "byt5":
    transformers.ByT5Tokenizer().save_pretrained(folder)
  if untied != ("lm_head.weight" in file_tensors(folder)):
    raise RuntimeError(f"{family}: transformers {'tied' if untied else 'untied'} the readout")


def _write_gemma(family: str, folder: Path, dtype: str) -> None:
  """Writes a T5Gemma, untied and in shards, or a T5Gemma 2 that sees."""
  import torch
  import transformers

  if family == "t5gemma":
    wide = {"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 1}
    inside = {**GEMMA_INSIDE, **wide, "layer_types": ["sliding_attention"], **GEMMA_CAPS}
    config = transformers.T5GemmaConfig(
        encoder=inside,
        decoder={**GEMMA_SIZES, **GEMMA_CAPS},
        vocab_size=96,
        tie_word_embeddings=False,
    )
    model = transformers.T5GemmaForConditionalGeneration(config)
  else:
    config = transformers.T5Gemma2Config(
        encoder={
            "text_config": {**GEMMA_INSIDE, **GEMMA_ROPE},
            "vision_config": VISION,
            "mm_tokens_per_image": 1,
        },
        decoder={**GEMMA_SIZES, **GEMMA_ROPE},
    )
    model = transformers.T5Gemma2ForConditionalGeneration(config)
  with torch.no_grad():
    for name, parameter in model.named_parameters():
      if "norm" in name:
        parameter.add_(0.3 * torch.randn_like(parameter))
      elif "vision" not in name:
        std = GEMMA_STD.get(name.split(".")[-2], 0.2)
        parameter.copy_(std * torch.randn_like(parameter))
  shard = FAMILIES[family].get("max_shard_size", "5GB")
  model.to(getattr(torch, dtype)).save_pretrained(folder, max_shard_size=shard)


def as_on_the_hub(path: Path, *, tied: bool) -> None:
  """Makes of a config.json by transformers 5 one as the models were published with."""
  config = json.loads(path.read_text(encoding="utf-8"))
  config.pop("scale_decoder_outputs", None)
  path.write_text(json.dumps({**config, "tie_word_embeddings": tied}), encoding="utf-8")


def file_tensors(folder: Path) -> dict[str, Any]:
  """All tensors of a folder's safetensors files, as torch tensors."""
  from safetensors.torch import load_file

  return {
      name: tensor
      for file in sorted(Path(folder).glob("model*.safetensors"))
      for name, tensor in load_file(file).items()
  }


def of_text(tensors: dict[str, Any]) -> dict[str, Any]:
  """Those of a model that sees which a text reaches."""
  apart = ("vision_tower", "multi_modal_projector", "eoi_embedding")
  return {name: x for name, x in tensors.items() if not any(part in name for part in apart)}


def torch_model(folder: Path) -> Any:
  """What transformers makes of a folder, in evaluation mode and the dtype of the file."""
  import transformers

  return transformers.AutoModelForSeq2SeqLM.from_pretrained(folder, dtype="auto").eval()


def our_model(folder: Path, param_dtype: str = "float32", family: str = "") -> Model:
  """Our functions for a folder; its tokenizer, if there is one, decides the rows of the table."""
  found = published.open_published(folder)
  rows = {"vocab_size": found.config["vocab_size"]}
  if family in GEMMAS:  # a chat template, and BOS for the decoder
    rows |= {"prompt_prefix": (2, 20), "prompt_suffix": (21, 22, 2)}
  if (Path(folder) / "tokenizer_config.json").is_file():
    rows = load_tokenizer(folder, ENGLISH_GERMAN.get(family, ("", ""))).model_fields
  return build(ModelConfig(**found.architecture, **rows, param_dtype=param_dtype))


# Both on the same ids -----------------------------------------------------------------------------


def random_ids(vocab_size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """Padded sources `[3, SOURCE]` and decoder inputs `[3, TARGET]` that start with PAD_ID."""
  rng = np.random.default_rng(seed)
  source = rng.integers(3, vocab_size, (3, SOURCE)).astype(np.int32)
  for row, length in enumerate((SOURCE, SOURCE - 3, 2)):
    source[row, length:] = PAD_ID
  inputs = rng.integers(3, vocab_size, (3, TARGET)).astype(np.int32)
  inputs[:, 0] = PAD_ID
  return source, inputs


def our_outputs(model: Model, params: Any, source: np.ndarray, inputs: np.ndarray) -> dict:
  """Encoder states, teacher-forced logits, cached logits and greedy tokens of ours."""

  @jax.jit
  def run(params, source, inputs):
    encoded = model.encode(params, source)
    logits = model.logits(params, model.hidden(params, encoded, inputs))
    cache, parts, position = model.start(params, source, TARGET), [], 0
    for size in CHUNKS:
      hidden, cache = model.extend(
          params,
          cache,
          inputs[:, position : position + size],
          jnp.full(len(source), position, jnp.int32),
      )
      parts.append(model.logits(params, hidden))
      position += size
    return encoded.states, encoded.mask, logits, jnp.concatenate(parts, axis=1)

  decoder = decoding.make_decoder(None, model.decoder_fns, max_length=GENERATED)
  written = decoder(
      None,
      params,
      None,
      source,
      np.zeros(len(source), np.float32),
      jax.random.key(0),
      decoding.make_policy("teacher"),
  )
  states, mask, logits, cached = map(np.asarray, run(params, source, inputs))
  return {
      "encoder": states[mask],  # those of padding are meaningless
      "logits": logits,
      "cached": cached,
      "greedy": np.asarray(written.tokens),
  }


def framed(source: np.ndarray, config: ModelConfig) -> np.ndarray:
  """Sources between the constant tokens of our model, with all padding behind."""
  before, after = config.prompt_prefix, config.prompt_suffix[:-1]
  # A T5Gemma gives up the last token of a source, its EOS; the others keep it.
  ends = (-1, 0) if config.kind == "t5gemma" else (None, 1)
  rows = [[*before, *row[row != PAD_ID][: ends[0]], *after[ends[1] :]] for row in source]
  width = max(map(len, rows))
  return np.array([[*row, *[PAD_ID] * (width - len(row))] for row in rows])


def torch_outputs(model: Any, source: np.ndarray, inputs: np.ndarray, config: ModelConfig) -> dict:
  """The same of transformers' model; without `cached`, whose reference are the logits.

  Args:
    model: transformers' model.
    source: our ids.
    inputs: our ids.
    config: of our model, which renames ids and has constant tokens.
  """
  import torch

  rows = model.config.vocab_size
  order = np.arange(max(rows, config.vocab_size))  # their id of each of ours
  for ours, published_id in config.renamed_ids:
    order[ours] = published_id
  order = order[:rows]
  source, prefix = framed(source, config), config.decoder_prefix
  started = np.where(inputs == PAD_ID, config.prompt_suffix[-1], inputs)
  started = np.concatenate([np.tile(np.array(prefix, int), (len(inputs), 1)), started], axis=1)
  ids, tokens = (torch.tensor(x, dtype=torch.long) for x in (order[source], order[started]))
  mask = torch.tensor(source != PAD_ID).long()
  told = special_ids.generation_ids(config)
  with torch.inference_mode():
    full = model(input_ids=ids, attention_mask=mask, decoder_input_ids=tokens)
    written = model.generate(  # ours never writes padding before the end
        input_ids=ids,
        attention_mask=mask,
        do_sample=False,
        num_beams=1,
        max_new_tokens=GENERATED + len(prefix),
        forced_eos_token_id=None,
        suppress_tokens=[model.config.pad_token_id],
        decoder_start_token_id=told["decoder_start_token_id"],
        forced_bos_token_id=told.get("forced_bos_token_id"),
    )
  if not (written[:, : 1 + len(prefix)] == tokens[:1, : 1 + len(prefix)]).all():
    raise RuntimeError("transformers gave its decoder other tokens to begin with")
  return {
      "encoder": full.encoder_last_hidden_state.float().numpy()[source != PAD_ID],
      "logits": full.logits.float().numpy()[:, len(prefix) :, order],
      "greedy": np.argsort(order)[written[:, 1 + len(prefix) :].numpy()],
  }


def differences(folder: Path, family: str, seed: int = 0) -> dict[str, Any]:
  """Compares both readings of a folder, and transformers' reading of what we write.

  Args:
    folder: a published model in float32.
    family: its key in FAMILIES.
    seed: of the token ids.

  Returns:
    Largest absolute differences `encoder`, `logits`, `cached` and `back` (logits of transformers
    on our folder); `max_logit`; `greedy_same` with how many tokens were compared, and how many
    different ones; `weights_same` (what we export of the loaded params) and `weights_back` (what
    transformers loads from our folder), whether all bits are those of the original.
  """
  theirs, model = torch_model(folder), our_model(folder, family=family)
  params = published.load_params(folder, model.config)
  rows = theirs.config.vocab_size
  source, inputs = random_ids(rows, seed)
  ours, reference = (
      our_outputs(model, params, source, inputs),
      torch_outputs(theirs, source, inputs, model.config),
  )
  shown = np.arange(rows) != model.config.tau_id
  found = {
      "max_logit": _largest(reference["logits"]),
      "encoder": _largest(ours["encoder"] - reference["encoder"]),
  }
  for name in ("logits", "cached"):
    found[name] = _largest((ours[name][..., :rows] - reference["logits"])[..., shown])
  written = [_up_to_eos(x["greedy"]) for x in (ours, reference)]
  found["greedy_same"] = written[0] == written[1]
  found["greedy_tokens"] = sum(map(len, written[1]))
  found["greedy_distinct"] = len(set(itertools.chain(*written[1])))
  written = dict(published.export_weights(params, model.config))
  found["weights_same"] = same_bits(of_text(written), of_text(file_tensors(folder)))
  with tempfile.TemporaryDirectory() as saved:
    back = export(folder, Path(saved) / "ours", params, model.config)
    again = torch_outputs(back, source, inputs, model.config)
    found["back"] = _largest(again["logits"][..., :rows] - reference["logits"])
    found["weights_back"] = same_bits(of_text(back.state_dict()), of_text(theirs.state_dict()))
  return found


def export(folder: Path, target: Path, params: Any, config: ModelConfig) -> Any:
  """Saves params that began as the model of a folder, and gives what transformers makes of it."""
  original = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
  published.save_model(target, params, config, original=original)
  return torch_model(target)


def same_bits(found: dict[str, Any], expected: dict[str, Any]) -> bool:
  """Whether the same names hold the same bits; tables may have more rows, all zero."""
  import torch

  def bits(value) -> np.ndarray:
    if isinstance(value, torch.Tensor):
      value = value.detach().contiguous().view(torch.uint8).numpy()
    return np.squeeze(np.ascontiguousarray(value).view(np.uint8))  # final_logits_bias is [1, V]

  def is_same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape[1:] == b.shape[1:] and np.array_equal(a[: len(b)], b) and not a[len(b) :].any()

  return found.keys() == expected.keys() and all(
      is_same(bits(found[name]), bits(value)) for name, value in expected.items()
  )


def _largest(x: np.ndarray) -> float:
  return float(np.abs(x).max())


def _up_to_eos(tokens: np.ndarray) -> list[list[int]]:
  """Each row's tokens up to and with its EOS."""
  rows = [row.tolist() for row in tokens]
  return [row[: row.index(EOS_ID) + 1] if EOS_ID in row else row for row in rows]


def report(families: dict[str, dict], source: int = SOURCE) -> dict[str, Any]:
  """What `differences` found for each family, with the lengths and versions it was found with."""
  return {
      "source": source,
      "target": TARGET,
      "chunks": CHUNKS,
      **{name: importlib.metadata.version(name) for name in ("jax", "torch", "transformers")},
      "families": families,
  }
