"""Token-level distillation losses on the logits of teacher and student.

Not here: sequence-level distillation (`path_consistency.py`), reductions over tokens.

μ is the teacher's distribution and π the student's, both over V entries at each position. Names and
formulas give the direction of each divergence. Vocabulary entries that a model may never emit (the
`<τ>` row) hold `base.MASKED_LOGIT`: their zero probability gives zero terms and zero gradients,
never NaN. All arithmetic is in float32, whatever the dtype of the logits.

Shape letters: B batch, C chunk of positions, V vocabulary.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from kdtw_jax.base import MASKED_LOGIT, ArrayLike
from kdtw_jax.distributions import log_softmax


def taken_log_probs(
    logits: Float[ArrayLike, "B C V"], tokens: Int[ArrayLike, "B C"]
) -> Float[Array, "B C"]:
  """Computes the log-probability of the token at each position.

      log π(y_t|s_t) = z_{y_t} − logsumexp(z)

  Args:
    logits: logits z.
    tokens: ids in 0..V−1.

  Returns:
    Nats per token, float32.
  """
  logits = jnp.asarray(logits).astype(jnp.float32)
  # Subtracting the maximum from both terms keeps the digits of their difference for huge logits.
  logits = logits - jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
  taken = jnp.take_along_axis(logits, jnp.asarray(tokens)[..., None], axis=-1)[..., 0]
  return taken - jax.nn.logsumexp(logits, axis=-1)


def cross_entropy(
    logits: Float[ArrayLike, "B C V"],
    targets: Int[ArrayLike, "B C"],
    *,
    label_smoothing: float = 0.0,
) -> Float[Array, "B C"]:
  """Computes the cross-entropy of target tokens, with label smoothing over unmasked entries.

      −(1 − ε) log π(y) − ε mean_{v not masked} log π(v)

  Label smoothing: Szegedy et al. 2015, arXiv 1512.00567.

  Args:
    logits: logits of π; the smoothing leaves out entries at MASKED_LOGIT.
    targets: ids of the targets y.
    label_smoothing: ε, 0 <= ε < 1.

  Returns:
    Nats per token, float32.

  Raises:
    ValueError: if label_smoothing is out of range.
  """
  if not 0.0 <= label_smoothing < 1.0:
    raise ValueError(f"label_smoothing={label_smoothing}: must be >= 0 and < 1")
  nats = -taken_log_probs(logits, targets)
  if label_smoothing == 0.0:
    return nats
  logits = jnp.asarray(logits).astype(jnp.float32)
  open_entries = logits > 0.5 * MASKED_LOGIT
  log_probs = jnp.where(open_entries, jax.nn.log_softmax(logits, axis=-1), 0.0)
  uniform = -jnp.sum(log_probs, axis=-1) / jnp.sum(open_entries, axis=-1)
  return (1.0 - label_smoothing) * nats + label_smoothing * uniform


def forward_kl(
    teacher_logits: Float[ArrayLike, "B C V"], student_logits: Float[ArrayLike, "B C V"]
) -> Float[Array, "B C"]:
  """Computes the KL from teacher to student, which covers everything the teacher may say.

      KL(μ‖π) = Σ_v μ_v (log μ_v − log π_v)

  Hinton et al. 2015, arXiv 1503.02531.

  Args:
    teacher_logits: logits of μ.
    student_logits: logits of π.

  Returns:
    Nats per token, float32.
  """
  return divergence(log_softmax(teacher_logits), log_softmax(student_logits))


def reverse_kl(
    teacher_logits: Float[ArrayLike, "B C V"], student_logits: Float[ArrayLike, "B C V"]
) -> Float[Array, "B C"]:
  """Computes the KL from student to teacher, which seeks only what the teacher may say.

      KL(π‖μ) = Σ_v π_v (log π_v − log μ_v)

  Gu et al. 2023, arXiv 2306.08543. Summed along the student's own sequences, it is the
  sequence-level objective of path consistency at α = γ = 1.

  Args:
    teacher_logits: logits of μ.
    student_logits: logits of π.

  Returns:
    Nats per token, float32.
  """
  return divergence(log_softmax(student_logits), log_softmax(teacher_logits))


def generalized_jsd(
    teacher_logits: Float[ArrayLike, "B C V"],
    student_logits: Float[ArrayLike, "B C V"],
    *,
    beta: float,
) -> Float[Array, "B C"]:
  """Computes the generalised Jensen-Shannon divergence, between forward and reverse KL.

      JSD_β = β KL(μ‖m) + (1 − β) KL(π‖m),    m = β μ + (1 − β) π

  Agarwal et al. 2023, arXiv 2306.13649. JSD_β/β → KL(μ‖π) as β → 0, and
  JSD_β/(1−β) → KL(π‖μ) as β → 1; at β = ½ it is symmetric and at most log 2.

  Args:
    teacher_logits: logits of μ.
    student_logits: logits of π.
    beta: weight β of the teacher in the mixture, 0 < β < 1.

  Returns:
    Nats per token, float32.

  Raises:
    ValueError: if beta is out of range.
  """
  if not 0.0 < beta < 1.0:
    raise ValueError(f"beta={beta}: must lie between 0 and 1; the ends are forward_kl, reverse_kl")
  teacher = log_softmax(teacher_logits)
  student = log_softmax(student_logits)
  mixture = jnp.logaddexp(jnp.log(beta) + teacher, jnp.log1p(-beta) + student)
  return beta * divergence(teacher, mixture) + (1.0 - beta) * divergence(student, mixture)


def divergence(log_p: Float[Array, "B C V"], log_q: Float[Array, "B C V"]) -> Float[Array, "B C"]:
  """Returns KL(p‖q) = Σ_v p_v (log p_v − log q_v), nats per token."""
  return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)
