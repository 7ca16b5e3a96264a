"""Sizes and switches of one encoder-decoder. Not the experiment's config: only what shapes a model.

The same record describes teacher and student; a teacher has `gate="none"` and no value heads.
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
    vocab_size: V, number of rows of the embedding, `<τ>` and padding included.
    num_tokens: rows from here on are padding of the table, their logits masked; 0 for none.
    d_model: D, width of the residual stream.
    d_ff: F, hidden width of the feed-forward blocks.
    num_heads: N.
    d_kv: H, size of one head; N * H need not be D.
    num_encoder_layers: blocks of the encoder.
    num_decoder_layers: blocks of the decoder.
    relative_attention_num_buckets: buckets of the relative position bias.
    relative_attention_max_distance: distance from which all positions share the last bucket.
    bias_per_layer: True gives each layer a position bias of its own (UMT5), False each stack (T5).
    dropout_rate: at T5's places; acts only where a dropout key is given.
    feed_forward: 'relu' (T5) or 'gated-gelu' (T5 v1.1, tanh approximation).
    tie_embeddings: True reads the logits out with the embedding, False with a matrix of its own.
    scale_readout: True divides the readout's input by sqrt(D) (T5), False does not (T5 v1.1); None
      does where the embeddings are tied.
    dtype: compute and cache dtype, 'float32' or 'bfloat16'; softmax, norms and logits are float32.
    param_dtype: dtype of the stored parameters.
    tau_id: row of `<τ>`, whose logit is masked; -1 when the vocabulary has no such row.
    gate: 'none', 'token', 'mlp' or 'difficulty_price'; see `kdtw_jax.models.heads`.
    gate_hidden: hidden width of the gate's and the price's MLP.
    price_knots: budgets at which the price's duals stand, ascending.
    gate_top_k: how many of the largest log-probs the gate sees.
    gate_alpha: α_g; divides difficulty minus price. The losses read it for every kind.
    gate_bias_init: gate logit that an untrained gate is near to.
    value_heads: True adds V and V_C.
    value_hidden: hidden width of the MLPs of V and V_C.
    detach_value_features: True keeps the gradient of V and V_C out of the decoder.
    detach_gate_features: True keeps the gradient of the gate out of the encoder-decoder.
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
    """True where hidden states are divided by sqrt(D) before the readout."""
    return self.tie_embeddings if self.scale_readout is None else self.scale_readout

  def validate(self) -> None:
    """Checks every field.

    Raises:
      ValueError: names the first field that cannot be, its value and what to put there.
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
  """Raises ValueError where a size is below 1 or the position buckets cannot be laid out."""
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
  """Raises ValueError unless the field holds one of the choices."""
  value = getattr(config, name)
  if value not in choices:
    raise ValueError(f"model.{name}={value!r}: must be one of {', '.join(choices)}")
