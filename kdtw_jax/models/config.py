"""Sizes and switches of one model.

Not here: which values go together (`config_checks.py`), and the config of a run.

The same record describes teacher and student. A teacher has `gate="none"` and no value heads.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp

from kdtw_jax.base import EOS_ID, PAD_ID

KINDS = ("t5", "bart", "t5gemma", "causal")
GATE_KINDS = ("none", "token", "mlp", "difficulty_price")
FEED_FORWARDS = ("relu", "gelu", "gated-gelu", "gated-silu")
POSITIONS = ("learned", "pegasus", "m2m")
ROPE_SCALINGS = {"linear": 1, "llama3": 4}  # and how many numbers each has
DTYPES = ("float32", "bfloat16")
REMATS = ("none", "dots", "layers")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
  """Architecture of an encoder-decoder or a causal language model, and of a student's heads.

  Fields from `num_key_heads` to `merged_attention` are read by causal models and T5Gemma alone, but
  for `scale_embedding`. Their defaults are those of Qwen3, which is what a causal model made here
  is published as. Fields from `pre_norm` to `max_positions` are read by the BART family alone.
  Their defaults are those of Pegasus, likewise.

  Attributes:
    kind: 't5', 'bart' or 't5gemma', encoder-decoders (`t5.py`, `bart.py`, `t5gemma.py`), or
      'causal', a decoder alone (`causal_lm.py`).
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
      in all layers. In a T5Gemma's encoder, how far it sees to either side; with
      `merged_attention` how many it sees in all.
    encoder: (field, value) of each field that a T5Gemma's encoder has otherwise.
    merged_attention: True lets a T5Gemma's decoder see the source and its own inputs in one
      attention, and gives both stacks one table of embeddings (T5Gemma 2).
    pre_norm: True normalises what a block reads; False the stream after it (BART).
    embedding_norm: True normalises embeddings, their positions added (BART, mBART).
    positions: 'learned', or sinusoids with the frequencies of 'pegasus' or 'm2m'.
    max_positions: rows of a learned table; the longest sequence that sinusoids are published for.
    prompt_prefix: rows that come before every source.
    prompt_suffix: rows that come after it, in the place of its EOS, which is the first of them for
      T5 and BART; the last one is the decoder's first input.
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
  encoder: tuple[tuple[str, Any], ...] = ()
  merged_attention: bool = False
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
  def encoder_config(self) -> "ModelConfig":
    """The config of an encoder alone, whose layers are those that its fields describe."""
    return dataclasses.replace(self, encoder=(), **dict(self.encoder))

  @property
  def key_heads(self) -> int:
    """K, heads of keys and values."""
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
