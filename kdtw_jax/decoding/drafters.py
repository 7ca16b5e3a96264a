"""Policies that draft tokens and have the teacher check them: one teacher pass for many tokens.

A round: drafts by the student (or copied: copying.py), then one teacher pass over all, which
says how many stay and writes the token after. Policies differ in when drafting stops, which
drafts stay, and what is drawn where one does not. Records as in askers.py; rounds: drafting.py.

Shape letters: B batch, k drafts, V vocabulary.
"""

from typing import Any, ClassVar, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from kdtw_jax import base
from kdtw_jax.decoding import askers, deferral, gating
from kdtw_jax.decoding import sampling as sampling_lib
from kdtw_jax.decoding.policy import Dial, Observation, Policy, per_row, static
from kdtw_jax.decoding.sampling import Sampling


class Drafts(NamedTuple):
  """What a policy judges: drafts, and what both models say where they stand.

  Attributes:
    tokens: `[B, k]` int32.
    student_logits: `[B, k, V]` float32 the student's, None where `needs_student_logits` is False.
    teacher_logits: `[B, k, V]` float32 the teacher's, given the drafts before.
  """

  tokens: Int[Array, "B k"]
  student_logits: Float[Array, "B k V"] | None
  teacher_logits: Float[Array, "B k V"]


class Drafter(Policy):
  """Base of all policies that draft; the values of greedy speculative decoding.

  Attributes:
    k: static; most drafts of a round.
    bonus: True where the teacher writes a token after drafts that all stay. A policy whose target
      is not the teacher's own distribution has none: its drafts fill the whole pass.
    checks_end: True where a drafted EOS must pass the teacher; False lets it end the row.
    needs_student_logits: True where the student's logits of all drafts are kept.
  """

  k: int
  drafts: ClassVar[bool] = True
  bonus: ClassVar[bool] = True

  @property
  def checks_end(self) -> bool:
    """True: the teacher sees every token."""
    return True

  def needs_student_logits(self, sampling: Sampling) -> bool:
    """Says whether judging needs the student's logits."""
    return False

  def stop(self, seen: Observation, key: Any) -> Bool[Array, " B"]:
    """Says which rows stop drafting and let the teacher write the next token (an ask)."""
    return jnp.zeros(seen.length.shape, bool)

  def stays(self, drafts: Drafts, key: Any, sampling: Sampling) -> Bool[Array, "B k"]:
    """Says which drafts may stay, if all before them stay: here what the teacher would write."""
    return drafts.tokens == jnp.argmax(drafts.teacher_logits, axis=-1)

  def correct(
      self,
      teacher_logits: Float[Array, "B V"],
      student_logits: Float[Array, "B V"] | None,
      refused: Int[Array, " B"],
      key: Any,
      sampling: Sampling,
  ) -> Int[Array, " B"]:
    """Draws the token after the drafts that stay: here the teacher's own choice.

    Args:
      teacher_logits: `[B, V]` the teacher's there.
      student_logits: `[B, V]` the student's there, junk where nothing was refused, or None.
      refused: `[B]` the draft that stood there and may not stay; -1 where there was none.
      key: PRNG key, or None when greedy.
      sampling: how tokens are drawn.

    Returns:
      `[B]` int32 tokens.
    """
    return sampling_lib.choose_token(teacher_logits, key, sampling)


def of_draft(probs: Float[Array, "B k V"], tokens: Int[Array, "B k"]) -> Float[Array, "B k"]:
  """The entry of each draft."""
  return jnp.take_along_axis(probs, tokens[..., None], axis=-1)[..., 0]


def coin(key: Any, like: Array) -> Array:
  """A uniform draw per draft; ½ without a key: greedy probabilities are 0 or 1."""
  return jnp.full(like.shape, 0.5) if key is None else jax.random.uniform(key, like.shape)


def draw_residual(
    target: Float[Array, "B V"],
    q: Float[Array, "B V"],
    refused: Int[Array, " B"],
    key: Any,
    sampling: Sampling,
) -> Int[Array, " B"]:
  """Draws from norm(max(0, target − q)) where a draft was refused, from the target elsewhere."""
  left = jnp.maximum(target - q, 0.0)
  some = (refused >= 0) & (jnp.sum(left, axis=-1) > 0)  # rounding may leave nothing
  left = jnp.where(some[:, None], left, target)
  logits = jnp.where(left > 0, jnp.log(left), base.MASKED_LOGIT)
  if sampling.greedy:
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)
  return jax.random.categorical(key, logits, axis=-1).astype(jnp.int32)


@flax.struct.dataclass
class Speculative(Drafter):
  """Exact speculative decoding: the output is the teacher's own, greedy or drawn.

      keep v with probability min(1, p(v)/q(v)), else draw from norm(max(0, p − q))

  Greedily: keep the drafts that the teacher would have written. Leviathan et al. 2023, arXiv
  2211.17192; Chen et al. 2023, arXiv 2302.01318.

  Attributes:
    k: static draft length, >= 1.
  """

  k: int = static(4)

  name: str = static("speculative")
  dial_name: ClassVar[str | None] = "k"
  whole_dial: ClassVar[bool] = True

  def needs_student_logits(self, sampling: Sampling) -> bool:
    """Needed where tokens are drawn."""
    return not sampling.greedy

  def stays(self, drafts: Drafts, key: Any, sampling: Sampling) -> Bool[Array, "B k"]:
    """Keeps min(1, p/q) of them."""
    if sampling.greedy:
      return Drafter.stays(self, drafts, key, sampling)
    p = of_draft(sampling_lib.distribution(drafts.teacher_logits, sampling), drafts.tokens)
    q = of_draft(sampling_lib.distribution(drafts.student_logits, sampling), drafts.tokens)
    return coin(key, p) * q < p

  def correct(self, teacher_logits, student_logits, refused, key, sampling):
    """Draws from the residual."""
    if sampling.greedy:
      return sampling_lib.choose_token(teacher_logits, key, sampling)
    p, q = (sampling_lib.distribution(x, sampling) for x in (teacher_logits, student_logits))
    return draw_residual(p, q, refused, key, sampling)


@flax.struct.dataclass
class Lenient(Speculative):
  """Speculative decoding that forgives: no token gets more than 1/l of the teacher's probability.

      drawn   keep v with probability min(1, p(v) / (l q(v)))    greedy   keep iff p(v) >= l max p

  Leviathan et al. 2023, arXiv 2211.17192, appendix A.5.

  Attributes:
    lenience: l, 0..1; 1 is exact, 0 keeps everything.
    k: static draft length.
  """

  lenience: Dial = 1.0
  k: int = static(4)

  name: str = static("lenient")
  dial_name: ClassVar[str | None] = "lenience"
  whole_dial: ClassVar[bool] = False

  def stays(self, drafts: Drafts, key: Any, sampling: Sampling) -> Bool[Array, "B k"]:
    """Keeps min(1, p/(l q)) of them."""
    lenience = per_row(self.lenience, drafts.tokens)[:, None]
    if sampling.greedy:
      p = of_draft(jax.nn.log_softmax(drafts.teacher_logits, axis=-1), drafts.tokens)
      best = jnp.max(jax.nn.log_softmax(drafts.teacher_logits, axis=-1), axis=-1)
      return p - best >= jnp.log(lenience)
    p = of_draft(sampling_lib.distribution(drafts.teacher_logits, sampling), drafts.tokens)
    q = of_draft(sampling_lib.distribution(drafts.student_logits, sampling), drafts.tokens)
    return coin(key, p) * lenience * q < p


@flax.struct.dataclass
class Typical(Drafter):
  """Typical acceptance: a draft stays where the teacher finds it likely for how unsure it is.

      keep v iff p(v) > min(ε, √ε · exp(−H(p)))

  The teacher's own choice follows. Cai et al. 2024 (Medusa), arXiv 2401.10774, with their δ = √ε.

  Attributes:
    epsilon: ε, 0..1; 0 keeps everything.
    k: static draft length.
  """

  epsilon: Dial = 0.09
  k: int = static(4)

  name: str = static("typical")
  dial_name: ClassVar[str | None] = "epsilon"

  def stays(self, drafts: Drafts, key: Any, sampling: Sampling) -> Bool[Array, "B k"]:
    """Keeps typical ones."""
    epsilon = per_row(self.epsilon, drafts.tokens)[:, None]
    p = of_draft(jax.nn.softmax(drafts.teacher_logits, axis=-1), drafts.tokens)
    entropy = gating.entropy(drafts.teacher_logits)
    return p > jnp.minimum(epsilon, jnp.sqrt(epsilon) * jnp.exp(-entropy))


@flax.struct.dataclass
class Cascade(Drafter):
  """Speculative cascade: exact speculation towards a mixture that a deferral rule defines.

      π of deferral.py;   keep v with probability min(1, π(v)/q̃(v)), else norm(max(0, π − q̃))

  Narasimhan et al. 2024, arXiv 2405.19261. All k inputs of a pass verify a draft: a bonus token
  would be the teacher's and not π's.

  Attributes:
    lenience: α; 0 defers whenever the rule can, larger keeps more of the student's tokens.
    rule: static; a name in deferral.RULES.
    k: static draft length.
  """

  lenience: Dial = 0.0
  rule: str = static("opt")
  k: int = static(4)

  name: str = static("cascade")
  dial_name: ClassVar[str | None] = "lenience"
  bonus: ClassVar[bool] = False

  def needs_student_logits(self, sampling: Sampling) -> bool:
    """Always."""
    return True

  def _target(self, student_logits: Array, teacher_logits: Array, sampling: Sampling):
    """(π, q̃), both `[B, ..., V]`."""
    q_drawn = sampling_lib.distribution(student_logits, sampling)
    p_drawn = sampling_lib.distribution(teacher_logits, sampling)
    lenience = per_row(self.lenience, q_drawn).reshape(-1, *(1,) * (q_drawn.ndim - 1))
    keep = deferral.RULES[self.rule](
        jax.nn.softmax(student_logits, axis=-1),
        jax.nn.softmax(teacher_logits, axis=-1),
        deferral.total_variation(q_drawn, p_drawn),
        lenience,
    )
    return deferral.target(keep, q_drawn, p_drawn), q_drawn

  def stays(self, drafts: Drafts, key: Any, sampling: Sampling) -> Bool[Array, "B k"]:
    """Keeps min(1, π/q̃) of them."""
    wanted, q = self._target(drafts.student_logits, drafts.teacher_logits, sampling)
    return coin(key, drafts.tokens) * of_draft(q, drafts.tokens) < of_draft(wanted, drafts.tokens)

  def correct(self, teacher_logits, student_logits, refused, key, sampling):
    """Draws from the residual towards π."""
    wanted, q = self._target(student_logits, teacher_logits, sampling)
    return draw_residual(wanted, q, refused, key, sampling)


@flax.struct.dataclass
class Verify(Drafter):
  """Asking that checks as well as writes.

  The student drafts until its rule asks. The teacher pass that the ask pays for scores all tokens
  since the last one too: the first that it would not have written by more than a tolerance is
  taken back, and the teacher writes there. Otherwise it writes the token that was asked for.

      keep v iff log max p − log p(v) <= ρ  (measure "gap"),  or −log p(v) <= ρ  ("surprisal")

  With the rule max_prob and the surprisal it is the Big-Little decoder (Kim et al. 2023, arXiv
  2302.07863): fallback threshold and rollback threshold. With a rule that never asks it is lenient
  speculative decoding.

  Attributes:
    dial: the rule's dial.
    tolerance: ρ in nats; infinity only writes.
    rule: static; a name in askers.RULES.
    k: static; most tokens that go unseen.
    end: static; True has the teacher see the end of the sentence before it counts.
    measure: static; "gap" or "surprisal".
  """

  dial: Dial
  tolerance: Dial = 2.0
  rule: str = static("handover")
  k: int = static(16)
  end: bool = static(True)
  measure: str = static("gap")

  name: str = static("verify")
  dial_name: ClassVar[str | None] = "dial"

  @property
  def draws(self) -> bool:
    """True where the rule draws."""
    return askers.RULES[self.rule](self.dial).draws

  @property
  def checks_end(self) -> bool:
    """As set."""
    return self.end

  def stop(self, seen: Observation, key: Any) -> Bool[Array, " B"]:
    """Asks where the rule does."""
    return askers.RULES[self.rule](self.dial).ask(seen, key)

  def stays(self, drafts: Drafts, key: Any, sampling: Sampling) -> Bool[Array, "B k"]:
    """Keeps what the teacher tolerates."""
    tolerance = per_row(self.tolerance, drafts.tokens)[:, None]
    logits = drafts.teacher_logits
    best = jnp.max(logits, axis=-1) if self.measure == "gap" else jax.nn.logsumexp(logits, axis=-1)
    return best - of_draft(logits, drafts.tokens) <= tolerance
