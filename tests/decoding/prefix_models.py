"""Fake models whose every token depends on all that their cache holds, and on nothing else.

The cache records the consumed input at each position. The next token's logits are a table row
picked by a hash of the source and of the recorded inputs up to the position, so a cache that is
stale, shifted, too short or written in the wrong row yields other tokens. `NumpyModel` says the
same in plain Python, from the emitted tokens alone: it has no cache that could be wrong.
"""

import jax
import jax.numpy as jnp
import numpy as np

from kdtw_jax import base
from kdtw_jax.decoding import signals

MODULUS = 509
VOCABULARY = 13
UNWRITTEN = 77  # what fresh cache entries hold: reading one changes the hash


def weights(length: int) -> np.ndarray:
  """A multiplier per position, so that order matters."""
  return (31 * np.arange(1, length + 1) ** 2 + 7) % MODULUS


def make_params(seed: int, base_seed: int = 0, noise: float = 1.0, eos_bias: float = 0.0) -> dict:
  """Tables of a model; two models of one base_seed agree the more the smaller their noise."""
  shared = np.random.default_rng(base_seed).normal(size=(MODULUS, VOCABULARY)) * 2
  own = np.random.default_rng(1000 + seed).normal(size=(MODULUS, VOCABULARY))
  logits = shared + noise * own
  logits[:, base.EOS_ID] += eos_bias
  gates = np.random.default_rng(2000 + seed).normal(size=(MODULUS,))
  return {"logits": jnp.asarray(logits, jnp.float32), "gates": jnp.asarray(gates, jnp.float32)}


def start(params, source, max_length):
  del params
  seen = jnp.full((source.shape[0], max_length), UNWRITTEN, jnp.int32)
  return {"seen": seen, "source": jnp.sum(source, axis=1) % MODULUS}


def extend(params, cache, tokens, positions):
  del params
  T, C = cache["seen"].shape[1], tokens.shape[1]
  columns = positions[:, None] + jnp.arange(C)[None, :]
  rows = jnp.arange(tokens.shape[0])[:, None]
  seen = cache["seen"].at[rows, columns].set(tokens, mode="drop")
  terms = ((seen + 3) * jnp.asarray(weights(T))[None, :]) % MODULUS
  upto = jnp.arange(T)[None, None, :] <= columns[:, :, None]
  total = jnp.sum(jnp.where(upto, terms[:, None, :], 0), axis=-1) + cache["source"][:, None]
  hidden = (total % MODULUS)[..., None].astype(jnp.float32)
  return hidden, {**cache, "seen": seen}


def readout(params, cache, hidden):
  del cache
  state = hidden[..., 0].astype(jnp.int32)
  return base.StepOutput(params["logits"][state], params["gates"][state])


def worth(params, hidden, hidden_mean, values):
  """G is the sum of predicted gaps, C one call and one for every five tokens."""
  del params, hidden, hidden_mean
  return base.Worth(values[:, signals.NAMES.index("gap")], 1.0 + values[:, -2] / 5)


def take(cache, places):
  return jax.tree.map(lambda leaf: leaf[places], cache)


FNS = base.DecoderFns(start, extend, readout, worth, take)


class NumpyModel:
  """The same model as a function of (source, emitted tokens)."""

  def __init__(self, params, max_length):
    self.logits = np.array(params["logits"])
    self.logits[:, base.PAD_ID] = base.MASKED_LOGIT
    self.gates = np.asarray(params["gates"])
    self.weights = weights(max_length)

  def state(self, source, emitted):
    inputs = np.array([base.PAD_ID, *emitted])
    terms = ((inputs + 3) * self.weights[: len(inputs)]) % MODULUS
    return int((terms.sum() + int(np.sum(source)) % MODULUS) % MODULUS)

  def greedy(self, source, emitted):
    return int(np.argmax(self.logits[self.state(source, emitted)]))

  def gate(self, source, emitted):
    return float(self.gates[self.state(source, emitted)])


def greedy_decode(model, source, max_length):
  """What the model alone writes."""
  emitted = []
  while len(emitted) < max_length and base.EOS_ID not in emitted:
    emitted.append(model.greedy(source, emitted))
  return emitted


def sources(batch, seed=0, low=2, high=90):
  """Random sources `[batch, 5]`, no PAD inside."""
  return np.random.default_rng(seed).integers(low, high, (batch, 5)).astype(np.int32)


def padded(rows, max_length):
  """Ragged lists as `[B, T]` with PAD_ID."""
  out = np.full((len(rows), max_length), base.PAD_ID, np.int32)
  for i, row in enumerate(rows):
    out[i, : len(row)] = row
  return out
