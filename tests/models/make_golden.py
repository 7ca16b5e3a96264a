"""Writes the golden files of the parity test from transformers' torch T5 with random weights.

Run from the repository root, with torch and transformers installed:

  python tests/models/make_golden.py

Each file holds the model's weights by their published names (float32), a padded source, targets,
and what torch T5 makes of them: encoder states, teacher-forced logits, and the logits of cached
steps of one token. `relu_tied.npz` also holds the position buckets of far distances.
"""

import dataclasses
import pathlib

import numpy as np

from kdtw_jax.models import ModelConfig

GOLDEN = pathlib.Path(__file__).parent / "golden"
SIZES = {
    "vocab_size": 40,
    "d_model": 12,
    "d_ff": 20,
    "num_heads": 3,
    "d_kv": 5,  # 3 heads of 5 are 15 wide: not d_model
    "num_encoder_layers": 2,
    "num_decoder_layers": 2,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 12,
}
KINDS = {
    "relu_tied": ModelConfig(**SIZES, feed_forward="relu", tie_embeddings=True),
    "gated_gelu_untied": ModelConfig(**SIZES, feed_forward="gated-gelu", tie_embeddings=False),
}
DISTANCES = np.arange(-300, 301)


def torch_t5(config: ModelConfig, seed: int):
  """A random torch T5 of these sizes, in evaluation mode."""
  import torch
  from transformers import T5Config, T5ForConditionalGeneration

  torch.manual_seed(seed)
  model = T5ForConditionalGeneration(
      T5Config(
          vocab_size=config.vocab_size,
          d_model=config.d_model,
          d_ff=config.d_ff,
          num_heads=config.num_heads,
          d_kv=config.d_kv,
          num_layers=config.num_encoder_layers,
          num_decoder_layers=config.num_decoder_layers,
          relative_attention_num_buckets=config.relative_attention_num_buckets,
          relative_attention_max_distance=config.relative_attention_max_distance,
          feed_forward_proj=config.feed_forward,
          tie_word_embeddings=config.tie_embeddings,
          decoder_start_token_id=0,
      )
  ).eval()
  if not config.tie_embeddings:
    # transformers 5 ties a fresh model's readout whatever its config says.
    model.lm_head.weight = torch.nn.Parameter(torch.randn(config.vocab_size, config.d_model))
  with torch.no_grad():  # fresh norms are all ones, which would hide a forgotten weight
    for name, parameter in model.named_parameters():
      if "layer_norm" in name:
        parameter.add_(0.3 * torch.randn_like(parameter))
      if "relative_attention_bias" in name:
        parameter.copy_(torch.randn_like(parameter))
  return model


def random_text(config: ModelConfig, seed: int, source_length: int, target_length: int):
  """Random sources padded with 0 and decoder inputs that start with 0."""
  rng = np.random.default_rng(seed)
  source = rng.integers(3, config.vocab_size, (3, source_length)).astype(np.int32)
  for row, length in enumerate((source_length, source_length - 3, 1)):
    source[row, length:] = 0
  inputs = rng.integers(3, config.vocab_size, (3, target_length)).astype(np.int32)
  inputs[:, 0] = 0
  return source, inputs


def torch_outputs(model, source: np.ndarray, inputs: np.ndarray) -> dict[str, np.ndarray]:
  """Encoder states, teacher-forced logits and the logits of cached single steps."""
  import torch

  ids = torch.tensor(source, dtype=torch.long)
  mask = (ids != 0).long()
  tokens = torch.tensor(inputs, dtype=torch.long)
  with torch.no_grad():
    full = model(input_ids=ids, attention_mask=mask, decoder_input_ids=tokens)
    encoded = (full.encoder_last_hidden_state,)
    past, steps = None, []
    for t in range(tokens.shape[1]):
      out = model(
          encoder_outputs=encoded,
          attention_mask=mask,
          decoder_input_ids=tokens[:, t : t + 1],
          past_key_values=past,
          use_cache=True,
      )
      past = out.past_key_values
      steps.append(out.logits)
  return {
      "states": full.encoder_last_hidden_state.numpy(),
      "logits": full.logits.numpy(),
      "step_logits": torch.cat(steps, dim=1).numpy(),
  }


def torch_weights(model) -> dict[str, np.ndarray]:
  """The state dict without the aliases of the tied embedding."""
  weights = {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}
  aliases = ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"]
  if np.array_equal(weights["lm_head.weight"], weights["shared.weight"]):
    aliases.append("lm_head.weight")
  return {name: array for name, array in weights.items() if name not in aliases}


def torch_buckets() -> dict[str, np.ndarray]:
  """Buckets of distances far beyond the last one, with the published sizes 32 and 128."""
  import torch
  from transformers.models.t5.modeling_t5 import T5Attention

  distances = torch.tensor(DISTANCES)
  return {
      f"buckets_{name}": (
          T5Attention._relative_position_bucket(
              distances, bidirectional=bidirectional, num_buckets=32, max_distance=128
          ).numpy()
      )
      for name, bidirectional in (("encoder", True), ("decoder", False))
  }


def main() -> None:
  """Writes both files and says their sizes."""
  GOLDEN.mkdir(exist_ok=True)
  for seed, (name, config) in enumerate(KINDS.items()):
    model = torch_t5(config, seed)
    source, inputs = random_text(config, seed, source_length=18, target_length=17)
    arrays = {"source": source, "inputs": inputs, **torch_outputs(model, source, inputs)}
    arrays.update({f"weights/{key}": value for key, value in torch_weights(model).items()})
    if name == "relu_tied":
      arrays.update(torch_buckets())
    path = GOLDEN / f"{name}.npz"
    np.savez_compressed(path, **arrays)
    print(f"{path}: {path.stat().st_size / 1024:.0f} KiB, {dataclasses.asdict(config)}")


if __name__ == "__main__":
  main()
