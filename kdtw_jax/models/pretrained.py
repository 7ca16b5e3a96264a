"""Published T5 weights in and out: the names of transformers' T5 <-> this package's params.

Arrays in, arrays out: no torch, no download, no file. Covers the encoder-decoder; the student's
heads have no published counterpart.
Letters: D width, F hidden width, N heads, H head size, V vocabulary.

Example:
  weights = {name: tensor.numpy() for name, tensor in torch_model.state_dict().items()}
  params = {**model.init(key), **import_t5(weights, config)}
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from kdtw_jax.base import ArrayLike, Params
from kdtw_jax.models.config import ModelConfig
from kdtw_jax.models.functional import build
from kdtw_jax.models.heads import HEADS
from kdtw_jax.models.position_bias import STORED_SCALE


class _Entry(NamedTuple):
  """One parameter of ours and the published arrays that it is made of.

  Attributes:
    path: keys of our nested dict.
    names: published names, in the order in which our kernel stacks them.
    join: published arrays -> ours.
    split: ours -> published arrays.
  """

  path: tuple[str, ...]
  names: tuple[str, ...]
  join: Callable[..., np.ndarray]
  split: Callable[..., tuple[np.ndarray, ...]]


def import_t5(weights: Mapping[str, ArrayLike], config: ModelConfig) -> Params:
  """Our params from published weights, without the student's heads.

  Args:
    weights: state dict of a T5ForConditionalGeneration as arrays; names that T5 ties to
      `shared.weight` are not read.
    config: the architecture that the weights belong to.

  Returns:
    A nested dict like `Model.init`'s, heads left out, in `config.param_dtype`.

  Raises:
    ValueError: a name is missing or a shape is not what the config says.
  """
  flat = {}
  for entry in _entries(config):
    missing = [name for name in entry.names if name not in weights]
    if missing:
      raise ValueError(
          f"weights: {missing[0]!r} is missing; check model.feed_forward={config.feed_forward!r}, "
          f"model.tie_embeddings={config.tie_embeddings} and the numbers of layers"
      )
    arrays = [np.asarray(weights[name], np.float32) for name in entry.names]
    flat[entry.path] = entry.join(*arrays)
  _check_shapes(flat, config)
  flat = {path: jnp.asarray(leaf, config.param_dtype) for path, leaf in flat.items()}
  return traverse_util.unflatten_dict(flat)


def export_t5(params: Params, config: ModelConfig) -> dict[str, np.ndarray]:
  """Published weights from our params: the inverse of `import_t5`; heads are left out.

  Args:
    params: of a model of this config.
    config: its architecture.

  Returns:
    float32 arrays by published name, with T5's aliases of `shared.weight`.
  """
  flat = traverse_util.flatten_dict(params)
  weights = {}
  for entry in _entries(config):
    arrays = entry.split(np.asarray(flat[entry.path], np.float32))
    weights.update(zip(entry.names, arrays, strict=True))
  for name in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight"):
    weights[name] = weights["shared.weight"]
  if config.tie_embeddings:
    weights["lm_head.weight"] = weights["shared.weight"]
  return weights


def _check_shapes(flat: Mapping[tuple[str, ...], np.ndarray], config: ModelConfig) -> None:
  """Raises ValueError where an array does not have the shape that the config gives it."""
  expected = jax.eval_shape(build(config).init, jax.random.key(0))
  for path, leaf in traverse_util.flatten_dict(expected).items():
    if path[0] not in HEADS and flat[path].shape != leaf.shape:
      raise ValueError(
          f"weights for {'/'.join(path)}: shape {flat[path].shape}, but the model config says "
          f"{leaf.shape}; set the sizes of the published model"
      )


def _entries(config: ModelConfig) -> list[_Entry]:
  """All parameters of the encoder-decoder."""
  entries = [_scaled("shared/embedding", "shared.weight", config.d_model**0.5)]
  for stack, depth in (
      ("encoder", config.num_encoder_layers),
      ("decoder", config.num_decoder_layers),
  ):
    entries.append(_copy(f"{stack}/final_norm/weight", f"{stack}.final_layer_norm.weight"))
    bias = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    entries.append(_scaled(f"{stack}/position_bias/embedding", bias, STORED_SCALE))
    for i in range(depth):
      entries.extend(_layer_entries(stack, i, config))
  if not config.tie_embeddings:
    entries.append(_copy("readout_kernel", "lm_head.weight"))
  return entries


def _layer_entries(stack: str, i: int, config: ModelConfig) -> list[_Entry]:
  """The parameters of layer i of a stack."""
  ours, theirs = f"{stack}/layer_{i}", f"{stack}.block.{i}.layer"
  attention = f"{theirs}.0.SelfAttention"
  q_scale = config.d_kv**-0.5
  entries = [
      _copy(f"{ours}/self_attention_norm/weight", f"{theirs}.0.layer_norm.weight"),
      _kernel(f"{ours}/self_attention/qkv", *(f"{attention}.{x}.weight" for x in "qkv"),
              first_scale=q_scale),
      _kernel(f"{ours}/self_attention/out", f"{attention}.o.weight"),
  ]
  last = 1
  if stack == "decoder":
    last = 2
    attention = f"{theirs}.1.EncDecAttention"
    entries += [
        _copy(f"{ours}/cross_attention_norm/weight", f"{theirs}.1.layer_norm.weight"),
        _kernel(f"{ours}/cross_attention/q", f"{attention}.q.weight", first_scale=q_scale),
        _kernel(f"{ours}/cross_attention/kv", f"{attention}.k.weight", f"{attention}.v.weight"),
        _kernel(f"{ours}/cross_attention/out", f"{attention}.o.weight"),
    ]
  dense = f"{theirs}.{last}.DenseReluDense"
  inputs = ("wi_0", "wi_1") if config.feed_forward == "gated-gelu" else ("wi",)
  return entries + [
      _copy(f"{ours}/feed_forward_norm/weight", f"{theirs}.{last}.layer_norm.weight"),
      _kernel(f"{ours}/feed_forward/wi", *(f"{dense}.{x}.weight" for x in inputs)),
      _kernel(f"{ours}/feed_forward/wo", f"{dense}.wo.weight"),
  ]


def _copy(path: str, name: str) -> _Entry:
  """A parameter that is the published array itself."""
  return _Entry(tuple(path.split("/")), (name,), lambda x: x, lambda x: (x,))


def _scaled(path: str, name: str, scale: float) -> _Entry:
  """A parameter that is stored divided by a scale."""
  return _Entry(tuple(path.split("/")), (name,), lambda x: x / scale, lambda x: (x * scale,))


def _kernel(path: str, *names: str, first_scale: float = 1.0) -> _Entry:
  """A kernel `[in, out]` or `[in, parts, out]` of published `[out, in]` matrices.

  The first matrix is stored divided by `first_scale`.
  """
  keys = tuple(path.split("/"))
  scales = (first_scale, *[1.0] * (len(names) - 1))

  def join(*parts):
    kernels = [x.T / scale for x, scale in zip(parts, scales, strict=True)]
    return kernels[0] if len(kernels) == 1 else np.stack(kernels, axis=1)

  def split(x):
    parts = [x] if len(names) == 1 else [x[:, i] for i in range(len(names))]
    return tuple(part.T * scale for part, scale in zip(parts, scales, strict=True))

  return _Entry(keys, names, join, split)
