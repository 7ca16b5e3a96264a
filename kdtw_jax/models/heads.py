"""The student's heads: when to ask (gate, price), and the value still to come (V, V_C).

The last head reads a whole draft: what help with it would bring, and how many calls it would take.
They are small float32 MLPs. The price reads the encoder, the others the decoder's last hidden
state. Liu et al. 2025, https://arxiv.org/abs/2502.17717. Not here: decision rules; thresholds,
sampling and offsets of the gate belong to the decoder.
Letters: B batch, C positions, S source length, D width, V vocabulary, G gate features.
"""

import math

from flax import nnx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdtw_jax.base import MASKED_LOGIT, Params, Worth
from kdtw_jax.models.cache import Encoded
from kdtw_jax.models.config import ModelConfig
from kdtw_jax.models.layers import RMSNorm, ScalarMLP, normal_param

HEADS = ("gate", "price", "value", "cost_value", "worth")  # their names in a student's params
PRICE_INIT = 1.0  # price in nats before the duals are set
BUDGET_INIT = 0.2  # budget that an untrained student reads in every source
NUM_SIGNALS = 10  # E: those of a draft, the output's length, the calls so far
GATE_LAST_STD = 0.1  # about how far an untrained gate's logits are from its bias


def confidence_features(logits: Float[Array, "B C V"], top_k: int) -> Float[Array, "B C G"]:
  """Computes the `top_k` largest log-probs and the entropy of softmax(logits), without gradient.

  Args:
    logits: float32 logits; masked entries hold MASKED_LOGIT.
    top_k: number of log-probs, G - 1.

  Returns:
    `[log p_1, ..., log p_top_k, entropy]` in nats, with log-probs clipped at -20.
  """
  batch, num_positions, vocab_size = logits.shape
  # Only for two axes does the CPU select the k largest entries instead of sorting them all.
  log_probs = jax.nn.log_softmax(jax.lax.stop_gradient(logits)).reshape(-1, vocab_size)
  largest, _ = jax.lax.top_k(log_probs, top_k)
  entropy = -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1, keepdims=True)
  features = jnp.concatenate([jnp.maximum(largest, -20.0), entropy], axis=-1)
  return features.reshape(batch, num_positions, top_k + 1)


class TokenGate(nnx.Module):
  """The joint softmax over V ∪ {<τ>}: `z_τ + b − logsumexp(z over V)`, z_τ the logit of its row.

  The sigmoid of this logit is P(<τ>) under that softmax. The bias b lets an untrained gate start
  near `gate_bias_init` instead of at −log V.
  """

  def __init__(self, config: ModelConfig):
    bias = config.gate_bias_init + math.log(config.vocab_size)
    self.bias = nnx.Param(jnp.full((1,), bias, jnp.dtype(config.param_dtype)))

  def __call__(
      self, logits: Float[Array, "B C V"], tau_logit: Float[Array, "B C"]
  ) -> Float[Array, "B C"]:
    """Computes the log-odds of `<τ>` against all other tokens.

    Args:
      logits: logits with the entry of `<τ>` masked.
      tau_logit: the logit of its row in the readout matrix.

    Returns:
      Gate logits, float32.
    """
    bias = self.bias[0].astype(jnp.float32)
    return tau_logit + bias - jax.nn.logsumexp(logits, axis=-1)


class ConfidenceGate(nnx.Module):
  """An MLP over [RMSNorm(h), largest log-probs, entropy]: a gate logit or a difficulty."""

  def __init__(self, config: ModelConfig, bias_init: float, rngs: nnx.Rngs):
    self.top_k = config.gate_top_k
    self.norm = RMSNorm(config.d_model, config.param_dtype)
    width = config.d_model + config.gate_top_k + 1
    self.mlp = ScalarMLP(
        width, config.gate_hidden, bias_init, GATE_LAST_STD, config.param_dtype, rngs
    )

  def __call__(
      self, logits: Float[Array, "B C V"], hidden: Float[Array, "B C D"]
  ) -> Float[Array, "B C"]:
    """Computes one float32 number per position, without gradient to the logits."""
    normed = self.norm(hidden.astype(jnp.float32))
    features = confidence_features(logits, self.top_k)
    return self.mlp(jnp.concatenate([normed, features], axis=-1))


class PriceHead(nnx.Module):
  """The price p(x_B) ≥ 0 of asking under the budget that the source states in words.

  Reading the budget is separate from pricing it. A learned query pools the encoder's states, and an
  MLP predicts the budget B̂ from them. The price is λ(B̂), linear between the duals λ_k at the
  knots. B̂ is trained on the stated budgets; dual ascent sets `duals`, which get no gradient.
  """

  def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
    width, dtype = config.encoder_config.d_model, config.param_dtype
    self.norm = RMSNorm(width, dtype)
    self.query = normal_param(rngs, (width,), width**-0.5, dtype)
    self.mlp = ScalarMLP(width, config.gate_hidden, BUDGET_INIT, GATE_LAST_STD, dtype, rngs)
    self.knots = tuple(config.price_knots)
    self.duals = nnx.Param(jnp.full((len(self.knots),), PRICE_INIT, jnp.float32))

  def __call__(self, encoded: Encoded) -> Float[Array, " B"]:
    """Computes the price of each source in nats, float32, without gradient."""
    knots, duals = jnp.asarray(self.knots, jnp.float32), self.duals[...].astype(jnp.float32)
    return jax.lax.stop_gradient(jnp.interp(self.budget(encoded), knots, duals))

  def budget(self, encoded: Encoded) -> Float[Array, " B"]:
    """Predicts B̂, the share of teacher tokens that each source allows; ignores padding."""
    states = self.norm(encoded.states.astype(jnp.float32))
    scores = jnp.einsum("bsd,d->bs", states, self.query[...].astype(jnp.float32))
    weights = jax.nn.softmax(jnp.where(encoded.mask, scores, MASKED_LOGIT), axis=-1)
    return self.mlp(jnp.einsum("bs,bsd->bd", weights, states))


class ValueHead(nnx.Module):
  """A value of the state, zero before training: V (nats to come) or V_C (asks to come).

  Both depend on the price p of asking, so log(1 + p) is a feature beside the state. It is scaled by
  sqrt(D), so that it weighs as much as the whole state in an untrained head.
  """

  def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
    self.norm = RMSNorm(config.d_model, config.param_dtype)
    self.mlp = ScalarMLP(
        config.d_model + 1, config.value_hidden, 0.0, 0.0, config.param_dtype, rngs
    )

  def __call__(
      self, hidden: Float[Array, "B C D"], price: Float[Array, " B"]
  ) -> Float[Array, "B C"]:
    """Computes one float32 value per position."""
    states = self.norm(hidden.astype(jnp.float32))
    feature = states.shape[-1] ** 0.5 * jnp.log1p(price)[:, None, None]
    feature = jnp.broadcast_to(feature, (*states.shape[:2], 1))
    return self.mlp(jnp.concatenate([states, feature], axis=-1))


def knows_worth(params: Params) -> bool:
  """Returns True if a student's head `worth` is trained: before, its last layers are zero."""
  head = params.get("worth", {})
  return any(bool(jnp.any(head[part]["out_kernel"])) for part in head if part != "norm")


class WorthHead(nnx.Module):
  """What help with a draft is worth: expected gain G and calls C until a check finds it clean.

      G = softplus(MLP_G),   C = 1 + softplus(MLP_C)

  Both read the decoder state at the draft's end, the mean state over the draft, and log(1 + x) of
  its signals x (`kdtw_jax.decoding.signals`).
  """

  def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
    self.norm = RMSNorm(config.d_model, config.param_dtype)
    width = 2 * config.d_model + NUM_SIGNALS
    self.gain, self.calls = (
        ScalarMLP(width, config.value_hidden, 0.0, 0.0, config.param_dtype, rngs) for _ in range(2)
    )

  def __call__(
      self,
      hidden: Float[Array, "B D"],
      hidden_mean: Float[Array, "B D"],
      signals: Float[Array, "B E"],
  ) -> Worth:
    """Computes G in the unit of its labels and C in calls, float32."""
    states = [self.norm(state.astype(jnp.float32)) for state in (hidden, hidden_mean)]
    features = jnp.concatenate([*states, jnp.log1p(signals)], axis=-1)
    return Worth(jax.nn.softplus(self.gain(features)), 1.0 + jax.nn.softplus(self.calls(features)))
