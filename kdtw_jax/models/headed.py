"""Models with the heads that their config asks for; a teacher has none.

Not here: policies. A model only returns logits, gate logits and values.
Letters: B batch, C positions, D width, V vocabulary.
"""

from flax import nnx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdtw_jax.models.bart import Bart
from kdtw_jax.models.cache import Encoded
from kdtw_jax.models.causal_lm import CausalLM
from kdtw_jax.models.config import ModelConfig
from kdtw_jax.models.heads import (
    PRICE_INIT,
    ConfidenceGate,
    PriceHead,
    TokenGate,
    ValueHead,
    WorthHead,
)
from kdtw_jax.models.language_model import LanguageModel
from kdtw_jax.models.t5 import T5
from kdtw_jax.models.t5gemma import T5Gemma


class Headed(LanguageModel):
  """A gate (`gate`, `price`) and value heads (`value`, `cost_value`, `worth`)."""

  def make_heads(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
    """Makes the heads."""
    if config.gate == "token":
      self.gate = TokenGate(config)
    elif config.gate == "mlp":
      self.gate = ConfidenceGate(config, config.gate_bias_init, rngs)
    elif config.gate == "difficulty_price":
      self.gate = ConfidenceGate(
          config, config.gate_bias_init * config.gate_alpha + PRICE_INIT, rngs
      )
      self.price = PriceHead(config, rngs)
    if config.value_heads:
      self.value = ValueHead(config, rngs)
      self.cost_value = ValueHead(config, rngs)
      self.worth = WorthHead(config, rngs)

  def price_of(self, encoded: Encoded) -> Float[Array, " B"]:
    """Computes p(x_B) of each source in nats, float32; zeros for a gate without a price."""
    if self.config.gate != "difficulty_price":
      return jnp.zeros(encoded.mask.shape[:1], jnp.float32)
    return self.price(encoded)

  def budget_of(self, encoded: Encoded) -> Float[Array, " B"]:
    """Predicts B̂, the budget that each source states, float32; for a model with a price."""
    return self.price.budget(encoded)

  def gap(
      self, gate_logits: Float[Array, "B C"], price: Float[Array, " B"]
  ) -> Float[Array, "B C"] | None:
    """Computes the gap that a gate's log-odds predict, nats; None if it is not made to predict it.

    The gate 'difficulty_price' is (d − p) / α_g, and d is trained towards the gap.
    """
    if self.config.gate != "difficulty_price":
      return None
    return self.config.gate_alpha * gate_logits + price[:, None]

  def gate_logits(
      self, logits: Float[Array, "B C V"], hidden: Float[Array, "B C D"], price: Float[Array, " B"]
  ) -> Float[Array, "B C"]:
    """Computes the log-odds of asking, float32; zeros without a gate.

        token             z_τ − logsumexp(z)            gradient reaches the logits too
        mlp               MLP(h, top log-probs, entropy)
        difficulty_price  (MLP(h, top log-probs, entropy) − p(x_B)) / α_g

    Args:
      logits: float32 logits, with the entry of `<τ>` masked.
      hidden: the hidden states that gave the logits.
      price: p(x_B) in nats; only the last kind uses it.

    Returns:
      Gate logits, whose sigmoid is P(<τ>|s).
    """
    config = self.config
    if config.gate == "none":
      return jnp.zeros(hidden.shape[:2], jnp.float32)
    if config.detach_gate_features:
      hidden, logits = jax.lax.stop_gradient((hidden, logits))
    if isinstance(self.gate, TokenGate):
      tau = self.readout_weight()[config.tau_id][None]
      return self.gate(logits, self.scores(hidden, tau)[:, :, 0])
    score = self.gate(logits, hidden)
    if config.gate == "mlp":
      return score
    return (score - price[:, None]) / config.gate_alpha

  def values(
      self, hidden: Float[Array, "B C D"], price: Float[Array, " B"]
  ) -> tuple[Float[Array, "B C"], Float[Array, "B C"]]:
    """Computes V and V_C (float32) of the states with these hidden vectors, at a price.

    Raises:
      ValueError: if the model has no value heads.
    """
    if not self.config.value_heads:
      raise ValueError("model.value_heads=False: set it to True to read values of this model")
    if self.config.detach_value_features:
      hidden = jax.lax.stop_gradient(hidden)
    return self.value(hidden, price), self.cost_value(hidden, price)


class HeadedT5(Headed, T5):
  """T5 with heads."""

  def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
    T5.__init__(self, config, rngs)
    self.make_heads(config, rngs)


class HeadedBart(Headed, Bart):
  """BART with heads."""

  def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
    Bart.__init__(self, config, rngs)
    self.make_heads(config, rngs)


class HeadedT5Gemma(Headed, T5Gemma):
  """T5Gemma with heads."""

  def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
    T5Gemma.__init__(self, config, rngs)
    self.make_heads(config, rngs)


class HeadedCausalLM(Headed, CausalLM):
  """A causal language model with heads."""

  def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
    CausalLM.__init__(self, config, rngs)
    self.make_heads(config, rngs)


HeadedModel = HeadedT5 | HeadedBart | HeadedT5Gemma | HeadedCausalLM
_KINDS = {"t5": HeadedT5, "bart": HeadedBart, "t5gemma": HeadedT5Gemma, "causal": HeadedCausalLM}


def make(config: ModelConfig, rngs: nnx.Rngs) -> HeadedModel:
  """Makes the model that a config describes."""
  return _KINDS[config.kind](config, rngs)
