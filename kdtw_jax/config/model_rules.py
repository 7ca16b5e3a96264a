"""Rules that relate the fields of a model to its kind; published models set their own."""

from collections.abc import Iterator

import ml_collections

Faults = Iterator[tuple[str, str]]


def _rotating(who: str, model: ml_collections.ConfigDict) -> Faults:
  """Checks the fields of a causal model or a T5Gemma."""
  of = f"with kind={model.kind!r}"
  if not model.feed_forward.startswith("gated-"):
    yield f"{who}.model.feed_forward", f"must be gated-silu or gated-gelu {of}"
  if model.d_kv % 2:
    yield f"{who}.model.d_kv", f"must be even {of}, which rotates pairs of entries"
  if model.num_heads % (model.num_key_heads or model.num_heads):
    yield f"{who}.model.num_key_heads", f"must divide num_heads={model.num_heads}"


def _bart(who: str, model: ml_collections.ConfigDict) -> Faults:
  """Checks the fields of a BART."""
  if model.feed_forward not in ("relu", "gelu"):
    yield f"{who}.model.feed_forward", "must be relu or gelu with kind='bart'"
  if model.d_kv * model.num_heads != model.d_model:
    share = model.d_model / model.num_heads
    yield f"{who}.model.d_kv", f"must be d_model / num_heads = {share:g} with kind='bart'"
  if model.d_model % 2 or model.d_model < 4:
    yield f"{who}.model.d_model", "must be even and >= 4 with kind='bart'"
  if not model.tie_embeddings:
    yield f"{who}.model.tie_embeddings", "must be True with kind='bart'"


def _t5(who: str, model: ml_collections.ConfigDict) -> Faults:
  """Checks the fields of a T5."""
  if model.feed_forward == "gelu":
    yield f"{who}.model.feed_forward", "must be another with kind='t5', e.g. gated-gelu"


_KINDS = {"t5": _t5, "bart": _bart, "t5gemma": _rotating, "causal": _rotating}


def model_faults(who: str, model: ml_collections.ConfigDict) -> Faults:
  """Checks that the fields of a model made here suit its kind.

  Args:
    who: its section, "student" or "teacher".
    model: its fields.

  Yields:
    (field without "config.", remedy) of each that does not.
  """
  yield from _KINDS[model.kind](who, model)


def low_rank_faults(student: ml_collections.ConfigDict) -> Faults:
  """Checks that what a change of low rank leaves frozen is worth keeping; as `model_faults`."""
  if not student.lora_rank:
    return
  if not student.pretrained:
    yield "student.lora_rank", (
        "must be 0 without config.student.pretrained: what is frozen would never be trained"
    )
  if student.model.gate == "token":
    yield "student.lora_rank", (
        "must be 0 with config.student.model.gate='token', whose row of the readout would be "
        "frozen; or choose difficulty_price"
    )


def num_parameters(model: ml_collections.ConfigDict, vocab_size: int) -> int:
  """Estimates the number of parameters of a model."""
  attention = 4 * model.d_model * model.num_heads * model.d_kv
  feed_forward = (3 if model.feed_forward.startswith("gated-") else 2) * model.d_model * model.d_ff
  if model.kind == "causal":
    return vocab_size * model.d_model + model.num_decoder_layers * (attention + feed_forward)
  encoder = model.num_encoder_layers * (attention + feed_forward)
  decoder = model.num_decoder_layers * (2 * attention + feed_forward)
  tables = 2 if model.kind == "t5gemma" else 1
  return tables * vocab_size * model.d_model + encoder + decoder
