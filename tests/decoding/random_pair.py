"""What tests of the loop with real tiny models share: lively weights, sources, greedy outputs."""

import jax
import jax.numpy as jnp
import numpy as np

from kdtw_jax import base
from kdtw_jax.models import shift_right


def lively(model, seed):
  """Random params, scaled so that an untrained model does not repeat one token for ever."""
  return jax.tree.map(lambda leaf: 2.5 * leaf, jax.jit(model.init)(jax.random.key(seed)))


def ended_sources(rows, length, vocab_size):
  """(student's, teacher's) sources with EOS; the student's has two tokens more, row 1 is short."""
  source = np.random.default_rng(0).integers(4, vocab_size, (rows, length)).astype(np.int32)
  source[1, 4:] = base.PAD_ID
  source[:, -1] = base.EOS_ID
  source[1, [3, -1]] = base.EOS_ID, base.PAD_ID
  return np.concatenate([np.full((rows, 2), 7, np.int32), source], axis=1), source


def written_alone(model, weights, source, length) -> np.ndarray:
  """Greedy tokens `[B, T]` by passes over everything, without a cache or a loop."""
  tokens = np.zeros((len(source), length), np.int32)

  @jax.jit
  def following(targets):
    hidden = model.hidden(weights, model.encode(weights, source), shift_right(targets))
    return jnp.argmax(model.logits(weights, hidden).at[..., base.PAD_ID].set(-1e9), axis=-1)

  done = np.zeros(len(source), bool)
  for t in range(length):
    tokens[:, t] = np.where(done, base.PAD_ID, following(tokens)[:, t])
    done |= tokens[:, t] == base.EOS_ID
  return tokens
