"""Tiny models in folders, with random weights in every parameter: nothing is at its start value."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
from safetensors.numpy import load_file

from kdtw_jax import published
from kdtw_jax.models import HEADS, ModelConfig, build

# 2 heads of 5 are 10 wide: not d_model.
TINY = ModelConfig(
    vocab_size=40,
    d_model=12,
    d_ff=20,
    num_heads=2,
    d_kv=5,
    num_encoder_layers=2,
    num_decoder_layers=1,
    relative_attention_num_buckets=8,
    relative_attention_max_distance=12,
    gate_hidden=6,
    value_hidden=6,
)


def random_model(seed: int = 0, **changes):
  """(config, model, params) of TINY with changes; params are numpy arrays."""
  config = dataclasses.replace(TINY, **changes)
  model = build(config)
  rng = np.random.default_rng(seed)
  params = jax.tree.map(
      lambda leaf: (0.5 * rng.normal(size=leaf.shape)).astype(leaf.dtype),
      jax.eval_shape(model.init, jax.random.key(0)),
  )
  return config, model, params


def without_heads(params):
  return {name: value for name, value in params.items() if name not in HEADS}


def saved(folder: Path, **changes) -> tuple[ModelConfig, dict]:
  """Saves a random model and gives its config and params."""
  config, _, params = random_model(**changes)
  published.save_model(folder, params, config)
  return config, params


def edit_json(path: Path, **changes) -> None:
  """Changes fields of a JSON object in a file; None removes a field."""
  content = json.loads(path.read_text(encoding="utf-8")) | changes
  kept = {name: value for name, value in content.items() if value is not None}
  path.write_text(json.dumps(kept), encoding="utf-8")


def all_tensors(folder: Path) -> dict[str, np.ndarray]:
  """What all weights files of a folder hold, by name."""
  return {
      name: array
      for file in sorted(folder.glob("model*.safetensors"))
      for name, array in load_file(file).items()
  }


def assert_same_bits(found, expected):
  """Same structure, dtypes and bits."""
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    a, b = np.asarray(a), np.asarray(b)
    assert (a.dtype, a.shape) == (b.dtype, b.shape)
    np.testing.assert_array_equal(*(np.ascontiguousarray(x).view(np.uint8) for x in (a, b)))
