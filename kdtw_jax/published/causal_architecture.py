"""Conversion between the config.json of causal language models and our `ModelConfig`.

Families: Qwen2 (and 2.5), Qwen3, Llama (3, 3.1, 3.2), Gemma 2 and Gemma 3. Of a Gemma 3 that sees
(4b and above) the text model inside is read, and written as one. transformers 5 writes rotary
positions as `rope_parameters`, by type of layer if there are two; older files have `rope_theta`,
`rope_scaling` and, for Gemma's layers with a window, `rope_local_base_freq`. Both are read; the
older names are written, which both versions read. Either stack of a T5Gemma says the same fields
(`t5gemma_architecture.py`), so its parts are read here, too.
"""

from collections.abc import Collection, Mapping
from typing import Any

from kdtw_jax.models import ModelConfig
from kdtw_jax.published.fields import READOUT, sizes
from kdtw_jax.published.special_ids import generation_ids

FAMILIES = {
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "llama": "LlamaForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
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
_UNBUILT = ("mlp_bias", "use_bidirectional_attention")
_CAPS = {"score_cap": "attn_logit_softcapping", "logit_cap": "final_logit_softcapping"}  # Gemma's
_FULL, _SLIDING = "full_attention", "sliding_attention"
# If a file does not say which layers have a window: all but every so many, or all from this one on.
_PERIODS = {
    "gemma2": 2,
    "gemma3_text": 6,
    "t5_gemma_module": 2,
    "t5gemma2_text": 6,
    "t5gemma2_decoder": 6,
}
_FIRST_SLIDING = 28
_GEMMA3 = ("gemma3_text", "t5gemma2_text", "t5gemma2_decoder")  # blocks as in Gemma 3
# What a family's file means where it leaves out a field: `text_config` of Gemma 3 4b has four.
_GEMMA = {
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "use_sliding_window": True,
}
_GEMMA2_CAPS = {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}
_GEMMA3_SIZES = {
    **_GEMMA,
    "vocab_size": 262_208,
    "max_position_embeddings": 131_072,
    "rope_theta": 1e6,
    "rope_local_base_freq": 1e4,
}
_T5GEMMA_SIZES = {"hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "gemma2": {**_GEMMA, **_GEMMA2_CAPS},
    "gemma3_text": _GEMMA3_SIZES,
    "t5_gemma_module": {**_GEMMA, **_GEMMA2_CAPS, **_T5GEMMA_SIZES, "vocab_size": 256_000},
    "t5gemma2_text": {**_GEMMA3_SIZES, **_T5GEMMA_SIZES},
    "t5gemma2_decoder": {**_GEMMA3_SIZES, **_T5GEMMA_SIZES},
}
_OF_THE_WHOLE = ("eos_token_id", "dtype", "torch_dtype")  # said beside `text_config`
_READ_ELSEWHERE = ("vocab_size", "max_position_embeddings")  # so their defaults must be filled in


def text_part(published: Mapping[str, Any]) -> dict[str, Any]:
  """Returns config.json as that of the text model inside, if the model sees; else as it is."""
  if published.get("model_type") != "gemma3":
    return dict(published)
  return {
      **{name: _DEFAULTS["gemma3_text"][name] for name in _READ_ELSEWHERE},
      **(published.get("text_config") or {}),
      **{name: published[name] for name in _OF_THE_WHOLE if published.get(name) is not None},
      "architectures": [FAMILIES["gemma3_text"]],
      "model_type": "gemma3_text",
  }


def architecture(
    published: Mapping[str, Any], tensors: Collection[str], *, where: str
) -> dict[str, Any]:
  """Returns the `ModelConfig` fields of a causal model; see `architecture.architecture`."""
  family = published["model_type"]
  stated = {**_DEFAULTS.get(family, {}), **published}  # null is no default
  published = {name: value for name, value in stated.items() if value is not None}
  is_gemma = family in _PERIODS
  for name in _UNBUILT if is_gemma else (*_UNBUILT, *_CAPS.values()):
    if published.get(name):
      raise _unbuilt(published, name, where)
  published.setdefault("num_key_value_heads", published.get("num_attention_heads"))
  found = sizes(published, {k: v for k, v in _SIZES.items() if k != "d_kv"}, where)
  head_size = published.get("head_dim", found["d_model"] // found["num_heads"])
  kind = published.get("hidden_activation" if is_gemma else "hidden_act", "silu")
  if kind not in _FEED_FORWARDS:
    raise ValueError(
        f"{where}/config.json: activation {kind!r}: must be one of {', '.join(_FEED_FORWARDS)}"
    )
  has_bias = bool(published.get("attention_bias")) and family != "qwen2"
  windows = _windows(published, found["num_decoder_layers"], where)
  return {
      "kind": "causal",
      **found,
      "d_kv": head_size,
      "feed_forward": _FEED_FORWARDS[kind],
      "tie_embeddings": READOUT not in tensors,
      "qk_norm": family in ("qwen3", *_GEMMA3),
      "qkv_bias": has_bias or family == "qwen2",
      "out_bias": has_bias,
      "post_norms": is_gemma,
      "norm_offset": is_gemma,
      "norm_epsilon": published.get("rms_norm_eps", 1e-6),
      "scale_embedding": is_gemma,
      "query_scale": published["query_pre_attn_scalar"] ** -0.5 if is_gemma else None,
      **{ours: float(published.get(theirs, 0.0)) for ours, theirs in _CAPS.items()},
      "windows": windows,
      **_rope(published, bool(windows), where),
  }


def _unbuilt(
    published: Mapping[str, Any], name: str, where: str, condition: str = ""
) -> ValueError:
  """Makes the error of a field that changes the function in a way that is not built."""
  return ValueError(
      f"{where}/config.json: {name}={published[name]!r}{condition}: is not built for "
      f"model_type={published['model_type']!r}: choose a model without it"
  )


def _windows(published: Mapping[str, Any], num_layers: int, where: str) -> tuple[int, ...]:
  """Returns the window of each layer, or () if none has one."""
  size = published.get("sliding_window", 0)
  if not size or not published.get("use_sliding_window", False):
    return ()
  period = _PERIODS.get(published["model_type"], 0)
  if period:
    pattern = published.get("sliding_window_pattern", published.get("_sliding_window_pattern"))
    period = pattern or period
  first = published.get("max_window_layers", _FIRST_SLIDING)
  is_sliding = [(i + 1) % period > 0 if period else i >= first for i in range(num_layers)]
  by_rule = [_SLIDING if slides else _FULL for slides in is_sliding]
  kinds = published.get("layer_types", by_rule)
  if len(kinds) != num_layers or not {*kinds} <= {_FULL, _SLIDING}:
    raise ValueError(
        f"{where}/config.json: layer_types={kinds!r:.80}: must name {_FULL} or {_SLIDING} for each "
        f"of {num_layers} layers"
    )
  found = tuple(size if kind == _SLIDING else 0 for kind in kinds)
  return found if any(found) else ()


def _rope(published: dict[str, Any], has_windows: bool, where: str) -> dict[str, Any]:
  """Returns the fields of rotary positions."""
  new = published.get("rope_parameters", {})
  whole, inside = new.get(_FULL, new), new.get(_SLIDING, {})
  scaling = {**published.get("rope_scaling", {}), **whole}
  theta = whole.get("rope_theta", published.get("rope_theta", 10_000.0))
  local = inside.get("rope_theta", published.get("rope_local_base_freq", theta))
  kind = scaling.get("rope_type", scaling.get("type", "default"))
  partial = scaling.get("partial_rotary_factor", published.get("partial_rotary_factor", 1.0))
  if partial != 1.0:
    changed = published | {"partial_rotary_factor": partial}
    raise _unbuilt(changed, "partial_rotary_factor", where)
  if kind != "default" and kind not in _ROPE_SCALINGS:
    raise ValueError(
        f"{where}/config.json: rope_type={kind!r}: must be 'default' or one of "
        f"{', '.join(_ROPE_SCALINGS)}"
    )
  # Gemma 3 scales no positions in layers with a window, and all others scale all layers alike.
  is_gemma3 = published["model_type"] in _GEMMA3
  scaled_inside = inside.get("rope_type", "default") if is_gemma3 else kind
  if has_windows and scaled_inside != "default":
    raise _unbuilt(published | {"rope_type": scaled_inside}, "rope_type", where, " with windows")
  numbers = (float(scaling[name]) for name in _ROPE_SCALINGS.get(kind, ()))
  return {
      "rope_theta": float(theta),
      "local_rope_theta": float(local),
      "rope_scaling": () if kind == "default" else (kind, *numbers),
  }


def _family_of(config: ModelConfig) -> str:
  """Returns the family whose blocks a model has."""
  if config.norm_offset:
    return "gemma3_text" if config.qk_norm else "gemma2"
  if config.qk_norm:
    return "qwen3"
  return "qwen2" if config.qkv_bias and not config.out_bias else "llama"


def config_json(config: ModelConfig) -> dict[str, Any]:
  """Makes the fields of config.json that a model made here has; see `architecture.config_json`."""
  family = _family_of(config)
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
      "attention_bias": config.out_bias,
      "attention_dropout": 0.0,
      "rope_theta": config.rope_theta,
      "rope_scaling": {"rope_type": kind, **scaling} if scaling else None,
      "use_cache": True,
      **generation_ids(config),
      "bos_token_id": None,
  }
  if family in _PERIODS:
    written["hidden_activation"] = written.pop("hidden_act")
    scalar = config.d_kv if config.query_scale is None else round(config.query_scale**-2)
    written["query_pre_attn_scalar"] = scalar
    written |= {theirs: getattr(config, ours) or None for ours, theirs in _CAPS.items()}
  if family == "gemma3_text":
    written["rope_local_base_freq"] = config.local_rope_theta
  if window:
    written |= {"sliding_window": window, "use_sliding_window": True}
  if window or family in _PERIODS:
    windows = config.windows or (0,) * config.num_decoder_layers
    written["layer_types"] = [_SLIDING if size else _FULL for size in windows]
  return written
