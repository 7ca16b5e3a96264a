"""What every policy is: its static structure, what it sees, and its one question.

Not here: the policies themselves (policies.py), the loop (loop.py).
Shape letters: B batch, V vocabulary.
"""

from typing import Any, ClassVar, NamedTuple

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
    budget: `[B]` float32: allowed share of asks.
  """

  logits: Float[Array, "B V"]
  gate_logits: Float[Array, " B"]
  teacher_logits: Float[Array, "B V"] | None
  length: Int[Array, " B"]
  asks: Int[Array, " B"]
  budget: Float[Array, " B"]


class Policy:
  """Base of all policies: the static structure, with the values of a plain asking policy.

  Attributes:
    name: name in configs, metrics and plots; every policy has it as a static field of its record.
    dial_name: name of the dial, None for a policy without one.
    needs_student: True where the student runs.
    needs_teacher: True where the teacher may run.
    teacher_every_step: True where the teacher consumes every input as soon as it exists.
    drafts: True where the student drafts `draft_length` tokens and the teacher verifies them.
  """

  name: str
  dial_name: ClassVar[str | None] = None
  needs_student: ClassVar[bool] = True
  needs_teacher: ClassVar[bool] = True
  teacher_every_step: ClassVar[bool] = False
  drafts: ClassVar[bool] = False

  @property
  def draft_length(self) -> int:
    """Tokens drafted before a verification; 0 for a policy that writes token by token."""
    return 0

  @property
  def catches_up(self) -> bool:
    """True where the teacher reads nothing until a row asks, then all that it has missed."""
    return (self.needs_student and self.needs_teacher and not self.teacher_every_step
            and not self.drafts)

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
