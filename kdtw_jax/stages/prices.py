"""The prices under which help that is worth its calls makes so many of them.

A price is a number of points per call, which nobody can name in advance. So decisions on validation
sources, whose rollouts went on until clean, are replayed: each stops at the first draft that is not
worth its calls. The head that decides was fitted to these sources too, as to those of training.

Shape letters: N decisions, P prices.
"""

from jaxtyping import Float, Int
import numpy as np

from kdtw_jax.base import PAD_ID
from kdtw_jax.stages.decisions import Decisions

_PRICES = 33


def call_prices(
    found: Decisions, gain: Float[np.ndarray, " N"], calls: Float[np.ndarray, " N"]
) -> tuple[Float[np.ndarray, " P"], Float[np.ndarray, " P"]]:
  """Returns what prices between those of no help and of help for all make of some rollouts.

  Args:
    found: all decisions of the rollouts, in any order.
    gain: G that the head predicts for each of them.
    calls: C that it predicts.

  Returns:
    Calls per output token, ascending, and the prices in units of G per call that they come from.
  """
  so_far = found.signals[:, -1].astype(int)
  order = np.lexsort((so_far, found.rollout))
  first = np.flatnonzero(np.diff(found.rollout[order], prepend=-1))
  ratio = np.asarray(gain / calls)[order]
  drafts, finals = (
      np.sum(tokens != PAD_ID, axis=1)[order] for tokens in (found.draft, found.final)
  )
  so_far, total = so_far[order], (so_far + found.calls)[order]
  prices = np.unique(np.append(np.quantile(ratio, np.linspace(0, 1, _PRICES)), 0.0))[::-1]
  made = [_replay(price, ratio, first, (so_far, drafts), (total, finals)) for price in prices]
  return np.maximum.accumulate(np.array(made)), prices


def _replay(
    price: float,
    ratio: Float[np.ndarray, " N"],
    first: Int[np.ndarray, " R"],
    stopped: tuple[np.ndarray, np.ndarray],
    clean: tuple[np.ndarray, np.ndarray],
) -> float:
  """Returns the calls per token of rollouts that stop where `ratio` is not above the price.

  Args:
    price: λ.
    ratio: G / C of each decision; those of a rollout follow each other.
    first: the first decision of each rollout.
    stopped: calls and tokens of each rollout if it stops at a decision.
    clean: the same if it never stops.
  """
  position = np.where(ratio > price, len(ratio), np.arange(len(ratio)))
  stop = np.minimum.reduceat(position, first)
  stops = stop < len(ratio)
  spent, tokens = (
      np.where(stops, early[np.minimum(stop, len(ratio) - 1)], late[first])
      for early, late in zip(stopped, clean, strict=True)
  )
  return float(spent.sum() / tokens.sum())
