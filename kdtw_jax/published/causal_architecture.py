"""Conversion between the config.json of causal language models and our `ModelConfig`.

Families: Qwen3, Llama (3, 3.1, 3.2) and Gemma 3 as text models. Of a Gemma 3 that sees (4b and
above) the text model inside is read, and written as a text model. transformers 5 writes rotary
positions as `rope_parameters`, by type of layer if there are two; older files have `rope_theta`,
`rope_scaling` and, for Gemma's layers with a window, `rope_local_base_freq`. Both are read; the
older names are written, which both versions read.
"""

from collections.abc import Collection, Mapping
from typing import Any

from kdtw_jax.base import EOS_ID, PAD_ID
from kdtw_jax.models import ModelConfig
from kdtw_jax.published.fields import READOUT, sizes

FAMILIES = {
    "qwen3": "Qwen3ForCausalLM",
    "llama": "LlamaForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
}
_SIZES = {
    "d_model": "hidden_size",
    "d_ff": "intermediate_size",
    "num_heads": "num_attention_heads",
    "num_key_heads": "num_key_value_heads",
    "d_kv": "head_dim",
    "num_decoder_layers": "num_hidden_layers",
}
_FEED_FORWARDS = {"silu": "gated-silu", "gelu_pytorch_tanh": "gated-gelu"}
_ROPE_SCALINGS = {  # and the fields of each, in our order
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}
# Fields that change the function and are not built; any of these values is as good as none.
_UNBUILT = (
    "attention_bias",
    "mlp_bias",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "use_bidirectional_attention",
)
_FULL, _SLIDING = "full_attention", "sliding_attention"
# If a file does not say which layers have a window: all but every sixth, or all from this one on.
_GEMMA_PATTERN, _QWEN_FULL_LAYERS = 6, 28
_GEMMA_LOCAL_THETA = 10_000.0
# What the files of Gemma 3 leave out if it is so: `text_config` of the 4b model has four fields.
_GEMMA3_DEFAULTS = {
    "vocab_size": 262_208,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "max_position_embeddings": 131_072,
    "rope_theta": 1e6,
}
_OF_THE_WHOLE = ("eos_token_id", "dtype", "torch_dtype")  # said beside `text_config`


def text_part(published: Mapping[str, Any]) -> dict[str, Any]:
  """Returns config.json as that of the text model inside, if the model sees; else as it is."""
  if published.get("model_type") != "gemma3":
    return dict(published)
  return {
      **_GEMMA3_DEFAULTS,
      **(published.get("text_config") or {}),
      **{name: published[name] for name in _OF_THE_WHOLE if published.get(name) is not None},
      "architectures": [FAMILIES["gemma3_text"]],
      "model_type": "gemma3_text",
  }


def architecture(
    published: Mapping[str, Any], tensors: Collection[str], *, where: str
) -> dict[str, Any]:
  """Returns the `ModelConfig` fields of a causal model; see `architecture.architecture`."""
  published = {name: value for name, value in published.items() if value is not None}
  for name in _UNBUILT:
    if published.get(name):
      raise ValueError(f"{where}/config.json: {name}={published[name]!r}: is not built")
  published.setdefault("num_key_value_heads", published.get("num_attention_heads"))
  found = sizes(published, {k: v for k, v in _SIZES.items() if k != "d_kv"}, where)
  head_size = published.get("head_dim", found["d_model"] // found["num_heads"])
  is_gemma = published["model_type"] == "gemma3_text"
  kind = published.get("hidden_activation" if is_gemma else "hidden_act")
  if kind is None:
    kind = "gelu_pytorch_tanh" if is_gemma else "silu"
  if kind not in _FEED_FORWARDS:
    raise ValueError(
        f"{where}/config.json: activation {kind!r}: must be one of {', '.join(_FEED_FORWARDS)}"
    )
  scalar = published.get("query_pre_attn_scalar", head_size) if is_gemma else None
  return {
      "kind": "causal",
      **found,
      "d_kv": head_size,
      "feed_forward": _FEED_FORWARDS[kind],
      "tie_embeddings": READOUT not in tensors,
      "qk_norm": published["model_type"] != "llama",
      "post_norms": is_gemma,
      "norm_offset": is_gemma,
      "norm_epsilon": published.get("rms_norm_eps", 1e-6),
      "scale_embedding": is_gemma,
      "query_scale": None if scalar is None else scalar**-0.5,
      "windows": _windows(published, found["num_decoder_layers"], is_gemma, where),
      **_rope(published, is_gemma, where),
  }


def _windows(
    published: Mapping[str, Any], num_layers: int, is_gemma: bool, where: str
) -> tuple[int, ...]:
  """Returns the window of each layer, or () if none has one."""
  size = published.get("sliding_window", 0)
  if not size or not published.get("use_sliding_window", is_gemma):
    return ()
  pattern = published.get("sliding_window_pattern", published.get("_sliding_window_pattern"))
  period, first = pattern or _GEMMA_PATTERN, published.get("max_window_layers", _QWEN_FULL_LAYERS)
  is_sliding = [(i + 1) % period > 0 if is_gemma else i >= first for i in range(num_layers)]
  by_rule = [_SLIDING if slides else _FULL for slides in is_sliding]
  kinds = published.get("layer_types", by_rule)
  if len(kinds) != num_layers or not {*kinds} <= {_FULL, _SLIDING}:
    raise ValueError(
        f"{where}/config.json: layer_types={kinds!r:.80}: must name {_FULL} or {_SLIDING} for each "
        f"of {num_layers} layers"
    )
  found = tuple(size if kind == _SLIDING else 0 for kind in kinds)
  return found if any(found) else ()


def _rope(published: Mapping[str, Any], is_gemma: bool, where: str) -> dict[str, Any]:
  """Returns the fields of rotary positions."""
  new = published.get("rope_parameters", {})
  whole = new.get(_FULL, new)
  scaling = {**(published.get("rope_scaling") or {}), **whole}
  theta = whole.get("rope_theta", published.get("rope_theta", 10_000.0))
  local = theta
  if is_gemma:
    local = published.get("rope_local_base_freq", _GEMMA_LOCAL_THETA)
  local = new.get(_SLIDING, {}).get("rope_theta", local)
  kind = scaling.get("rope_type", scaling.get("type", "default"))
  partial = scaling.get("partial_rotary_factor", published.get("partial_rotary_factor", 1.0))
  if partial != 1.0:
    raise ValueError(f"{where}/config.json: partial_rotary_factor={partial}: is not built")
  if kind != "default" and kind not in _ROPE_SCALINGS:
    raise ValueError(
        f"{where}/config.json: rope_type={kind!r}: must be 'default' or one of "
        f"{', '.join(_ROPE_SCALINGS)}"
    )
  numbers = (float(scaling[name]) for name in _ROPE_SCALINGS.get(kind, ()))
  return {
      "rope_theta": float(theta),
      "local_rope_theta": float(local),
      "rope_scaling": () if kind == "default" else (kind, *numbers),
  }


def config_json(config: ModelConfig) -> dict[str, Any]:
  """Makes the fields of config.json that a model made here has; see `architecture.config_json`."""
  family = "gemma3_text" if config.norm_offset else "qwen3" if config.qk_norm else "llama"
  activations = {ours: theirs for theirs, ours in _FEED_FORWARDS.items()}
  window = max(config.windows, default=0)
  kind, *numbers = config.rope_scaling or ("default",)
  scaling = dict(zip(_ROPE_SCALINGS.get(str(kind), ()), numbers, strict=True))
  written = {
      "architectures": [FAMILIES[family]],
      "model_type": family,
      **{theirs: getattr(config, name) for name, theirs in _SIZES.items()},
      "num_key_value_heads": config.key_heads,
      "hidden_act": activations[config.feed_forward],
      "rms_norm_eps": config.norm_epsilon,
      "attention_bias": False,
      "attention_dropout": 0.0,
      "rope_theta": config.rope_theta,
      "rope_scaling": {"rope_type": kind, **scaling} if scaling else None,
      "use_cache": True,
      **generation_ids(config),
      "bos_token_id": None,
  }
  if family == "gemma3_text":
    written["hidden_activation"] = written.pop("hidden_act")
    written["rope_local_base_freq"] = config.local_rope_theta
    if config.query_scale is not None:
      written["query_pre_attn_scalar"] = round(config.query_scale**-2)
  if window:
    written |= {
        "sliding_window": window,
        "use_sliding_window": True,
        "layer_types": [_SLIDING if size else _FULL for size in config.windows],
    }
  return written


def generation_ids(config: ModelConfig) -> dict[str, Any]:
  """Returns the special ids, as the published table has them."""
  theirs = dict(config.renamed_ids)
  stops = [theirs.get(row, row) for row in (EOS_ID, *config.stop_ids)]
  return {
      "eos_token_id": stops if len(stops) > 1 else stops[0],
      "pad_token_id": theirs.get(PAD_ID, PAD_ID),
  }
