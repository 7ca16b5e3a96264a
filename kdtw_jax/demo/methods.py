"""The methods that the page's switch offers, and what they ask of the engine.

Not here: how they write (serving/engine.py) and look (markup.py, page.py).
"""

from typing import NamedTuple

from kdtw_jax.orders import Order, read_policy
from kdtw_jax.pair import Pair
from kdtw_jax.serving.engine import Engine

FORMS = {
    "share": "on average, as learned",
    "paced": "on average, steered over all texts here",
    "hard": "in every output",
    "prefix": "in every output, at every token",
    "ledger": "over all texts here together",
}  # where the page says that a budget holds; calls are stated in words


class Method(NamedTuple):
  """One way to write.

  Attributes:
    title: what the page calls it.
    policy: who decides, as `read_policy` reads it.
    budget: the budget of a method that has only one; None if people choose it.
    free: True if people choose the budget.
  """

  title: str
  policy: str | None = None
  budget: int | None = None
  free: bool = False


METHODS = {
    "gate": Method("Student asks", free=True),
    "worth": Method("Student has drafts checked", "worth", free=True),
    "speculative": Method("Speculation", "speculative:4"),
    "student": Method("Student alone", budget=0),
    "teacher": Method("Teacher alone", "teacher"),
}
COMPARED = ("student", "speculative", "teacher")  # unless people choose others


def offered(pair: Pair) -> dict[str, Method]:
  """Returns the methods that a pair has: `worth` is a stage that may have been left out."""
  return {name: found for name, found in METHODS.items() if name != "worth" or pair.prices}


def largest(pair: Pair) -> float:
  """Returns the largest share that a pair was trained for."""
  return max(pair.config["budgets"]["train"])


def order(engine: Engine, name: str, budget: float | str, form: str) -> Order:
  """Makes the order of a method; budget and form matter where people choose them.

  Raises:
    ValueError: if the pair cannot keep the budget.
  """
  method = METHODS[name]
  if method.free:
    return engine.order(budget, form, read_policy(method.policy))
  return engine.order(method.budget, "share", read_policy(method.policy))
