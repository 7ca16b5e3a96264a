"""How a token is chosen from next-token logits: greedily, or drawn with temperature and top-p.

Not here: which model chooses (policies/). Shape letters: B batch, V vocabulary.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from kdtw_jax import base

Key = base.PRNGKey | None  # None if nothing is drawn


@dataclasses.dataclass(frozen=True)
class Sampling:
  """Static settings of token choice, shared by student and teacher.

  Attributes:
    temperature: divisor of the logits; 0 is greedy (argmax).
    top_p: nucleus mass in (0, 1]; 1 keeps the whole vocabulary.
  """

  temperature: float = 0.0
  top_p: float = 1.0

  @property
  def greedy(self) -> bool:
    """True if nothing is drawn."""
    return self.temperature == 0.0

  def validate(self) -> None:
    """Rejects impossible settings.

    Raises:
      ValueError: if temperature < 0 or top_p is outside (0, 1].
    """
    if self.temperature < 0:
      raise ValueError(f"sampling.temperature={self.temperature}: must be >= 0 (0 is greedy)")
    if not 0 < self.top_p <= 1:
      raise ValueError(f"sampling.top_p={self.top_p}: must be in (0, 1] (1 keeps all tokens)")


def forbid_pad(logits: Float[Array, "... V"]) -> Float[Array, "... V"]:
  """Masks PAD_ID: PAD means "no token" in every output, so no model may emit it."""
  is_pad = jnp.arange(logits.shape[-1]) == base.PAD_ID
  is_pad = is_pad.reshape((1,) * (logits.ndim - 1) + is_pad.shape)
  return jnp.where(is_pad, base.MASKED_LOGIT, logits)


def nucleus(logits: Float[Array, "... V"], top_p: float) -> Float[Array, "... V"]:
  """Masks all but the smallest set of tokens whose mass reaches top_p.

      keep token v  iff  sum of the probabilities strictly above p_v's rank < top_p

  Holtzman et al. 2020, arXiv 1904.09751. Tokens tied with the last kept one are kept too.

  Args:
    logits: float32, already divided by the temperature.
    top_p: mass to keep, in (0, 1].

  Returns:
    The logits, with MASKED_LOGIT outside the nucleus.
  """
  descending = -jnp.sort(-logits, axis=-1)
  probs = jax.nn.softmax(descending, axis=-1)
  mass_above = jnp.cumsum(probs, axis=-1) - probs
  num_kept = jnp.maximum(jnp.sum(mass_above < top_p, axis=-1, keepdims=True), 1)
  last_kept = jnp.take_along_axis(descending, num_kept - 1, axis=-1)
  return jnp.where(logits >= last_kept, logits, base.MASKED_LOGIT)


def distribution(logits: Float[Array, "... V"], sampling: Sampling) -> Float[Array, "... V"]:
  """Returns the distribution of `choose_token`: tempered and cut, or one-hot when greedy."""
  if sampling.greedy:
    return jax.nn.one_hot(jnp.argmax(logits, axis=-1), logits.shape[-1])
  logits = logits / sampling.temperature
  return jax.nn.softmax(nucleus(logits, sampling.top_p) if sampling.top_p < 1 else logits, axis=-1)


def choose_token(logits: Float[Array, "B V"], key: Key, sampling: Sampling) -> Int[Array, " B"]:
  """Chooses one token per row.

  Args:
    logits: float32.
    key: PRNG key; not used when greedy.
    sampling: static settings.

  Returns:
    Token ids.
  """
  if sampling.greedy:
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)
  assert key is not None  # loop.start has checked it
  logits = logits / sampling.temperature
  if sampling.top_p < 1:
    logits = nucleus(logits, sampling.top_p)
  return jax.random.categorical(key, logits, axis=-1).astype(jnp.int32)
