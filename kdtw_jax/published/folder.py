"""Locating a published model: a local folder in transformers' layout, or a model on the hub.

Weights are read only from safetensors; nothing is unpickled. Not here: the hub itself
(`hub.py`), the weights (`tensors.py`) and the meaning of config.json (`architecture.py`).
"""

from collections.abc import Mapping
import functools
import os
from pathlib import Path
from typing import Any

from kdtw_jax.files import read_json_object
from kdtw_jax.published import causal_architecture, hub, t5gemma_architecture

DOWNLOAD = "download the model again"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PATTERNS = (
    "*.json",
    "chat_template.jinja",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    WEIGHTS,
    "model-*.safetensors",
    "kdtw.safetensors",
)


@functools.cache  # one run reads one revision of a model, asked for once
def locate(name: str | os.PathLike) -> Path:
  """Returns the folder of a published model; a model on the hub is downloaded once and cached.

  Args:
    name: a local folder, or a hub id such as "google/flan-t5-small", followed by "@" and a revision
      unless it is the newest.

  Returns:
    A folder that holds config.json.

  Raises:
    FileNotFoundError: if there is neither such a folder nor such a model, or the hub cannot be
      reached; says what was looked for, and how to use a local copy.
  """
  folder = Path(os.path.expanduser(name))
  if not folder.is_dir():
    if not hub.is_id(str(name)):
      raise FileNotFoundError(
          f"{name}: no such folder, and not the id of a hub model (owner/name): give the folder "
          "that holds config.json and model.safetensors"
      )
    folder = hub.download(str(name), PATTERNS)
  if not (folder / "config.json").is_file():
    raise FileNotFoundError(
        f"{folder}: holds no config.json, only {sorted(os.listdir(folder))[:20]}: give a folder in "
        "transformers' layout, as save_pretrained writes it"
    )
  return folder


def pinned(name: str) -> str:
  """Returns a name that means the same model later, from any folder of this machine.

  `pinned("google/flan-t5-small")` is that id with "@" and the downloaded commit. A local folder
  becomes its absolute path.
  """
  folder = locate(name)
  is_local = Path(os.path.expanduser(name)).is_dir()
  return str(folder.absolute()) if is_local else f"{name.partition('@')[0]}@{folder.name}"


def read_config(folder: Path) -> dict[str, Any]:
  """Reads config.json, of the text model inside; raises ValueError if it is no JSON object."""
  found = read_json_object(Path(folder) / "config.json", remedy=DOWNLOAD)
  return t5gemma_architecture.with_common_fields(causal_architecture.text_part(found))


def weight_files(folder: Path) -> dict[str, Path] | Path:
  """Finds the files that hold the weights.

  Args:
    folder: a folder from `locate`.

  Returns:
    The single file, or for a sharded model the file of each tensor.

  Raises:
    FileNotFoundError: if there are no safetensors, or a shard is missing; says what to do.
    ValueError: if the index cannot be read or names a file outside the folder.
  """
  folder = Path(folder)
  if (folder / WEIGHTS).is_file():
    return folder / WEIGHTS
  if not (folder / INDEX).is_file():
    raise FileNotFoundError(_without_safetensors(folder))
  shards = read_json_object(folder / INDEX, remedy=DOWNLOAD).get("weight_map")
  if not isinstance(shards, Mapping) or not shards:
    raise ValueError(f"{folder / INDEX}: no weight_map in it: download the model again")
  for file in sorted(set(map(str, shards.values()))):
    if Path(file).name != file:
      raise ValueError(f"{folder / INDEX}: names {file!r}, which is not a file beside it: refused")
    if not (folder / file).is_file():
      raise FileNotFoundError(
          f"{folder / file}: missing, though {INDEX} names it: the download is "
          "not complete; run it again"
      )
  return {name: folder / str(file) for name, file in shards.items()}


def _without_safetensors(folder: Path) -> str:
  pickled = sorted(
      f.name
      for f in folder.iterdir()
      if f.suffix in (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack")
  )
  found = f"only {', '.join(pickled)}" if pickled else "and no other weights"
  is_causal = read_config(folder).get("model_type") in causal_architecture.FAMILIES
  auto = "AutoModelForCausalLM" if is_causal else "AutoModelForSeq2SeqLM"
  return (
      f"{folder}: no {WEIGHTS} and no {INDEX}, {found}. Weights are read from safetensors alone: "
      "pickle runs whatever code a file holds. Convert a model that you trust with torch and "
      'transformers:\n  python -c "from transformers import '
      f"{auto} as M, AutoTokenizer as T; n = '{_name(folder)}'; "
      "M.from_pretrained(n).save_pretrained('DIR'); "
      "T.from_pretrained(n).save_pretrained('DIR')\"\nand give DIR"
  )


def _name(folder: Path) -> str:
  """Returns the folder, or the hub id of a cached `models--OWNER--NAME/snapshots/COMMIT`."""
  in_cache = folder.parent.parent.name
  is_cached = in_cache.startswith("models--") and folder.parent.name == "snapshots"
  return in_cache.removeprefix("models--").replace("--", "/") if is_cached else str(folder)
