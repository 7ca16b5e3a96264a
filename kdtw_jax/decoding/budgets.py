"""Budgets of teacher calls, and what each form of a budget promises.

B is a share of the output's tokens, n a number of calls. For a policy that asks token by token a
call is a token that the teacher writes; for one that drafts and checks it is a teacher pass.

    share   as learned: the student reads B in its instruction, and B holds on average
    paced   any asker, steered so that the mean over a stream of outputs comes to B on any domain:
            it asks iff score − κ (calls + ½ − B (t + 1)) + κ S > 0, where S is what the stream has
            spared so far, Σ B · length − Σ calls, per row that is being written
    hard    calls <= B · length at the end of every output, whatever the models do
    prefix  calls <= B · t after every token t of the output
    ledger  Σ calls <= Σ B · length over a stream of outputs, at every moment
    calls   calls <= n in every output

The four last forms never break their promise. A budget of 0 never calls, in any form, if the policy
reads it (the learned gate) or the form is not `share`. In the form `calls`, n alone is the budget:
n = 0 never calls, and n > 0 may call whatever B is.

Not here: how a budget is stated in words (data/stated.py), and who asks (policies/).

Shape letters: B batch.
"""

from typing import Any

import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from kdtw_jax import base
from kdtw_jax.decoding.policies.policy import static

FORMS = ("share", "paced", "hard", "prefix", "ledger", "calls")
PROMISES = ("hard", "prefix", "ledger", "calls")
STREAMS = ("paced", "ledger")  # forms whose credit goes from one batch of a stream to the next

# Relative slack of a promise: float32 rounds budgets such as 0.7 down, and a budget of 0.7 must
# still allow 7 calls in 10 tokens.
_SLACK = 1e-6

# Credit counts in ten-thousandths of a call, so that no rounding adds up over a stream; a budget
# has a hundredth of a percent.
CALL = 10_000
_MOST_CREDIT = 1 << 30


@flax.struct.dataclass
class Budget:
  """What a batch may spend on its teacher.

  Attributes:
    share: `[B]`, B of each row, 0..1; the form `calls` does not read it.
    pace: κ >= 0, in units of the policy's own (`Policy.pace`); every form but `share` and `calls`
      reads it.
    shortest: (a, b): an output has at least a + b · (source tokens) tokens, which `hard` enforces
      where the promise needs it; (0, 0) predicts nothing.
    calls: n of each row, read by the form `calls`.
    credit: what a stream has saved up before this batch, in ten-thousandths of a call; read by
      `ledger` and `paced`, where it may be negative. `DecodeResult.credit` is what it has left.
    form: one of FORMS, static.
  """

  share: Any
  pace: Any = 0.0
  shortest: Any = (0.0, 0.0)
  calls: Any = 0
  credit: Any = 0
  form: str = static("share")

  def __post_init__(self):
    if self.form not in FORMS:
      raise ValueError(f"budget.form={self.form!r}: must be one of {', '.join(FORMS)}")

  @property
  def promised(self) -> bool:
    """True if the form never breaks its promise, whatever the policy does."""
    return self.form in PROMISES


class Limits:
  """A budget applied to the rows of a batch.

  Attributes:
    form: the budget's form.
    share: `[B]`, the B that a policy sees; for the form `calls`, 1 where n > 0 and else 0.
  """

  def __init__(
      self,
      budget: Budget,
      source: Int[base.ArrayLike, "B S"] | None,
      most: int,
      *,
      unit: float = 1.0,
  ):
    """Takes the budget, the teacher's source, the most tokens of an output, and its pace's unit."""
    self._budget, self.form = budget, budget.form
    self._pace = unit * jnp.asarray(budget.pace, jnp.float32)
    self.share = jnp.asarray(budget.share, jnp.float32)
    if self.form == "calls":
      any_call = jnp.asarray(budget.calls, jnp.int32) > 0
      self.share = jnp.broadcast_to(any_call, self.share.shape).astype(jnp.float32)
    self._shortest = jnp.zeros(self.share.shape, jnp.float32)
    if self.form == "hard" and source is not None:
      a, b = (jnp.asarray(x, jnp.float32) for x in budget.shortest)
      size = jnp.sum(jnp.asarray(source) != base.PAD_ID, axis=1).astype(jnp.float32)
      self._shortest = jnp.clip(jnp.floor(a + b * size), 0.0, float(most))

  @property
  def _streams(self) -> bool:
    """True if the budget is that of a stream of outputs."""
    return self.form in STREAMS

  def behind(
      self, calls: Int[Array, " B"], length: Int[Array, " B"], credit: Array, active: Array
  ) -> Float[Array, " B"]:
    """Returns what pacing takes from an asker's score before token t.

        hard, prefix   κ (calls + ½ − B (t + 1))
        ledger   −κ S
        paced   both

    With the ½ a strict controller rounds the calls of an output to the nearest number, not up. S
    integrates: a domain on which an asker asks too much moves it until the mean is B.
    """
    behind = jnp.zeros(calls.shape, jnp.float32)
    if self.form in ("paced", "hard", "prefix"):
      behind = calls + 0.5 - self.share * (length + 1).astype(jnp.float32)
    if self._streams:
      rows = jnp.maximum(jnp.sum(active), 1).astype(jnp.float32)
      behind = behind - credit.astype(jnp.float32) / (CALL * rows)
    return self._pace * behind

  def allowed(
      self,
      calls: Int[Array, " B"],
      length: Int[Array, " B"],
      credit: Array,
      *,
      at_end: bool = False,
  ) -> Bool[Array, " B"]:
    """Returns the rows whose budget allows one more call.

        hard     calls + 1 <= B · max(t + 1, L_lo(x)), or B · t for a finished draft of t tokens
        prefix   calls + 1 <= B · (t + 1)
        ledger   the stream has saved up a call
        calls    calls + 1 <= n

    Example: a budget of 0.2 by prefix allows the first ask at the fifth token.

    Args:
      calls: calls so far.
      length: tokens so far, t.
      credit: what the stream has saved up.
      at_end: True if the output would end with the tokens that it has.
    """
    if not self._budget.promised:
      return jnp.full(calls.shape, True) if self.form == "share" else self.share > 0
    if self.form == "ledger":
      return (credit >= CALL) & (self.share > 0)
    if self.form == "calls":
      return calls + 1 <= jnp.asarray(self._budget.calls, jnp.int32)
    tokens = length.astype(jnp.float32)
    if not at_end:
      tokens = tokens + 1
      if self.form == "hard":
        tokens = jnp.maximum(tokens, self._shortest)
    return self._within(calls + 1, tokens)

  def may_end(self, calls: Int[Array, " B"], length: Int[Array, " B"]) -> Bool[Array, " B"] | None:
    """Returns the rows that may end with `length` tokens after these calls; None if all may."""
    if self.form != "hard":
      return None
    return self._within(calls, length.astype(jnp.float32))

  def fewest(self, calls: Int[Array, " B"]) -> Int[Array, " B"] | None:
    """Returns the tokens that an output must keep after these calls; None if it may keep none.

    By `prefix`, a check may not take back the tokens that have paid for it: B · t >= calls.
    """
    if self.form != "prefix":
      return None
    paid = calls.astype(jnp.float32) / jnp.maximum(self.share * (1 + _SLACK), 1e-9)
    return jnp.ceil(paid).astype(jnp.int32)

  def grant(
      self, wants: Bool[Array, " B"], score: Float[Array, " B"], credit: Array
  ) -> tuple[Bool[Array, " B"], Array]:
    """Gives the calls that a stream has saved up to the rows with the highest scores.

    Returns:
      The rows that get one, and the credit that is left; without a ledger, all that want one.
    """
    if not self._streams:
      return wants, credit
    if self.form == "paced":
      return wants, jnp.maximum(credit - CALL * jnp.sum(wants), -_MOST_CREDIT)
    order = jnp.lexsort((-score, ~wants))  # a score may be −∞
    rank = jnp.argsort(order)
    granted = wants & ((rank + 1) * CALL <= credit)
    return granted, credit - CALL * jnp.sum(granted)

  def saved(self, credit: Array, tokens: Int[Array, " B"]) -> Array:
    """Returns the credit after these rows have written this many more tokens."""
    if not self._streams:
      return credit
    per_token = jnp.floor(self.share * CALL * (1 + _SLACK)).astype(jnp.int32)
    return jnp.minimum(credit + jnp.sum(per_token * tokens), _MOST_CREDIT)

  def _within(self, calls: Int[Array, " B"], tokens: Float[Array, " B"]) -> Bool[Array, " B"]:
    return calls.astype(jnp.float32) <= self.share * tokens * (1 + _SLACK)


def as_budget(budget: Budget | base.ArrayLike) -> Budget:
  """Returns a budget; an array `[B]` of shares is of the form `share`."""
  if not isinstance(budget, Budget):
    budget = Budget(share=jnp.asarray(budget, jnp.float32))
  return budget


def forbid_end(
    logits: Float[Array, "B V"], may_end: Bool[Array, " B"] | None, eos_id: int
) -> Float[Array, "B V"]:
  """Masks EOS in the rows that may not end yet; None leaves all logits unchanged."""
  if may_end is None:
    return logits
  is_eos = jnp.arange(logits.shape[-1])[None, :] == eos_id
  return jnp.where(is_eos & ~may_end[:, None], base.MASKED_LOGIT, logits)
