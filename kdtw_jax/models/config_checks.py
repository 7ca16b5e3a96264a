"""Which values of a model's fields are possible, and which go together.

Not here: the fields of a run's config (`kdtw_jax.config`).
"""

import itertools

from kdtw_jax.base import EOS_ID, PAD_ID
from kdtw_jax.models.config import (
    DTYPES,
    FEED_FORWARDS,
    GATE_KINDS,
    KINDS,
    POSITIONS,
    REMATS,
    ROPE_SCALINGS,
    ModelConfig,
)

ENCODER_FIELDS = (  # that a T5Gemma's encoder may have otherwise than its decoder
    "d_model",
    "d_ff",
    "num_heads",
    "num_key_heads",
    "d_kv",
    "feed_forward",
    "norm_epsilon",
    "query_scale",
    "score_cap",
    "rope_theta",
    "rope_scaling",
    "local_rope_theta",
    "windows",
)

# What every T5Gemma has.
GEMMA_BLOCKS = dict.fromkeys(("post_norms", "norm_offset", "scale_embedding"), True)


def check(config: ModelConfig) -> None:
  """Checks every field.

  Raises:
    ValueError: if a field is invalid; names the first one, its value and the remedy.
  """
  _check_sizes(config)
  _check_choice(config, "kind", KINDS)
  _check_choice(config, "feed_forward", FEED_FORWARDS)
  _check_choice(config, "dtype", DTYPES)
  _check_choice(config, "param_dtype", DTYPES)
  _check_choice(config, "remat", REMATS)
  _check_choice(config, "gate", GATE_KINDS)
  _check_rows(config)
  if config.kind == "causal":
    _check_rotating(config, config.num_decoder_layers)
  elif config.kind == "t5gemma":
    _check_t5gemma(config)
  else:
    _check_encoder_decoder(config)
  if not 0.0 <= config.dropout_rate < 1.0:
    raise ValueError(f"model.dropout_rate={config.dropout_rate}: must be in [0, 1)")
  if not -1 <= config.tau_id < config.vocab_size:
    raise ValueError(
        f"model.tau_id={config.tau_id}: must be a row of the vocabulary, below "
        f"vocab_size={config.vocab_size}, or -1 for none"
    )
  if not 0 <= config.num_tokens <= config.vocab_size:
    raise ValueError(
        f"model.num_tokens={config.num_tokens}: must be at most vocab_size={config.vocab_size}"
    )
  if config.gate == "token" and config.tau_id < 0:
    raise ValueError(
        "model.tau_id=-1: gate='token' reads the <τ> row; name it or choose gate='mlp'"
    )
  if config.gate_top_k > config.vocab_size:
    raise ValueError(
        f"model.gate_top_k={config.gate_top_k}: must be at most vocab_size={config.vocab_size}"
    )
  if not config.price_knots or any(a >= b for a, b in itertools.pairwise(config.price_knots)):
    raise ValueError(
        f"model.price_knots={config.price_knots}: must be one or more ascending budgets"
    )
  if not config.gate_alpha > 0.0:
    raise ValueError(f"model.gate_alpha={config.gate_alpha}: must be above 0")


def _check_sizes(config: ModelConfig) -> None:
  """Raises ValueError if a size is below 1 or the position buckets cannot be laid out."""
  sizes = (
      "vocab_size",
      "d_model",
      "d_ff",
      "num_heads",
      "d_kv",
      "num_encoder_layers",
      "num_decoder_layers",
      "gate_hidden",
      "gate_top_k",
      "value_hidden",
      "max_positions",
  )
  for name in sizes:
    if getattr(config, name) < 1:
      raise ValueError(f"model.{name}={getattr(config, name)}: must be >= 1")
  buckets = config.relative_attention_num_buckets
  if buckets < 4 or buckets % 4:
    raise ValueError(
        f"model.relative_attention_num_buckets={buckets}: must be a positive multiple of 4"
    )
  distance = config.relative_attention_max_distance
  if distance <= buckets // 2:
    raise ValueError(
        f"model.relative_attention_max_distance={distance}: must be above half the "
        f"relative_attention_num_buckets={buckets}"
    )


def _check_rows(config: ModelConfig) -> None:
  """Raises ValueError if rows are named that the vocabulary does not have, or twice."""
  for name in ("stop_ids", "prompt_prefix", "prompt_suffix", "decoder_prefix"):
    for row in getattr(config, name):
      if not 0 <= row < config.vocab_size:
        raise ValueError(
            f"model.{name}: row {row} is not in the vocabulary, vocab_size={config.vocab_size}"
        )
  if not config.prompt_suffix:
    raise ValueError("model.prompt_suffix=(): must end with the decoder's first input")
  ours, published = ({pair[i] for pair in config.renamed_ids} for i in (0, 1))
  if ours != published or len(ours) < len(config.renamed_ids):
    raise ValueError(
        f"model.renamed_ids={config.renamed_ids}: must name the same rows on both sides, each once"
    )


def _check_encoder_decoder(config: ModelConfig) -> None:
  """Raises ValueError if a field that T5 and BART alone read is invalid."""
  if len(config.prompt_suffix) < 2 or config.prompt_suffix[0] != EOS_ID:
    raise ValueError(
        f"model.prompt_suffix={config.prompt_suffix}: a source of kind={config.kind!r} keeps its "
        f"EOS: must begin with {EOS_ID} and end with the decoder's first input"
    )
  if config.kind != "bart":
    if config.feed_forward == "gelu":
      raise ValueError("model.feed_forward='gelu': is built for kind='bart': choose 'gated-gelu'")
    return
  _check_choice(config, "positions", POSITIONS)
  if config.feed_forward not in ("relu", "gelu"):
    raise ValueError(
        f"model.feed_forward={config.feed_forward!r}: a model of kind='bart' is not gated: choose "
        "'relu' or 'gelu'"
    )
  if not config.tie_embeddings:
    raise ValueError("model.tie_embeddings=False: must be True with kind='bart'")
  if config.inner != config.d_model:
    raise ValueError(
        f"model.d_kv={config.d_kv}: must be d_model / num_heads = "
        f"{config.d_model / config.num_heads:g} with kind='bart'"
    )
  if config.positions != "learned" and (config.d_model % 2 or config.d_model < 4):
    raise ValueError(
        f"model.d_model={config.d_model}: must be even and >= 4 with positions={config.positions!r}"
    )
  if config.positions == "m2m" and PAD_ID in (*config.decoder_prefix, config.prompt_suffix[-1]):
    raise ValueError(
        f"model.prompt_suffix={config.prompt_suffix}: starts a decoder with padding, which "
        "positions='m2m' do not count: name another first input"
    )


def _check_t5gemma(config: ModelConfig) -> None:
  """Raises ValueError if a field of either stack is invalid, or both do not go together."""
  blocks = {
      **GEMMA_BLOCKS,
      "qk_norm": config.merged_attention,
      "qkv_bias": False,
      "out_bias": False,
      "decoder_prefix": (),
  }
  for name, value in blocks.items():
    if getattr(config, name) != value:
      raise ValueError(
          f"model.{name}={getattr(config, name)!r}: must be {value!r} with kind='t5gemma' and "
          f"merged_attention={config.merged_attention}"
      )
  for name, _ in config.encoder:
    if name not in ENCODER_FIELDS:
      raise ValueError(
          f"model.encoder: {name!r} is not a field that an encoder has of its own: must be one of "
          f"{', '.join(ENCODER_FIELDS)}"
      )
  inside = config.encoder_config
  _check_sizes(inside)
  _check_choice(inside, "feed_forward", FEED_FORWARDS)
  _check_rotating(config, config.num_decoder_layers)
  _check_rotating(inside, config.num_encoder_layers, "model.encoder.")
  if config.merged_attention:
    if not config.tie_embeddings:
      raise ValueError("model.tie_embeddings=False: must be True with merged_attention=True")
    if inside.d_model != config.d_model:
      raise ValueError(
          f"model.encoder.d_model={inside.d_model}: must be d_model={config.d_model} with "
          "merged_attention=True"
      )


def _check_rotating(config: ModelConfig, num_layers: int, who: str = "model.") -> None:
  """Raises ValueError if a field that models with rotary positions alone read is invalid.

  Args:
    config: of the stack.
    num_layers: its layers.
    who: what comes before the name of a field, for errors.
  """
  if not config.feed_forward.startswith("gated-"):
    raise ValueError(
        f"{who}feed_forward={config.feed_forward!r}: a model of kind={config.kind!r} is "
        "gated: choose 'gated-silu' or 'gated-gelu'"
    )
  if config.d_kv % 2:
    raise ValueError(f"{who}d_kv={config.d_kv}: must be even, because it is rotated")
  if config.num_key_heads < 0 or config.num_heads % config.key_heads:
    raise ValueError(
        f"{who}num_key_heads={config.num_key_heads}: must divide num_heads={config.num_heads}"
    )
  if config.windows and len(config.windows) != num_layers:
    raise ValueError(
        f"{who}windows={config.windows}: must have one number per layer, for {num_layers} layers"
    )
  if any(window < 0 for window in config.windows):
    raise ValueError(f"{who}windows={config.windows}: each must be >= 0, 0 for no window")
  scaling = config.rope_scaling
  if scaling and ROPE_SCALINGS.get(str(scaling[0])) != len(scaling) - 1:
    raise ValueError(
        f"{who}rope_scaling={scaling}: must be ('linear', factor), ('llama3', factor, low, high, "
        "length) or ()"
    )
  for name in ("norm_epsilon", "rope_theta", "local_rope_theta"):
    if not getattr(config, name) > 0.0:
      raise ValueError(f"{who}{name}={getattr(config, name)}: must be above 0")
  for name in ("score_cap", "logit_cap"):
    if not getattr(config, name) >= 0.0:
      raise ValueError(f"{who}{name}={getattr(config, name)}: must be >= 0, 0 for none")


def _check_choice(config: ModelConfig, name: str, choices: tuple[str, ...]) -> None:
  """Raises ValueError unless the field has one of the choices."""
  value = getattr(config, name)
  if value not in choices:
    raise ValueError(f"model.{name}={value!r}: must be one of {', '.join(choices)}")
