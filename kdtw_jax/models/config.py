"""Sizes and switches of one model. Not here: the config of a run.

The same record describes teacher and student. A teacher has `gate="none"` and no value heads.
"""

import dataclasses
import itertools

import jax.numpy as jnp

from kdtw_jax.base import EOS_ID, PAD_ID

KINDS = ("t5", "bart", "causal")
GATE_KINDS = ("none", "token", "mlp", "difficulty_price")
FEED_FORWARDS = ("relu", "gelu", "gated-gelu", "gated-silu")
POSITIONS = ("learned", "pegasus", "m2m")
ROPE_SCALINGS = {"linear": 1, "llama3": 4}  # and how many numbers each has
DTYPES = ("float32", "bfloat16")
REMATS = ("none", "dots", "layers")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
  """Architecture of an encoder-decoder or a causal language model, and of a student's heads.

  Fields from `num_key_heads` to `windows` are read by causal models alone, but for
  `scale_embedding`. Their defaults are those of Qwen3, which is what a causal model made here is
  published as. Fields from `pre_norm` to `max_positions` are read by the BART family alone. Their
  defaults are those of Pegasus, likewise.

  Attributes:
    kind: 't5' or 'bart', encoder-decoders (`t5.py`, `bart.py`), or 'causal', a decoder alone
      (`causal_lm.py`).
    vocab_size: V, number of rows of the embedding, including `<τ>` and padding rows.
    num_tokens: first padding row of the embedding; logits from here on are masked. 0 for none.
    renamed_ids: (ours, published) of each row whose id differs from the published one.
    stop_ids: rows that end an output as EOS does; their probability counts as that of EOS.
    d_model: D, width of the residual stream.
    d_ff: F, hidden width of the feed-forward blocks.
    num_heads: N, number of attention heads.
    d_kv: H, size of one head; N * H need not be D.
    num_encoder_layers: number of encoder blocks; a causal model has none.
    num_decoder_layers: number of decoder blocks.
    relative_attention_num_buckets: number of buckets of the relative position bias.
    relative_attention_max_distance: distance from which all positions share the last bucket.
    bias_per_layer: True gives each layer its own position bias (UMT5); False shares one per stack
      (T5).
    dropout_rate: rate at the places where T5 has dropout; needs a dropout key to take effect.
    feed_forward: 'relu' (T5, Pegasus), 'gelu' (BART), 'gated-gelu' (T5 v1.1, Gemma; tanh
      approximation) or 'gated-silu'.
    tie_embeddings: True uses the embedding as the readout matrix; False has a separate one.
    scale_readout: True divides the readout's input by sqrt(D) (T5); False does not (T5 v1.1); None
      divides if the embeddings are tied.
    dtype: compute and cache dtype, 'float32' or 'bfloat16'; softmax, norms and logits are float32.
    param_dtype: dtype of the stored parameters.
    remat: what of a layer the backward pass computes again instead of keeping it: 'none', 'dots',
      all but the matrix products with its parameters, or 'layers', everything.
    num_key_heads: K, heads of keys and values, each read by N / K queries; 0 for as many as N.
    qk_norm: True normalises each head's queries and keys.
    post_norms: True normalises what attention and feed-forward add to the residual stream (Gemma).
    norm_offset: True multiplies by 1 + w in norms, not w (Gemma).
    norm_epsilon: added to the mean square in norms.
    scale_embedding: True multiplies embeddings by sqrt(D) (Gemma, M2M-100, Pegasus).
    query_scale: factor of the scores; None for 1 / sqrt(H).
    qkv_bias: True adds a bias to queries, keys and values (Qwen2).
    out_bias: True adds one to what attention gives, too (Llama's attention_bias).
    score_cap: c of the soft cap c · tanh(s / c) of each score s; 0 for none (Gemma 2).
    logit_cap: the same of each logit, that of `<τ>` included.
    rope_theta: base of the rotary wavelengths.
    rope_scaling: ('linear', factor) or ('llama3', factor, low frequency factor, high frequency
      factor, original length); () for none.
    local_rope_theta: the base in layers with a window, which are never scaled.
    windows: for each layer, how many tokens a token sees, itself included; 0 for all. () for all
      in all layers.
    pre_norm: True normalises what a block reads; False the stream after it (BART).
    embedding_norm: True normalises embeddings, their positions added (BART, mBART).
    positions: 'learned', or sinusoids with the frequencies of 'pegasus' or 'm2m'.
    max_positions: rows of a learned table; the longest sequence that sinusoids are published for.
    prompt_prefix: rows that come before every source.
    prompt_suffix: rows that come after it, in the place of its EOS, which is the first of them for
      an encoder-decoder; the last one is the decoder's first input.
    decoder_prefix: rows that an encoder-decoder's decoder reads before that one.
    tau_id: row of `<τ>`, whose logit is masked; -1 if the vocabulary has no such row.
    gate: 'none', 'token', 'mlp' or 'difficulty_price'; see `kdtw_jax.models.heads`.
    gate_hidden: hidden width of the gate's and the price's MLP.
    price_knots: budgets that have a dual, ascending.
    gate_top_k: number of largest log-probs that the gate sees.
    gate_alpha: α_g; divides difficulty minus price. The losses use it for every kind of gate.
    gate_bias_init: approximate gate logit before training.
    value_heads: True adds V and V_C.
    value_hidden: hidden width of the MLPs of V and V_C.
    detach_value_features: True stops the gradient from V and V_C into the decoder.
    detach_gate_features: True stops the gradient from the gate into the encoder-decoder.
  """

  kind: str = "t5"
  vocab_size: int
  num_tokens: int = 0
  renamed_ids: tuple[tuple[int, int], ...] = ()
  stop_ids: tuple[int, ...] = ()
  d_model: int = 256
  d_ff: int = 1024
  num_heads: int = 4
  d_kv: int = 64
  num_encoder_layers: int = 3
  num_decoder_layers: int = 3
  relative_attention_num_buckets: int = 32
  relative_attention_max_distance: int = 128
  bias_per_layer: bool = False
  dropout_rate: float = 0.1
  feed_forward: str = "relu"
  tie_embeddings: bool = True
  scale_readout: bool | None = None
  dtype: str = "float32"
  param_dtype: str = "float32"
  remat: str = "none"
  num_key_heads: int = 0
  qk_norm: bool = True
  post_norms: bool = False
  norm_offset: bool = False
  norm_epsilon: float = 1e-6
  scale_embedding: bool = False
  query_scale: float | None = None
  qkv_bias: bool = False
  out_bias: bool = False
  score_cap: float = 0.0
  logit_cap: float = 0.0
  rope_theta: float = 10_000.0
  rope_scaling: tuple[str | float, ...] = ()
  local_rope_theta: float = 10_000.0
  windows: tuple[int, ...] = ()
  pre_norm: bool = True
  embedding_norm: bool = False
  positions: str = "pegasus"
  max_positions: int = 1024
  prompt_prefix: tuple[int, ...] = ()
  prompt_suffix: tuple[int, ...] = (EOS_ID, PAD_ID)
  decoder_prefix: tuple[int, ...] = ()
  tau_id: int = -1
  gate: str = "none"
  gate_hidden: int = 64
  price_knots: tuple[float, ...] = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)
  gate_top_k: int = 5
  gate_alpha: float = 1.0
  gate_bias_init: float = -2.0
  value_heads: bool = False
  value_hidden: int = 64
  detach_value_features: bool = True
  detach_gate_features: bool = False

  @property
  def compute_dtype(self) -> jnp.dtype:
    """The dtype of activations and caches."""
    return jnp.dtype(self.dtype)

  @property
  def inner(self) -> int:
    """N * H, width of all heads together."""
    return self.num_heads * self.d_kv

  @property
  def has_biases(self) -> bool:
    """True if every product of an encoder-decoder has a bias."""
    return self.kind == "bart"

  @property
  def key_heads(self) -> int:
    """K, heads of keys and values of a causal model."""
    return self.num_key_heads or self.num_heads

  @property
  def has_pad_row(self) -> bool:
    """True if the row of PAD_ID is no token of the published table, so that its logit is masked.

    The tables of encoder-decoders have a row for padding.
    """
    return self.kind == "causal" and any(ours == PAD_ID for ours, _ in self.renamed_ids)

  @property
  def scales_readout(self) -> bool:
    """True if hidden states are divided by sqrt(D) before the readout."""
    return self.tie_embeddings if self.scale_readout is None else self.scale_readout

  def validate(self) -> None:
    """Checks every field.

    Raises:
      ValueError: if a field is invalid; names the first one, its value and the remedy.
    """
    _check_sizes(self)
    _check_choice(self, "kind", KINDS)
    _check_choice(self, "feed_forward", FEED_FORWARDS)
    _check_choice(self, "dtype", DTYPES)
    _check_choice(self, "param_dtype", DTYPES)
    _check_choice(self, "remat", REMATS)
    _check_choice(self, "gate", GATE_KINDS)
    _check_rows(self)
    if self.kind == "causal":
      _check_causal(self)
    else:
      _check_encoder_decoder(self)
    if not 0.0 <= self.dropout_rate < 1.0:
      raise ValueError(f"model.dropout_rate={self.dropout_rate}: must be in [0, 1)")
    if not -1 <= self.tau_id < self.vocab_size:
      raise ValueError(
          f"model.tau_id={self.tau_id}: must be a row of the vocabulary, below "
          f"vocab_size={self.vocab_size}, or -1 for none"
      )
    if not 0 <= self.num_tokens <= self.vocab_size:
      raise ValueError(
          f"model.num_tokens={self.num_tokens}: must be at most vocab_size={self.vocab_size}"
      )
    if self.gate == "token" and self.tau_id < 0:
      raise ValueError(
          "model.tau_id=-1: gate='token' reads the <τ> row; name it or choose gate='mlp'"
      )
    if self.gate_top_k > self.vocab_size:
      raise ValueError(
          f"model.gate_top_k={self.gate_top_k}: must be at most vocab_size={self.vocab_size}"
      )
    if not self.price_knots or any(a >= b for a, b in itertools.pairwise(self.price_knots)):
      raise ValueError(
          f"model.price_knots={self.price_knots}: must be one or more ascending budgets"
      )
    if not self.gate_alpha > 0.0:
      raise ValueError(f"model.gate_alpha={self.gate_alpha}: must be above 0")


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
  """Raises ValueError if a field that encoder-decoders alone read is invalid."""
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


def _check_causal(config: ModelConfig) -> None:
  """Raises ValueError if a field that causal models alone read is invalid."""
  if not config.feed_forward.startswith("gated-"):
    raise ValueError(
        f"model.feed_forward={config.feed_forward!r}: a model of kind='causal' is gated: choose "
        "'gated-silu' or 'gated-gelu'"
    )
  if config.d_kv % 2:
    raise ValueError(f"model.d_kv={config.d_kv}: must be even with kind='causal', which rotates it")
  if config.num_key_heads < 0 or config.num_heads % config.key_heads:
    raise ValueError(
        f"model.num_key_heads={config.num_key_heads}: must divide num_heads={config.num_heads}"
    )
  if config.windows and len(config.windows) != config.num_decoder_layers:
    raise ValueError(
        f"model.windows={config.windows}: must have one number per layer, "
        f"num_decoder_layers={config.num_decoder_layers}"
    )
  if any(window < 0 for window in config.windows):
    raise ValueError(f"model.windows={config.windows}: each must be >= 0, 0 for no window")
  scaling = config.rope_scaling
  if scaling and ROPE_SCALINGS.get(str(scaling[0])) != len(scaling) - 1:
    raise ValueError(
        f"model.rope_scaling={scaling}: must be ('linear', factor), ('llama3', factor, low, high, "
        "length) or ()"
    )
  for name in ("norm_epsilon", "rope_theta", "local_rope_theta"):
    if not getattr(config, name) > 0.0:
      raise ValueError(f"model.{name}={getattr(config, name)}: must be above 0")
  for name in ("score_cap", "logit_cap"):
    if not getattr(config, name) >= 0.0:
      raise ValueError(f"model.{name}={getattr(config, name)}: must be >= 0, 0 for none")


def _check_choice(config: ModelConfig, name: str, choices: tuple[str, ...]) -> None:
  """Raises ValueError unless the field has one of the choices."""
  value = getattr(config, name)
  if value not in choices:
    raise ValueError(f"model.{name}={value!r}: must be one of {', '.join(choices)}")
