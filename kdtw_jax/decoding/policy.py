"""What every policy is: its static structure, what it sees, and its one question.

Not here: the policies themselves (policies.py), the loop (loop.py).
Shape letters: B batch, V vocabulary.
"""

from typing import Any, ClassVar, NamedTuple

import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

Dial = Any  # float or array, scalar or [B]


class Observation(NamedTuple):
  """What a policy sees before a token is written.

  Attributes:
    logits: `[B, V]` float32: the student's next-token logits.
    gate_logits: `[B]` float32: the student's log-odds of asking.
    teacher_logits: `[B, V]` float32 for a policy with `teacher_every_step`, else None.
    length: `[B]` int32: tokens emitted so far.
    asks: `[B]` int32: asks so far.
    run: `[B]` int32: tokens that the teacher has written without a break up to here.
    budget: `[B]` float32: allowed share of asks.
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


class Policy:
  """Base of all policies: the static structure, with the values of a plain asking policy.

  `name` is a static field and not a class attribute for a reason: jax compares the tree structures
  of registered dataclasses by their static fields alone, not by their type (jax 0.10.2), so that
  two policies without a distinguishing field may be served each other's compiled program.

  Attributes:
    name: name in configs, metrics and plots; every policy has it as a static field of its record.
    dial_name: name of the dial, None for a policy without one.
    needs_student: True where the student runs.
    needs_teacher: True where the teacher may run.
    teacher_every_step: True where the teacher consumes every input as soon as it exists.
    drafts: True for a drafters.Drafter: tokens are drafted and the teacher verifies them.
    whole_dial: True where the dial is static and a whole number: each value is its own program.
  """

  name: str
  dial_name: ClassVar[str | None] = None
  needs_student: ClassVar[bool] = True
  needs_teacher: ClassVar[bool] = True
  teacher_every_step: ClassVar[bool] = False
  drafts: ClassVar[bool] = False
  whole_dial: ClassVar[bool] = False

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

  def ask(self, seen: Observation, key: Any) -> Bool[Array, " B"]:
    """Says which rows let the teacher write the next token.

    Args:
      seen: what is known before the token is written.
      key: PRNG key, or None where the policy does not draw.

    Returns:
      `[B]` True where the action is `<τ>`; the loop applies the cap and drops finished rows.
    """
    raise ValueError(f"policy {self.name}: does not choose who writes each token")


def per_row(dial: Dial, like: Array) -> Float[Array, " B"]:
  """Spreads a scalar or `[B]` dial over the rows of `like` `[B, ...]`."""
  return jnp.broadcast_to(jnp.asarray(dial, jnp.float32), like.shape[:1])
