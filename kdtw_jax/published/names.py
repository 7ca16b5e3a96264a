"""Conversion between the weights of transformers' T5 and this package's params.

Arrays in, arrays out: no files, no downloads. It covers the encoder-decoder; the student's heads
have no published counterpart. Our kernels are transposed and stacked, and some are stored in other
units. All units are powers of two, so nothing is rounded in either direction.
Letters: D width, F hidden width, N heads, H head size, V vocabulary, P tables of position bias.

Example:
  weights = {name: tensor.numpy() for name, tensor in torch_model.state_dict().items()}
  params = {**model.init(key), **import_t5(weights, config)}
"""

from collections.abc import Callable, Iterator, Mapping
import functools
import operator
from typing import Any, NamedTuple

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from kdtw_jax.base import ArrayLike, Params
from kdtw_jax.models import HEADS, ModelConfig, build
from kdtw_jax.models.attention import query_unit
from kdtw_jax.models.layers import embedding_unit
from kdtw_jax.models.position_bias import BIAS_UNIT

TABLES = ("shared/embedding", "readout_kernel")  # parameters with a row for each token


class _Entry(NamedTuple):
  """One of our parameters and the published arrays that it consists of.

  Attributes:
    path: keys in our nested dict.
    names: published names, in the order in which our kernel stacks them.
    join: `(*published arrays) -> ours`.
    split: `(ours) -> published arrays`.
  """

  path: tuple[str, ...]
  names: tuple[str, ...]
  join: Callable[..., np.ndarray]
  split: Callable[..., tuple[np.ndarray, ...]]


def import_t5(
    weights: Mapping[str, ArrayLike],
    config: ModelConfig,
    *,
    place_fn: Callable[[tuple[str, ...], np.ndarray], Any] = lambda path, array: jnp.asarray(array),
) -> Params:
  """Converts published weights to our params, without the student's heads.

  Besides the results of `place_fn`, memory holds the published arrays of one parameter at a time.

  Args:
    weights: state dict of a T5ForConditionalGeneration as arrays; names that T5 ties to
      `shared.weight` are not read. If `config.num_tokens` is set, a table with more or fewer rows
      than `config.vocab_size` is cut or padded with zeros.
    config: the architecture of the weights.
    place_fn: `(path, array)`, moves a host array of `config.param_dtype` to its devices, by its
      keys in the result. The array may be one of the published arrays itself; the default copies
      it.

  Returns:
    A nested dict like the result of `Model.init`, without heads.

  Raises:
    ValueError: if a name is missing, or a shape or dtype does not match the config.
  """
  shapes = build(config).shapes
  return traverse_util.unflatten_dict(
      {
          # A transfer holds its host array until it is done.
          entry.path: jax.block_until_ready(
              place_fn(entry.path, _read(entry, weights, config, shapes))
          )
          for entry in _entries(config)
      }
  )


def export_t5(params: Params, config: ModelConfig) -> Iterator[tuple[str, np.ndarray]]:
  """Converts our params to published weights, without heads: the exact inverse of `import_t5`.

  Args:
    params: parameters of a model of this config.
    config: the architecture.

  Yields:
    (published name, array in the params' dtype), without T5's aliases of `shared.weight`. The
    arrays are made one parameter at a time.
  """
  flat = traverse_util.flatten_dict({k: v for k, v in params.items() if k not in HEADS})
  for entry in _entries(config):
    yield from zip(entry.names, entry.split(np.asarray(flat[entry.path])), strict=True)


def _read(
    entry: _Entry, weights: Mapping[str, ArrayLike], config: ModelConfig, shapes: Params
) -> np.ndarray:
  """Reads one of our parameters in `param_dtype`; see `import_t5` for errors."""
  missing = [name for name in entry.names if name not in weights]
  if missing:
    raise ValueError(
        f"weights: {missing[0]!r} is missing; check model.feed_forward={config.feed_forward!r}, "
        f"model.tie_embeddings={config.tie_embeddings} and the numbers of layers"
    )
  array = entry.join(*_published(entry, weights))
  if "/".join(entry.path) in TABLES and config.num_tokens:
    array = _fit_rows(array, config)
  shape = functools.reduce(operator.getitem, entry.path, shapes).shape
  if array.shape != shape:
    raise ValueError(
        f"weights for {'/'.join(entry.path)}: shape {array.shape}, but the model config says "
        f"{shape}; set the sizes of the published model"
    )
  # Keeps the memory order of the file: the transfer to a device transposes faster than numpy.
  return array.astype(jnp.dtype(config.param_dtype), order="K", copy=False)


def _published(entry: _Entry, weights: Mapping[str, ArrayLike]) -> list[np.ndarray]:
  """Returns the published arrays of one parameter; raises ValueError if they do not fit."""
  arrays = [_exactly_scalable(name, weights[name]) for name in entry.names]
  shapes = {name: array.shape for name, array in zip(entry.names, arrays, strict=True)}
  if len(set(shapes.values())) > 1:
    raise ValueError(f"weights for {'/'.join(entry.path)}: shapes must be alike, but are {shapes}")
  return arrays


def _exactly_scalable(name: str, array: ArrayLike) -> np.ndarray:
  """Returns the array in a dtype that can also hold it in our units; refuses integers."""
  array = np.asarray(array)
  if not jnp.issubdtype(array.dtype, jnp.floating):
    raise ValueError(
        f"weights: {name!r} is {array.dtype}, must be floating point: download the model without "
        "quantisation"
    )
  return array.astype(np.float32) if array.dtype == np.float16 else array


def _fit_rows(table: np.ndarray, config: ModelConfig) -> np.ndarray:
  """Cuts or appends padding rows of a table, to give it `vocab_size` rows.

  Raises:
    ValueError: if the table has fewer rows than there are tokens.
  """
  if len(table) < config.num_tokens:
    raise ValueError(
        f"weights: a table of {len(table)} rows for {config.num_tokens} tokens: the "
        "tokenizer is not this model's; give the one published with it"
    )
  grown = config.vocab_size - len(table)
  return np.pad(table, ((0, grown), (0, 0))) if grown > 0 else table[: config.vocab_size]


def _entries(config: ModelConfig) -> list[_Entry]:
  """Lists all parameters of the encoder-decoder."""
  entries = [_scaled("shared/embedding", "shared.weight", embedding_unit(config.d_model))]
  for stack, depth in (
      ("encoder", config.num_encoder_layers),
      ("decoder", config.num_decoder_layers),
  ):
    biases = [
        f"{stack}.block.{i}.layer.0.SelfAttention.relative_attention_bias.weight"
        for i in range(depth if config.bias_per_layer else 1)
    ]
    entries.append(_tables(f"{stack}/position_bias/embedding", biases, BIAS_UNIT))
    for i in range(depth):
      entries.extend(_layer_entries(stack, i, config))
    entries.append(_copy(f"{stack}/final_norm/weight", f"{stack}.final_layer_norm.weight"))
  if not config.tie_embeddings:
    entries.append(_copy("readout_kernel", "lm_head.weight"))
  return entries


def _layer_entries(stack: str, i: int, config: ModelConfig) -> list[_Entry]:
  """Lists the parameters of layer i of a stack."""
  ours, theirs = f"{stack}/layer_{i}", f"{stack}.block.{i}.layer"
  attention = f"{theirs}.0.SelfAttention"
  q_scale = query_unit(config.d_kv)
  entries = [
      _copy(f"{ours}/self_attention_norm/weight", f"{theirs}.0.layer_norm.weight"),
      _kernel(
          f"{ours}/self_attention/qkv",
          *(f"{attention}.{x}.weight" for x in "qkv"),
          first_scale=q_scale,
      ),
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


def _times(x: np.ndarray, scale: float) -> np.ndarray:
  """Multiplies by a power of two in the array's dtype; numpy would turn bfloat16 into float32."""
  return x if scale == 1.0 else x * x.dtype.type(scale)


def _copy(path: str, name: str) -> _Entry:
  """Makes the entry of a parameter that equals the published array."""
  return _Entry(tuple(path.split("/")), (name,), lambda x: x, lambda x: (x,))


def _scaled(path: str, name: str, scale: float) -> _Entry:
  """Makes the entry of a parameter that is stored divided by a scale."""
  return _Entry(
      tuple(path.split("/")), (name,), lambda x: _times(x, 1 / scale), lambda x: (_times(x, scale),)
  )


def _tables(path: str, names: list[str], scale: float) -> _Entry:
  """Makes the entry of tables that are stacked on a new first axis and divided by a scale."""
  return _Entry(
      tuple(path.split("/")),
      tuple(names),
      lambda *x: _times(np.stack(x), 1 / scale),
      lambda x: tuple(_times(x, scale)),
  )


def _kernel(path: str, *names: str, first_scale: float = 1.0) -> _Entry:
  """Makes the entry of a kernel `[in, out]` or `[in, parts, out]` from `[out, in]` matrices.

  The first matrix is stored divided by `first_scale`.
  """
  keys = tuple(path.split("/"))
  scales = (first_scale, *[1.0] * (len(names) - 1))

  def join(*parts):
    scaled = [_times(x, 1 / scale) for x, scale in zip(parts, scales, strict=True)]
    return scaled[0].T if len(parts) == 1 else np.stack(scaled).transpose(2, 0, 1)

  def split(x):
    parts = [x] if len(names) == 1 else [x[:, i] for i in range(len(names))]
    return tuple(_times(part.T, scale) for part, scale in zip(parts, scales, strict=True))

  return _Entry(keys, names, join, split)
