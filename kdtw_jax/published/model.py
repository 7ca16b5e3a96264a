"""Models in transformers' folders: reads published ones, reads and writes ours.

`AutoModelForSeq2SeqLM` or `AutoModelForCausalLM` reads our folders. They have two more files:

    kdtw.json          `ModelConfig` fields that config.json does not have
    kdtw.safetensors   the student's heads, named by their path in the params, and the duals

Letters: K knots of the dual function.
"""

from collections.abc import Callable, Mapping
import dataclasses
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from kdtw_jax import devices
from kdtw_jax.base import Params
from kdtw_jax.files import (
    damaged_file,
    read_json_object,
    replaced_folder,
    with_tuples,
    write_checksums,
)
from kdtw_jax.models import HEADS, Model, ModelConfig, build
from kdtw_jax.published.architecture import architecture, config_json, generation_json
from kdtw_jax.published.folder import DOWNLOAD, locate, read_config
from kdtw_jax.published.names import export_weights, import_weights
from kdtw_jax.published.special_ids import check_ids
from kdtw_jax.published.tensors import (
    SHARD_BYTES,
    Tensors,
    read_tensors,
    save_tensors,
    write_tensors,
)

EXTRAS_JSON, EXTRAS = "kdtw.json", "kdtw.safetensors"
_DUALS = "duals"


class Published(NamedTuple):
  """A published model before its weights are read.

  Attributes:
    folder: its folder.
    config: the content of config.json, of the text model inside if the model sees.
    architecture: the `ModelConfig` fields that config.json and the weights decide.
  """

  folder: Path
  config: dict[str, Any]
  architecture: dict[str, Any]


class Loaded(NamedTuple):
  """A model from a folder.

  Attributes:
    model: the model's functions.
    params: its parameters, heads included.
    duals: `[K]` λ at the knots in nats per ask, float32; None for a teacher.
  """

  model: Model
  params: Params
  duals: np.ndarray | None


def open_published(name: str | os.PathLike) -> Published:
  """Finds a published model and reads its config; see `locate` and `architecture` for errors."""
  folder = locate(name)
  config = read_config(folder)
  return Published(folder, config, architecture(config, Tensors(folder), where=str(folder)))


def load_params(
    name: str | os.PathLike, config: ModelConfig, shardings: Params | None = None
) -> Params:
  """Loads the parameters of a published model, one at a time.

  Args:
    name: a folder or hub id.
    config: the architecture, with the `vocab_size` and `param_dtype` to load into.
    shardings: where each parameter lies, as `models.Model.shardings` returns them; None for the
      first device.

  Returns:
    Our params without heads.

  Raises:
    FileNotFoundError: see `locate` and `weight_files`.
    ValueError: if a file is damaged, or weights or special ids do not match the config.
  """
  folder = locate(name)
  tensors = Tensors(folder)
  places: dict[tuple[str, ...], Any] = dict(traverse_util.flatten_dict(shardings or {}))

  def place(path: tuple[str, ...], array: np.ndarray) -> jax.Array:
    return devices.put(array, places.get(path))

  try:
    if config.kind != "causal":
      check_ids(read_config(folder), config)
    return import_weights(tensors, config, place_fn=place)
  except ValueError as error:
    raise ValueError(f"{name}: {error}") from error


def save_model(
    folder: Path,
    params: Params,
    config: ModelConfig,
    *,
    original: Mapping[str, Any] | None = None,
    duals: np.ndarray | None = None,
    save_tokenizer: Callable[[Path], None] | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
  """Writes a model as a transformers folder, atomically; replaces an older one.

  Args:
    folder: the folder to write.
    params: the parameters, heads included.
    config: the architecture.
    original: config.json of the published model that training started from, if any.
    duals: `[K]` λ at the knots in nats per ask, for a student.
    save_tokenizer: writes a tokenizer's files into a folder.
    shard_bytes: largest size of a weights file in bytes.

  Raises:
    OSError: if the folder cannot be written; an older one stays.
  """
  heads = traverse_util.flatten_dict({k: v for k, v in params.items() if k in HEADS}, sep="/")
  extras = {name: np.asarray(value) for name, value in heads.items()}
  if duals is not None:
    extras[_DUALS] = np.asarray(duals, np.float32)
  with replaced_folder(folder) as unfinished:
    for name, content in (
        ("config.json", config_json(config, original)),
        ("generation_config.json", generation_json(config)),
        (EXTRAS_JSON, _own_fields(config)),
    ):
      (unfinished / name).write_text(json.dumps(content, indent=1), encoding="utf-8")
    write_tensors(unfinished, export_weights(params, config), shard_bytes=shard_bytes)
    if extras:
      save_tensors(unfinished / EXTRAS, extras)
    if save_tokenizer is not None:
      save_tokenizer(unfinished)
    write_checksums(unfinished, unfinished.glob("*.safetensors*"))


def load_model(folder: Path) -> Loaded:
  """Reads a folder that `save_model` wrote.

  Args:
    folder: the folder.

  Returns:
    The model, its params on the first device, and the duals.

  Raises:
    FileNotFoundError: if a file is missing.
    ValueError: if a file is damaged, or the parts do not fit together.
  """
  damaged = damaged_file(folder)
  if damaged is not None:
    raise ValueError(
        f"{folder / damaged}: damaged, not what was saved: copy or download it again, or delete "
        "the folder and repeat the run that saved it"
    )
  published = open_published(folder)
  path = published.folder / EXTRAS_JSON
  own = read_json_object(path, remedy=DOWNLOAD)
  try:
    own = {name: with_tuples(value) for name, value in own.items()}
    config = ModelConfig(**published.architecture, **own, vocab_size=published.config["vocab_size"])
    model = build(config)
  except (KeyError, TypeError, ValueError) as error:
    raise ValueError(f"{path}: {error}: the folder has changed since it was saved") from error
  path = published.folder / EXTRAS
  extras = read_tensors(path) if path.is_file() else {}
  duals = extras.pop(_DUALS, None)
  params = {**load_params(folder, config), **_heads(model, extras, where=str(path))}
  return Loaded(model, params, duals)


def _heads(model: Model, extras: Mapping[str, np.ndarray], *, where: str) -> Params:
  """Returns the heads read from their file; raises ValueError if they are not the model's."""
  expected = traverse_util.flatten_dict(
      {k: v for k, v in model.shapes.items() if k in HEADS}, sep="/"
  )
  found, wanted = _kinds(extras), _kinds(expected)
  if found != wanted:
    wrong = sorted(found.items() ^ wanted.items())[0][0]
    raise ValueError(
        f"{where}: {wrong!r} is {found.get(wrong, 'missing')}, but {EXTRAS_JSON} asks "
        f"for {wanted.get(wrong, 'none')}: the folder has changed since it was saved"
    )
  return traverse_util.unflatten_dict({k: jnp.asarray(v) for k, v in extras.items()}, sep="/")


def _kinds(arrays: Mapping[str, Any]) -> dict[str, str]:
  """Dtype and shape of each array."""
  return {name: f"{array.dtype}{list(array.shape)}" for name, array in arrays.items()}


def _own_fields(config: ModelConfig) -> dict[str, Any]:
  """Returns the fields that config.json does not have."""
  known = architecture(config_json(config), (), where="") | {"vocab_size": config.vocab_size}
  return {k: v for k, v in dataclasses.asdict(config).items() if k not in known}
