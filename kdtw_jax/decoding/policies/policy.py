"""What every policy is: its static structure, what it sees, and its one question.

A policy is a frozen record. Its dial is a traced leaf, a scalar or one value per row `[B]`, so that
one compiled decoder serves a whole sweep; what changes the compiled program (which models run, how
often) is static. Not here: policies that draft and check (drafter.py), names (registry.py).

Shape letters: B batch, V vocabulary.
"""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, TypeVar

import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from kdtw_jax.decoding.sampling import Key

Dial = Any  # a float or an array, scalar or [B]; pytree transforms put other things there
Never = float | Callable[[int], float] | None  # a dial; a function of V to one; there is none
T = TypeVar("T")


class Observation(NamedTuple):
  """What a policy sees before a token is written.

  Attributes:
    logits: float32, the student's for the next token.
    gate_logits: float32, the student's log-odds of asking.
    teacher_logits: float32 for a policy with `teacher_every_step`, else None.
    length: int32, tokens emitted so far.
    asks: int32, asks so far.
    run: int32, tokens that the teacher has written without a break up to here.
    budget: float32, allowed share of asks.
  """

  logits: Float[Array, "B V"]
  gate_logits: Float[Array, " B"]
  teacher_logits: Float[Array, "B V"] | None
  length: Int[Array, " B"]
  asks: Int[Array, " B"]
  run: Int[Array, " B"]
  budget: Float[Array, " B"]


def static(default: Any) -> Any:
  """A field that is part of the compiled program, not an argument of it."""
  return flax.struct.field(pytree_node=False, default=default)


@flax.struct.dataclass
class Policy:
  """Base of all policies: what the loop and the sweeps read, with the values of a plain asker.

  `name` is a static field and not a class attribute for a reason: jax compares the tree structures
  of registered dataclasses by their static fields alone, not by their type (jax 0.10.2), so that
  two policies without a distinguishing field may be served each other's compiled program.

  Attributes:
    name: in configs, metrics and plots; of a policy made without the registry its class's.
    needs_student: True where the student runs.
    needs_teacher: True where the teacher may run.
    teacher_every_step: True where the teacher consumes every input as soon as it exists.
    drafts: True for a drafter.Drafter: tokens are drafted and the teacher verifies them.
    dial_name: the field that a sweep sets, None for a policy without one.
    whole_dial: True where the dial is static and a whole number: each value is its own program.
    dials: settings that a sweep takes by default; () for a policy that no evaluation sweeps.
    never: the dial at which it never asks, a number or a function of V; None where there is none.
    student: the method whose choice of student it shares; "" for one that chooses for itself.
    source: where it was published.
  """

  name: str = flax.struct.field(pytree_node=False, default="", kw_only=True)

  needs_student: ClassVar[bool] = True
  needs_teacher: ClassVar[bool] = True
  teacher_every_step: ClassVar[bool] = False
  drafts: ClassVar[bool] = False
  dial_name: ClassVar[str | None] = None
  whole_dial: ClassVar[bool] = False
  dials: ClassVar[tuple[float, ...]] = ()
  never: ClassVar[Never] = None
  student: ClassVar[str] = ""
  source: ClassVar[str] = ""

  def __post_init__(self):
    if not self.name:
      kind = type(self)
      object.__setattr__(self, "name", f"{kind.__module__}.{kind.__qualname__}")

  @property
  def catches_up(self) -> bool:
    """True where the teacher reads nothing until a row asks, then all that it has missed."""
    return (
        self.needs_student
        and self.needs_teacher
        and not self.teacher_every_step
        and not self.drafts
    )

  @property
  def draws(self) -> bool:
    """True where `ask` reads its key."""
    return False

  def silenced(self, budget: Float[Array, " B"]) -> Bool[Array, " B"] | None:
    """Says which rows may never call the teacher, whatever the state; None: no budget does that."""
    return None

  def ask(self, seen: Observation, key: Key) -> Bool[Array, " B"]:
    """Says which rows let the teacher write the next token.

    Args:
      seen: what is known before the token is written.
      key: PRNG key, or None where the policy does not draw.

    Returns:
      True where the action is `<τ>`; the loop applies the cap and drops finished rows.
    """
    raise ValueError(f"policy {self.name}: does not choose who writes each token")


def present(value: T | None) -> T:
  """What the loop gives wherever the policy's static structure says that it is read."""
  assert value is not None
  return value


def per_row(dial: Dial, like: Array) -> Float[Array, " B"]:
  """Spreads a scalar or `[B]` dial over the rows of `like` `[B, ...]`."""
  return jnp.broadcast_to(jnp.asarray(dial, jnp.float32), like.shape[:1])
