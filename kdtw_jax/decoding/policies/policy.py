"""The base of all policies: a policy's static structure, its input and its decision.

A policy is a frozen record. Its dial is a traced leaf, a scalar or one value per row `[B]`, so that
one compiled decoder serves a whole sweep. Whatever changes the compiled program (which models run,
and how often) is static. Not here: policies that draft and check (drafter.py), names (registry.py).

Shape letters: B batch, V vocabulary.
"""

from collections.abc import Callable
import math
from typing import Any, ClassVar, NamedTuple, TypeVar

import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from kdtw_jax.decoding.sampling import Key, Sampling

Dial = Any  # a float or an array, scalar or [B]; pytree transforms may put anything there
Never = float | Callable[[int], float] | None  # a dial, a function from V to a dial, or none
T = TypeVar("T")


class Observation(NamedTuple):
  """The input of a policy's decision, before a token is written.

  Attributes:
    logits: the student's logits for the next token.
    gate_logits: the student's log-odds of asking.
    teacher_logits: the teacher's logits for a policy with `teacher_every_step`, else None.
    length: number of tokens emitted so far.
    asks: number of asks so far; for a drafter, of calls.
    run: number of consecutive tokens up to here that the teacher wrote.
    budget: allowed share of asks.
    signals: for a drafter with `reads_signals`, what it has drafted since the last check, as in
      signals.NAMES; else None.
    gain: for a drafter with `reads_worth`, the expected gain of help from here, nats; else None.
    expected_calls: for the same, the calls that it is expected to take.
  """

  logits: Float[Array, "B V"]
  gate_logits: Float[Array, " B"]
  teacher_logits: Float[Array, "B V"] | None
  length: Int[Array, " B"]
  asks: Int[Array, " B"]
  run: Int[Array, " B"]
  budget: Float[Array, " B"]
  signals: Float[Array, "B F"] | None = None
  gain: Float[Array, " B"] | None = None
  expected_calls: Float[Array, " B"] | None = None


def static(default: Any) -> Any:
  """Returns a field that is compiled into the program instead of being one of its arguments."""
  return flax.struct.field(pytree_node=False, default=default)


@flax.struct.dataclass
class Policy:
  """Base of all policies, with what the loop and the sweeps read; the defaults ask token by token.

  `name` is a static field and not a class attribute because jax compares the tree structures of
  registered dataclasses by their static fields alone, not by their type (jax 0.10.2). Two policies
  without a distinguishing field could be served each other's compiled program.

  Attributes:
    name: its name in configs, metrics and plots; the class's name if made without the registry.
    needs_student: True if the student runs.
    needs_teacher: True if the teacher may run.
    teacher_every_step: True if the teacher consumes every input as soon as it exists.
    drafts: True for a drafter.Drafter: tokens are drafted and the teacher verifies them.
    dial_name: the field that a sweep sets; None for a policy without a dial.
    whole_dial: True if the dial is static and a whole number; each value has its own program.
    dials: values that a sweep takes by default; () for a policy that evaluation does not sweep.
    dial_range: smallest and largest dial that a sweep may take.
    pace: the unit of κ for its paced budgets: score per ask, about the spread of its scores.
    never: the dial at which it never asks, a number or a function of V; None if there is none.
    student: the method whose choice of student it shares; `handover` for one that reads heads of
      the pair's student; "" for one that chooses for itself.
    source: its publication.
  """

  name: str = flax.struct.field(pytree_node=False, default="", kw_only=True)

  needs_student: ClassVar[bool] = True
  needs_teacher: ClassVar[bool] = True
  teacher_every_step: ClassVar[bool] = False
  drafts: ClassVar[bool] = False
  dial_name: ClassVar[str | None] = None
  whole_dial: ClassVar[bool] = False
  dials: ClassVar[tuple[float, ...]] = ()
  dial_range: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
  pace: ClassVar[float] = 1.0
  never: ClassVar[Never] = None
  student: ClassVar[str] = ""
  source: ClassVar[str] = ""

  def __post_init__(self):
    if not self.name:
      kind = type(self)
      object.__setattr__(self, "name", f"{kind.__module__}.{kind.__qualname__}")

  @property
  def catches_up(self) -> bool:
    """True if the teacher reads nothing until a row asks, then all that it has missed."""
    return (
        self.needs_student
        and self.needs_teacher
        and not self.teacher_every_step
        and not self.drafts
    )

  @property
  def draws(self) -> bool:
    """True if `score` uses its key."""
    return False

  def keeps_budget(self, sampling: Sampling) -> bool:
    """Returns True if the student can write on wherever a budget refuses a call."""
    return self.catches_up

  def silenced(self, budget: Float[Array, " B"]) -> Bool[Array, " B"] | None:
    """Returns the rows whose budget forbids every call to the teacher; None if no budget does."""
    return None

  def score(self, seen: Observation, key: Key) -> Float[Array, " B"]:
    """Returns how much the teacher should write the next token: the row asks iff it is above 0.

    Args:
      seen: what is known before the token is written.
      key: PRNG key, or None if the policy does not draw.

    Returns:
      The score, in units of the policy's own; pacing subtracts from it (budgets.py), and may not
      change an infinite one. The loop applies promises and drops finished rows.
    """
    raise ValueError(f"policy {self.name}: does not choose who writes each token")


def present(value: T | None) -> T:
  """Returns a value that the loop provides whenever the policy's static structure needs it."""
  assert value is not None
  return value


def per_row(dial: Dial, like: Array) -> Float[Array, " B"]:
  """Broadcasts a scalar or `[B]` dial to the rows of `like` `[B, ...]`."""
  return jnp.broadcast_to(jnp.asarray(dial, jnp.float32), like.shape[:1])
