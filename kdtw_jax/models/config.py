"""Sizes and switches of one encoder-decoder. Not here: the config of a run.

The same record describes teacher and student. A teacher has `gate="none"` and no value heads.
"""

import dataclasses
import itertools

import jax.numpy as jnp

GATE_KINDS = ("none", "token", "mlp", "difficulty_price")
FEED_FORWARDS = ("relu", "gated-gelu")
DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
  """Architecture of a T5 encoder-decoder and, for a student, of its heads.

  Attributes:
    vocab_size: V, number of rows of the embedding, including `<τ>` and padding rows.
    num_tokens: first padding row of the embedding; logits from here on are masked. 0 for none.
    d_model: D, width of the residual stream.
    d_ff: F, hidden width of the feed-forward blocks.
    num_heads: N, number of attention heads.
    d_kv: H, size of one head; N * H need not be D.
    num_encoder_layers: number of encoder blocks.
    num_decoder_layers: number of decoder blocks.
    relative_attention_num_buckets: number of buckets of the relative position bias.
    relative_attention_max_distance: distance from which all positions share the last bucket.
    bias_per_layer: True gives each layer its own position bias (UMT5); False shares one per stack
      (T5).
    dropout_rate: rate at the places where T5 has dropout; needs a dropout key to take effect.
    feed_forward: 'relu' (T5) or 'gated-gelu' (T5 v1.1, tanh approximation).
    tie_embeddings: True uses the embedding as the readout matrix; False has a separate one.
    scale_readout: True divides the readout's input by sqrt(D) (T5); False does not (T5 v1.1); None
      divides if the embeddings are tied.
    dtype: compute and cache dtype, 'float32' or 'bfloat16'; softmax, norms and logits are float32.
    param_dtype: dtype of the stored parameters.
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

  vocab_size: int
  num_tokens: int = 0
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
  def scales_readout(self) -> bool:
    """True if hidden states are divided by sqrt(D) before the readout."""
    return self.tie_embeddings if self.scale_readout is None else self.scale_readout

  def validate(self) -> None:
    """Checks every field.

    Raises:
      ValueError: if a field is invalid; names the first one, its value and the remedy.
    """
    _check_sizes(self)
    _check_choice(self, "feed_forward", FEED_FORWARDS)
    _check_choice(self, "dtype", DTYPES)
    _check_choice(self, "param_dtype", DTYPES)
    _check_choice(self, "gate", GATE_KINDS)
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


def _check_choice(config: ModelConfig, name: str, choices: tuple[str, ...]) -> None:
  """Raises ValueError unless the field has one of the choices."""
  value = getattr(config, name)
  if value not in choices:
    raise ValueError(f"model.{name}={value!r}: must be one of {', '.join(choices)}")
