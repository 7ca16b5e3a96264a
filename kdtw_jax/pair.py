"""A trained pair in one folder: student, teacher, tokenizer, config and duals.

What a later run, the decoder, the evaluation and the notebooks load.
"""

import dataclasses
import json
from pathlib import Path
import shutil

import jax
import ml_collections
import numpy as np

from kdtw_jax import checkpoint
from kdtw_jax.base import Params
from kdtw_jax.data import Tokenizer
from kdtw_jax.files import write_json
from kdtw_jax.models import Model, ModelConfig, build


@dataclasses.dataclass(frozen=True)
class Pair:
  """Two models that share a tokenizer.

  Attributes:
    config: of the run that trained them, as plain JSON values.
    tokenizer: of both.
    student: its pure functions.
    student_params: its parameters.
    teacher: its pure functions.
    teacher_params: its parameters.
    duals: λ at config's `budgets.knots`, nats per ask.
  """

  config: dict
  tokenizer: Tokenizer
  student: Model
  student_params: Params
  teacher: Model
  teacher_params: Params
  duals: tuple[float, ...]


def build_models(
    config: ml_collections.ConfigDict | dict, tokenizer: Tokenizer) -> tuple[Model, Model]:
  """The student's and the teacher's functions for a vocabulary.

  Raises:
    ValueError: a field of a model's config is impossible.
  """
  shared = {"vocab_size": tokenizer.vocab_size, "tau_id": tokenizer.tau_id,
            "price_knots": tuple(config["budgets"]["knots"])}
  return tuple(build(ModelConfig(**config[who]["model"], **shared))
               for who in ("student", "teacher"))


def abstract_params(model: Model) -> Params:
  """Shapes and dtypes of a model's parameters, for the first device; nothing allocated.

  Without a sharding of their own, parameters could be read on as many devices as wrote them only.
  """
  device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  return jax.tree.map(
      lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device),
      jax.eval_shape(model.init, jax.random.key(0)))


def save_pair(directory: Path, *, config: dict, tokenizer_path: Path, student_params: Params,
              teacher_params: Params, duals: np.ndarray) -> None:
  """Writes the folder: `student/`, `teacher/`, `tokenizer.model`, `pair.json`, the last one last.

  Args:
    directory: made if missing; an older pair in it is replaced.
    config: plain JSON values.
    tokenizer_path: the SentencePiece model to copy.
    student_params: the student's parameters.
    teacher_params: the teacher's parameters.
    duals: `[K]` λ at the knots.
  """
  directory = Path(directory)
  directory.mkdir(parents=True, exist_ok=True)
  checkpoint.save_params(directory / "student", student_params)
  checkpoint.save_params(directory / "teacher", teacher_params)
  shutil.copyfile(tokenizer_path, directory / "tokenizer.model")
  write_json(directory / "pair.json", {"config": config, "duals": np.asarray(duals).tolist()})


def load_pair(directory: Path) -> Pair:
  """Reads a folder that `save_pair` wrote, or the workdir that holds it as `pair/`.

  Args:
    directory: the folder.

  Returns:
    The pair.

  Raises:
    FileNotFoundError: no pair there; names the folder.
    ValueError: a part of it cannot be read.
  """
  directory = Path(directory)
  if (directory / "pair").is_dir():
    directory = directory / "pair"
  if not (directory / "pair.json").is_file():
    raise FileNotFoundError(f"{directory}: no trained pair (pair.json is missing): give the "
                            "workdir of a finished run, or train one: python -m kdtw_jax.main")
  saved = json.loads((directory / "pair.json").read_text(encoding="utf-8"))
  tokenizer = Tokenizer.load(str(directory / "tokenizer.model"))
  student, teacher = build_models(saved["config"], tokenizer)
  return Pair(
      config=saved["config"], tokenizer=tokenizer, student=student,
      student_params=checkpoint.load_params(directory / "student", abstract_params(student)),
      teacher=teacher,
      teacher_params=checkpoint.load_params(directory / "teacher", abstract_params(teacher)),
      duals=tuple(saved["duals"]))
