"""The base of policies that draft tokens and let the teacher check many of them in one pass.

In a round, tokens are drafted by the student or copied. One teacher pass then decides how many stay
and writes the token after them. Policies differ in when drafting stops, which drafts stay, and what
is drawn in place of a rejected one. Not here: the rounds (decoding/drafting.py).

Shape letters: B batch, V vocabulary; k drafts.
"""

from typing import ClassVar, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from kdtw_jax import base
from kdtw_jax.decoding import sampling as sampling_lib
from kdtw_jax.decoding.policies.policy import Observation, Policy, present, static
from kdtw_jax.decoding.sampling import Key, Sampling


class Drafts(NamedTuple):
  """The input of a policy's judgement: drafts, and both models' predictions at their positions.

  Attributes:
    tokens: the drafts.
    student_logits: the student's logits; None if `needs_student_logits` is False.
    teacher_logits: the teacher's logits, given the preceding drafts.
    real: False after the end of the row's draft, where the rest is meaningless.
  """

  tokens: Int[Array, "B k"]
  student_logits: Float[Array, "B k V"] | None
  teacher_logits: Float[Array, "B k V"]
  real: Bool[Array, "B k"]


@flax.struct.dataclass
class Drafter(Policy):
  """Base of all policies that draft, with the rules of greedy speculative decoding.

  Attributes:
    k: most drafts in a round, >= 1, static.
    decides_end: True if `at_end` may let an output end unchecked.
    bonus: True if the teacher writes a token after drafts that all stay. A policy whose target is
      not the teacher's own distribution has no bonus token: its drafts fill the whole pass.
  """

  k: int = static(4)

  drafts: ClassVar[bool] = True
  bonus: ClassVar[bool] = True
  decides_end: ClassVar[bool] = False
  student: ClassVar[str] = "speculative"

  def __post_init__(self):
    super().__post_init__()
    if self.k < 1:
      raise ValueError(f"policy.k={self.k}: a draft needs at least 1 token")

  def keeps_budget(self, sampling: Sampling) -> bool:
    """Returns True if a draft may stay unchecked, of whatever length."""
    return self.needs_student and not self.needs_student_logits(sampling)

  @property
  def reads_worth(self) -> bool:
    """True if it reads `gain` and `expected_calls`."""
    return False

  @property
  def heeds_advice(self) -> bool:
    """True if greedy drafts heed what the last check said of the drafts that it took back."""
    return False

  @property
  def reads_signals(self) -> bool:
    """True if it reads `signals`."""
    return self.reads_worth

  def at_end(self, seen: Observation) -> Float[Array, " B"]:
    """Returns how much a draft that has come to the output's end should be checked.

    Args:
      seen: what is known of the draft, without logits.

    Returns:
      The score: the teacher checks the draft iff it is above 0; else the output ends unchecked.
    """
    return jnp.full(seen.length.shape, jnp.inf)

  def needs_student_logits(self, sampling: Sampling) -> bool:
    """Returns True if judging needs the student's logits of all drafts."""
    return False

  def score(self, seen: Observation, key: Key) -> Float[Array, " B"]:
    """Returns how much to stop drafting and let the teacher write the next token (an ask)."""
    return jnp.full(seen.length.shape, -jnp.inf)

  def propose(
      self, source: Int[Array, "B S"], tokens: Int[Array, "B inputs"], length: Int[Array, " B"]
  ) -> tuple[Int[Array, "B k"], Int[Array, " B"]]:
    """Drafts without a student, for a policy that needs none.

    Args:
      source: the teacher's input.
      tokens: the start token, then the output; stale beyond `length`.
      length: number of output tokens.

    Returns:
      The drafts and their number, which may be 0.
    """
    raise ValueError(f"policy {self.name}: needs a student, or drafts of its own (`propose`)")

  def stays(self, drafts: Drafts, key: Key, sampling: Sampling) -> Bool[Array, "B k"]:
    """Returns which drafts may stay if all before them do: by default, the teacher's choices."""
    return drafts.tokens == jnp.argmax(drafts.teacher_logits, axis=-1)

  def correct(
      self,
      teacher_logits: Float[Array, "B V"],
      student_logits: Float[Array, "B V"] | None,
      refused: Int[Array, " B"],
      key: Key,
      sampling: Sampling,
  ) -> Int[Array, " B"]:
    """Draws the token after the drafts that stay: by default, the teacher's own choice.

    Args:
      teacher_logits: the teacher's logits at that position.
      student_logits: the student's logits there, meaningless if no draft was rejected, or None.
      refused: the rejected draft at that position; -1 if there is none.
      key: PRNG key, or None when greedy.
      sampling: how tokens are drawn.

    Returns:
      Token ids.
    """
    return sampling_lib.choose_token(teacher_logits, key, sampling)


def of_draft(values: Float[Array, "B k V"], tokens: Int[Array, "B k"]) -> Float[Array, "B k"]:
  """Returns the entry of each draft."""
  return jnp.take_along_axis(values, tokens[..., None], axis=-1)[..., 0]


def gaps(drafts: Drafts) -> Float[Array, "B k"]:
  """Returns `log max p − log p(v)`: how far each draft v falls short of the best, nats."""
  best = jnp.max(drafts.teacher_logits, axis=-1)
  return best - of_draft(drafts.teacher_logits, drafts.tokens)


def coin(key: Key, like: Array) -> Array:
  """Returns a uniform draw per draft; without a key ½, as greedy probabilities are 0 or 1."""
  return jnp.full(like.shape, 0.5) if key is None else jax.random.uniform(key, like.shape)


def draw_residual(
    target: Float[Array, "B V"],
    q: Float[Array, "B V"],
    refused: Int[Array, " B"],
    key: Key,
    sampling: Sampling,
) -> Int[Array, " B"]:
  """Draws from norm(max(0, target − q)) where a draft was rejected, else from the target."""
  left = jnp.maximum(target - q, 0.0)
  some = (refused >= 0) & (jnp.sum(left, axis=-1) > 0)  # rounding may leave no mass
  left = jnp.where(some[:, None], left, target)
  logits = jnp.where(left > 0, jnp.log(left), base.MASKED_LOGIT)
  if sampling.greedy:
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)
  return jax.random.categorical(present(key), logits, axis=-1).astype(jnp.int32)
