"""Whether outputs kept what the form of their budget promises, counted anew from the outputs.

Not here: the rules that keep a promise while an output is written (decoding/budgets.py).

Shape letters: B batch, T most tokens that a row may emit.
"""

import jax
from jaxtyping import Bool, Int
import numpy as np

from kdtw_jax import decoding
from kdtw_jax.decoding.budgets import CALL

# Budgets pass through float32, where 0.7 is 0.69999999; far below one call of any output.
_SLACK = 2e-6


def spent(policy: decoding.Policy, result: decoding.DecodeResult) -> Int[np.ndarray, " B"]:
  """Returns what a budget counts: teacher passes if the policy drafts, else tokens it wrote."""
  return np.asarray(result.teacher_calls if policy.drafts else result.asks)


def broken(
    budget: decoding.Budget, policy: decoding.Policy, result: decoding.DecodeResult
) -> Bool[np.ndarray, " B"]:
  """Finds the outputs that spent more than the form of their budget promises.

      hard    calls > B · length
      prefix  calls up to a token t > B · t, and the same at the end
      ledger  Σ calls > credit + Σ B · length, over the batch: then every row that called
      calls   calls > n

  A policy that drafts tells only at the end how often it has called; until then, `prefix` counts
  the tokens that the teacher wrote.

  Args:
    budget: the budget that the outputs were written under; shares are `[B]`.
    policy: who wrote them.
    result: the outputs.

  Returns:
    True where a promise is broken; nowhere if the form promises nothing.
  """
  calls, result = spent(policy, result), jax.device_get(result)
  share = np.asarray(budget.share, np.float64) * (1 + _SLACK)
  over = calls > share * result.length
  if budget.form == "hard":
    return over
  if budget.form == "prefix":
    written = np.cumsum(result.written_by_teacher if policy.drafts else result.asked, axis=1)
    position = np.arange(1, written.shape[1] + 1)
    before = (written > share[:, None] * position[None]) & (
        position[None] <= result.length[:, None]
    )
    return over | before.any(axis=1)
  if budget.form == "ledger":
    credit = float(np.asarray(budget.credit)) / CALL
    return (calls > 0) & (calls.sum() > credit + (share * result.length).sum())
  if budget.form == "calls":
    return calls > np.broadcast_to(np.asarray(budget.calls), calls.shape)
  return np.zeros(calls.shape, bool)
