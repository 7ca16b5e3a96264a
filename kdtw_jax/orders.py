"""What a call of `Pair.write` asks for: budget, form and policy, read together and checked.

Not here: what a budget may say in words (data/stated.py), texts and batches (writer.py).
"""

from collections.abc import Mapping
import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from kdtw_jax import data, decoding

_USUAL_PACE = 1.0  # κ of policies other than the gate, in units of their own
_UNLEARNED = (
    "policy='worth': this pair's student has not learned what help is worth: run its stage 'worth'"
    ", or choose another policy, e.g. decoding.make_policy('route_gap', 8.0)"
)


class Order(NamedTuple):
  """What one call asks for.

  Attributes:
    stated: what every student reads; None if it depends on the text.
    calls: most calls of each output, for the form `calls`.
    form: what the budget promises.
    policy: who writes.
    pace: κ of the budget.
  """

  stated: data.Stated | None
  calls: int
  form: str
  policy: decoding.Policy
  pace: float = 0.0


class Orders:
  """What one pair can be asked for."""

  def __init__(
      self,
      config: Mapping[str, Any],
      *,
      shortest: tuple[float, float],
      prices: tuple[tuple[float, ...], tuple[float, ...]] | None,
      paces: Mapping[str, float],
      knows_worth: bool,
  ):
    """Takes a run's config, parts of a `Pair`, and whether its student has the head `worth`."""
    self._paces = paces
    self._task, self._shortest = config["data"]["task"], shortest
    self._prices, self._knows_worth = prices, knows_worth
    self._most = config["decode"]["max_length"]
    self._largest = max(config["budgets"]["train"])
    self.smallest = min((b for b in config["budgets"]["train"] if b), default=self._largest)

  def order(self, budget: object, form: object, policy: decoding.Policy | str | None) -> Order:
    """Chooses what the student reads and who writes; raises ValueError if the parts conflict.

    A policy that neither reads the gate nor is held to a budget has a student that reads 0.
    """
    if policy is not None and policy != "worth" and not isinstance(policy, decoding.Policy):
      raise ValueError(
          f"policy={policy!r:.60}: must be 'worth' or a policy, e.g. "
          "decoding.make_policy('speculative', 4)"
      )
    if not isinstance(form, str) or form not in decoding.FORMS:
      raise ValueError(f"form={form!r:.60}: must be one of {', '.join(decoding.FORMS)}")
    if budget is None and form != "share":
      raise ValueError(
          f"budget=None: form={form!r} needs one: give a budget, or leave out the form"
      )
    calls = data.stated_calls(budget, form)
    form = form if calls is None else "calls"
    if isinstance(policy, str):
      policy = self._worth(budget, calls)
      if form == "share":  # the price is the budget
        return Order(self.stated(0.0), 0, form, policy)
    by_gate = policy is None or reads_gate(policy)
    policy = policy or decoding.make_policy("handover")
    reads_worth = isinstance(policy, decoding.Drafter) and policy.reads_worth
    if reads_worth and not self._knows_worth:
      raise ValueError(_UNLEARNED)
    if not by_gate and budget is None:
      return Order(self.stated(0.0), 0, form, policy)
    if not by_gate and form == "share":
      raise ValueError(
          f"budget={budget!r}: policy {policy.name!r} does not keep to a budget: leave out the "
          "budget, give a form that holds all policies, as form='paced', or leave out the policy "
          "to have the student ask within the budget"
      )
    if form != "share" and not policy.keeps_budget(decoding.Sampling()):
      raise ValueError(
          f"form={form!r}: policy {policy.name!r} cannot write on without the teacher: leave out "
          "the budget and its form, or give another policy"
      )
    stated = self.stated(budget) if calls is None else None
    if calls == 0 or (stated and stated.share == 0):
      return Order(stated or self.stated(0.0), 0, "share", decoding.make_policy("student"))
    pace = self._paces.get(form, 0.0) if by_gate else _USUAL_PACE
    return Order(stated, min(calls or 0, self._most), form, policy, pace)

  def _worth(self, budget: object, calls: int | None) -> decoding.Policy:
    """Makes the policy `worth` at the price of a share, or at none for a number of calls."""
    if self._prices is None:
      raise ValueError(_UNLEARNED)
    if budget is None:
      raise ValueError(
          "budget=None: policy='worth' takes its price from one: give a budget or name a price, as "
          "policy=decoding.make_policy('worth', 1.0)"
      )
    if calls is not None:
      return decoding.make_policy("worth", 0.0)
    share = self.stated(budget).share
    price = np.interp(share, *self._prices) if share else math.inf
    return decoding.make_policy("worth", float(price))

  def stated(self, budget: object) -> data.Stated:
    """States a share for the student; raises ValueError if it cannot be kept."""
    return data.state_budget(budget, largest=self._largest, task=self._task)

  def share_of_calls(self, calls: int, num_read: int) -> float:
    """Returns the trained share above 0 that is nearest to n calls in an output for this source.

    It is n over the shortest expected length, in whole percent, since an output that has used up
    its calls stops asking, while calls that are left over help nobody.
    """
    a, b = self._shortest
    share = round(calls / max(a + b * num_read, 1.0), 2)
    return min(max(share, self.smallest), self._largest)


def read_policy(text: str | None) -> decoding.Policy | str | None:
  """Reads NAME or NAME:DIAL, as `pair.write` takes it.

  Raises:
    ValueError: if there is no such policy, or it has no such dial.
  """
  if text is None or text == "worth":
    return text
  name, _, dial = text.partition(":")
  if not dial:
    return decoding.make_policy(name)
  try:
    value = float(dial)
  except ValueError:
    raise ValueError(
        f"policy {text:.60}: {dial!r:.40} is no number: give a dial, as speculative:4"
    ) from None
  policy = decoding.make_policy(name, int(value) if value.is_integer() else value)
  low, high = decoding.POLICIES[name].dial_range
  if not low <= value <= high:
    raise ValueError(f"policy {text:.60}: {dial:.40} is not within {low:g} to {high:g}")
  return policy


def reads_gate(policy: decoding.Policy) -> bool:
  """Returns True if the student's gate decides, so that the budget it reads has an effect."""
  return policy.silenced(jnp.zeros(1)) is not None
