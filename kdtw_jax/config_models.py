"""The models that a config describes: built from its sizes, or published.

Not here: reading a published folder (published/).
"""

from pathlib import Path
from typing import Any

from jax.sharding import Mesh
import ml_collections

from kdtw_jax import published
from kdtw_jax.base import Params
from kdtw_jax.data import AnyTokenizer
from kdtw_jax.devices import Layout
from kdtw_jax.models import Model, ModelConfig, Models, build
from kdtw_jax.models.config_checks import GEMMA_BLOCKS

Config = ml_collections.ConfigDict | dict

# Fields of a model made here that the config of a run does not have.
_OF_ITS_KIND: dict[str, dict[str, Any]] = {
    "bart": {"scale_embedding": True},  # sinusoids of size 1 are added to the embeddings
    "t5gemma": {**GEMMA_BLOCKS, "qk_norm": False},
}


def build_models(config: Config, tokenizer: AnyTokenizer, mesh: Mesh | None = None) -> Models:
  """Builds the student's and the teacher's functions for a vocabulary.

  Args:
    config: the run's config.
    tokenizer: gives the vocabulary.
    mesh: the devices that the models share, each as its section says; None for one device.

  Raises:
    FileNotFoundError: if a published model cannot be found.
    ValueError: if a model's config is invalid, or a published model is of an unsupported kind.
  """
  return Models(*(build_model(config, who, tokenizer, mesh) for who in ("student", "teacher")))


def build_model(
    config: Config, who: str, tokenizer: AnyTokenizer, mesh: Mesh | None = None
) -> Model:
  """Builds one of them, by the name of its section; errors as in `build_models`."""
  section = config[who]
  fields = dict(section["model"])
  if section["pretrained"]:
    found = published.open_published(locate_published(config, who))
    fields |= found.architecture
    most = found.config.get("max_position_embeddings")
    if most and fields["kind"] != "t5":
      _check_context(config, who, tokenizer, most, fields["kind"] == "causal")
  else:
    fields |= _OF_ITS_KIND.get(fields["kind"], {})
  return build(
      ModelConfig(
          **fields, **tokenizer.model_fields, price_knots=tuple(config["budgets"]["knots"])
      ),
      None if mesh is None else Layout(mesh, section["sharding"]),
  )


def _check_context(
    config: Config, who: str, tokenizer: AnyTokenizer, most: int, is_causal: bool
) -> None:
  """Raises ValueError if a text can be longer than what a model was trained for.

  A causal model reads the source and the output as one text, an encoder-decoder as two.
  """
  fields = tokenizer.model_fields
  template = len(fields.get("prompt_prefix", ())) + len(fields.get("prompt_suffix", ()))
  source, output = max(source for source, _ in config["data"]["buckets"]), "decode.max_length"
  read, written = source + config["data"]["prompt_length"], config["decode"]["max_length"]
  what = f"a source of {source} tokens, its instruction"
  if is_causal:
    needs = [(output, written, f"{what}, the template and an output", read + template + written)]
  else:
    before = len(fields.get("decoder_prefix", ()))
    needs = [
        (output, written, "an output and what comes before it", before + written),
        # The source has its EOS already, and the decoder's first input is none of it.
        ("data.buckets", source, f"{what} and the template", read + max(template - 2, 0)),
    ]
  for field, value, texts, needed in needs:
    if needed > most:
      raise ValueError(
          f"config.{field}={value}: {texts} need {needed} positions, and "
          f"config.{who}.pretrained={config[who]['pretrained']!r} has {most}: lower it, or "
          "config.data.buckets"
      )


def locate_published(config: Config, who: str) -> Path:
  """Returns the folder of the published model that a section of the config names.

  Raises:
    FileNotFoundError: if it cannot be found; names the field and the remedy.
  """
  name = config[who]["pretrained"]
  try:
    return published.locate(name)
  except FileNotFoundError as error:
    raise FileNotFoundError(f"config.{who}.pretrained={name!r}: {error}") from error


def teacher_is_published(config: Config) -> bool:
  """Returns True if the run uses a published teacher without training it."""
  teacher = config["teacher"]
  return bool(teacher["pretrained"] and not teacher["checkpoint"] and not teacher["train"]["steps"])


def published_params(config: Config, who: str, model: Model) -> Params:
  """Loads the weights, without heads, of the published model that a config section names.

  Args:
    config: the run's config.
    who: "student" or "teacher".
    model: its functions, from `build_models`; each parameter goes straight to its devices.

  Raises:
    FileNotFoundError: if the model cannot be found.
    ValueError: if the model is damaged or does not fit.
  """
  return published.load_params(
      locate_published(config, who), model.config, model.shardings(model.shapes)
  )
