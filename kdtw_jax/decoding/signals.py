"""What a student knows of its own draft: sums over the tokens that the teacher has not seen.

Policies that decide whether a draft deserves a check read them (policies/routing.py, worth.py), and
so does the head that predicts what a check would bring.

Shape letters: B batch, V vocabulary, D width, F signals.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from kdtw_jax import distributions

NAMES = (
    "tokens",  # number of drafts
    "gap",  # sum of predicted gaps, nats: log max p − log p(argmax q), as the gate predicts it
    "largest_gap",
    "surprisal",  # sum of −log q(v), nats
    "entropy",  # sum of H(q), nats
    "largest_entropy",
    "doubt",  # sum of 1 − max q
    "margin",  # sum of 1 − (q₁ − q₂)
)
_LARGEST = tuple(name.startswith("largest") for name in NAMES)


class Signals(NamedTuple):
  """The signals of each row's draft.

  Attributes:
    values: one column for each of NAMES.
    hidden: the decoder state that predicted the last draft.
    hidden_sum: the sum of these states over the draft.
  """

  values: Float[Array, "B F"]
  hidden: Float[Array, "B D"]
  hidden_sum: Float[Array, "B D"]


def zeros(rows: int, width: int) -> Signals:
  """Returns the signals before the first draft; `width` is D."""
  return Signals(jnp.zeros((rows, len(NAMES))), *(jnp.zeros((rows, width)) for _ in range(2)))


def add(
    signals: Signals,
    rows: Bool[Array, " B"],
    *,
    token: Int[Array, " B"],
    logits: Float[Array, "B V"],
    hidden: Float[Array, "B D"],
    gap: Float[Array, " B"],
) -> Signals:
  """Adds one draft in each of these rows.

  Args:
    signals: the signals so far.
    rows: rows that draft a token.
    token: the draft.
    logits: the student's logits that it was chosen from.
    hidden: the decoder state that predicted it.
    gap: the predicted gap at this token, nats; negative predictions count as 0.
  """
  log_q = jax.nn.log_softmax(logits, axis=-1)
  taken = jnp.take_along_axis(log_q, token[:, None], axis=1)[:, 0]
  # Before exp: of an exponential, XLA on CPU would sort all V entries to find two.
  largest = jnp.exp(jax.lax.top_k(log_q, 2)[0])
  entropy = distributions.entropy(logits)
  gap = jnp.maximum(gap, 0.0)
  new = jnp.stack(
      [
          jnp.ones_like(gap),
          gap,
          gap,
          -taken,
          entropy,
          entropy,
          1.0 - largest[:, 0],
          1.0 - (largest[:, 0] - largest[:, 1]),
      ],
      axis=1,
  )
  old = signals.values
  values = jnp.where(jnp.asarray(_LARGEST)[None, :], jnp.maximum(old, new), old + new)
  added = Signals(values, hidden.astype(jnp.float32), signals.hidden_sum + hidden)
  return jax.tree.map(lambda new, old: jnp.where(rows[:, None], new, old), added, signals)


def clear(signals: Signals, rows: Bool[Array, " B"]) -> Signals:
  """Forgets the drafts of these rows, which the teacher has seen."""
  return jax.tree.map(lambda old: jnp.where(rows[:, None], 0.0, old), signals)


def column(values: Float[Array, "B F"], name: str) -> Float[Array, " B"]:
  """Returns one signal by its name."""
  return values[:, NAMES.index(name)]


def features(
    signals: Signals, length: Int[Array, " B"], calls: Int[Array, " B"]
) -> tuple[Float[Array, "B D"], Float[Array, "B D"], Float[Array, "B E"]]:
  """Returns what the head of help's worth reads: see `base.DecoderFns.worth`.

  Args:
    signals: of the drafts.
    length: tokens of the output, drafts included.
    calls: calls so far.

  Returns:
    The last decoder state, the mean over the draft, and the signals with length and calls.
  """
  count = jnp.maximum(column(signals.values, "tokens"), 1.0)[:, None]
  counts = jnp.stack([length, calls], axis=1).astype(jnp.float32)
  values = jnp.concatenate([signals.values, counts], axis=1)
  return signals.hidden, signals.hidden_sum / count, values
