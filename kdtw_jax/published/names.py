"""Conversion between the weights of transformers' models and this package's params.

Arrays in, arrays out: no files, no downloads. It covers the models; the student's heads have no
published counterpart. What is where is said per kind of model (`t5_names.py`,
`bart_names.py`, `t5gemma_names.py`, `causal_names.py`).
Letters: D width, V vocabulary.

Example:
  weights = {name: tensor.numpy() for name, tensor in torch_model.state_dict().items()}
  params = {**model.init(key), **import_weights(weights, config)}
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import functools
import operator
from typing import Any

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from kdtw_jax.base import ArrayLike, Params
from kdtw_jax.models import HEADS, ModelConfig, build
from kdtw_jax.published import bart_names, causal_names, t5_names, t5gemma_names
from kdtw_jax.published.entries import Entry

_KINDS: dict[str, Any] = {
    "t5": t5_names,
    "bart": bart_names,
    "t5gemma": t5gemma_names,
    "causal": causal_names,
}
# Parameters with a row for each token.
TABLES = ("shared/embedding", "source_tokens/embedding", "readout_kernel")


def import_weights(
    weights: Mapping[str, ArrayLike],
    config: ModelConfig,
    *,
    place_fn: Callable[[tuple[str, ...], np.ndarray], Any] = lambda path, array: jnp.asarray(array),
) -> Params:
  """Converts published weights to our params, without the student's heads.

  Besides the results of `place_fn`, memory holds the published arrays of one parameter at a time.

  Args:
    weights: state dict of a published model as arrays; names that it ties to the embedding
      are not read. If `config.num_tokens` is set, a table with more or fewer rows
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
  if config.kind == "bart":
    bart_names.check_constants(weights)
  return traverse_util.unflatten_dict(
      {
          # A transfer holds its host array until it is done.
          entry.path: jax.block_until_ready(
              place_fn(entry.path, _read(entry, weights, config, shapes))
          )
          for entry in _entries(config)
      }
  )


def export_weights(params: Params, config: ModelConfig) -> Iterator[tuple[str, np.ndarray]]:
  """Converts our params to published weights, without heads: the exact inverse of `import_weights`.

  Args:
    params: parameters of a model of this config.
    config: the architecture.

  Yields:
    (published name, array in the params' dtype), without aliases of a tied embedding. The
    arrays are made one parameter at a time.
  """
  flat = traverse_util.flatten_dict({k: v for k, v in params.items() if k not in HEADS})
  for entry in _entries(config):
    array = np.asarray(flat[entry.path])
    if "/".join(entry.path) in TABLES:
      array = _renamed(array, [(theirs, ours) for ours, theirs in config.renamed_ids])
    yield from zip(entry.names, entry.split(array), strict=True)
  if config.kind in ("bart", "t5gemma"):
    yield from _KINDS[config.kind].constants(config)


def _entries(config: ModelConfig) -> list[Entry]:
  """Lists all parameters of the model."""
  return _KINDS[config.kind].entries(config)


def _read(
    entry: Entry, weights: Mapping[str, ArrayLike], config: ModelConfig, shapes: Params
) -> np.ndarray:
  """Reads one of our parameters in `param_dtype`; see `import_weights` for errors."""
  if config.kind == "bart":
    entry = entry._replace(names=tuple(_found(name, weights) for name in entry.names))
  missing = [name for name in entry.names if name not in weights]
  if missing:
    raise ValueError(
        f"weights: {missing[0]!r} is missing; check model.feed_forward={config.feed_forward!r}, "
        f"model.tie_embeddings={config.tie_embeddings} and the numbers of layers"
    )
  array = entry.join(*_published(entry, weights))
  if "/".join(entry.path) in TABLES:
    array = _fit_rows(array, config) if config.num_tokens else array
    array = _renamed(array, config.renamed_ids)
  shape = functools.reduce(operator.getitem, entry.path, shapes).shape
  if array.shape != shape:
    raise ValueError(
        f"weights for {'/'.join(entry.path)}: shape {array.shape}, but the model config says "
        f"{shape}; set the sizes of the published model"
    )
  # Keeps the memory order of the file: the transfer to a device transposes faster than numpy.
  return array.astype(jnp.dtype(config.param_dtype), order="K", copy=False)


def _found(name: str, weights: Mapping[str, ArrayLike]) -> str:
  """Returns the name in a file of a whole model, or of one saved without its readout, if tied."""
  bare = name.removeprefix("model.")
  return bare if name not in weights and bare in weights else name


def _published(entry: Entry, weights: Mapping[str, ArrayLike]) -> list[np.ndarray]:
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
  num_tokens = config.num_tokens - config.has_pad_row
  if len(table) < num_tokens:
    raise ValueError(
        f"weights: a table of {len(table)} rows for {num_tokens} tokens: the "
        "tokenizer is not this model's; give the one published with it"
    )
  grown = config.vocab_size - len(table)
  return np.pad(table, ((0, grown), (0, 0))) if grown > 0 else table[: config.vocab_size]


def _renamed(table: np.ndarray, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
  """Returns the table with row `old` at `new` for each (new, old)."""
  if not pairs:
    return table
  new, old = map(list, zip(*pairs, strict=True))
  table = table.copy()
  table[new] = table[old]
  return table
