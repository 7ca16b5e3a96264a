"""Rules that turn log-odds or a confidence into asks, and the cap that may refuse an ask.

Not here: which rule a policy uses (policies/). Shape letters: B batch, V vocabulary.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from kdtw_jax import base

CAPS = ("none", "hard")

# Relative slack of the hard cap: float32 rounds budgets such as 0.7 down, and a budget of 0.7 must
# still allow 7 asks in 10 tokens.
CAP_SLACK = 1e-6


def gate_greedy(gate_logits: Float[Array, " B"], offset: Float[Array, " B"]) -> Bool[Array, " B"]:
  """Asks iff σ(gate_logit + offset) > ½."""
  return gate_logits + offset > 0


def gate_sampled(
    gate_logits: Float[Array, " B"], offset: Float[Array, " B"], key: base.PRNGKey
) -> Bool[Array, " B"]:
  """Asks with probability σ(gate_logit + offset)."""
  return jax.random.bernoulli(key, jax.nn.sigmoid(gate_logits + offset))


def max_prob(logits: Float[Array, "B V"]) -> Float[Array, " B"]:
  """Returns the probability of the most likely token."""
  return jnp.exp(jnp.max(jax.nn.log_softmax(logits, axis=-1), axis=-1))


def margin(logits: Float[Array, "B V"]) -> Float[Array, " B"]:
  """Returns the probability of the best token minus that of the second best."""
  probs = jax.nn.softmax(logits, axis=-1)
  is_best = jnp.arange(probs.shape[-1])[None, :] == jnp.argmax(probs, axis=-1)[:, None]
  return jnp.max(probs, axis=-1) - jnp.max(jnp.where(is_best, 0.0, probs), axis=-1)


def within_cap(
    asks: Int[Array, " B"], length: Int[Array, " B"], budget: Float[Array, " B"], cap: str
) -> Bool[Array, " B"]:
  """Returns the rows that may ask for their next token.

      cap 'hard':  asks + 1 <= budget * (length + 1)

  `length + 1` counts the tokens emitted so far and the one to be written (EOS counts as a token),
  so asks / tokens <= budget at every prefix of the output. Rows do not share unused budget.
  Example: a budget of 0.2 allows the first ask at the fifth token and the second at the tenth.

  Args:
    asks: asks so far.
    length: tokens emitted so far.
    budget: allowed share of asks, 0..1.
    cap: 'none' (all rows may ask) or 'hard'.

  Returns:
    True where asking is allowed.
  """
  if cap == "none":
    return jnp.ones(asks.shape, bool)
  allowed = budget * (length + 1).astype(jnp.float32) * (1 + CAP_SLACK)
  return (asks + 1).astype(jnp.float32) <= allowed
