"""DistiLLM: divergences from a mixture of both models, which has no zeros to divide by.

Ko et al. 2024, arXiv 2402.03898. Not here: its replay buffer of the student's sequences and the
schedule that fills it; on-policy rows are written anew at each step.

Shape letters: B batch, C chunk of positions, V vocabulary.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from kdtw_jax.base import ArrayLike
from kdtw_jax.distributions import log_softmax
from kdtw_jax.losses.distillation import divergence
from kdtw_jax.losses.registry import register_loss


@register_loss("skew_kl")
def skew_kl(
    teacher_logits: Float[ArrayLike, "B C V"],
    student_logits: Float[ArrayLike, "B C V"],
    tokens: Int[ArrayLike, "B C"] | None = None,
    *,
    skew: float = 0.1,
) -> Float[Array, "B C"]:
  """Computes the KL from the teacher to a mixture with the student.

      KL(μ ‖ σ μ + (1 − σ) π)

  Args:
    teacher_logits: logits of μ.
    student_logits: logits of π.
    tokens: not read.
    skew: weight σ of μ in the mixture, 0 < σ < 1; `forward_kl` is its limit at 0.

  Returns:
    Nats per token, float32; at most −log σ.

  Raises:
    ValueError: if skew is out of range.
  """
  del tokens
  teacher, student = log_softmax(teacher_logits), log_softmax(student_logits)
  return divergence(teacher, _mixture(teacher, student, skew))


@register_loss("skew_reverse_kl")
def skew_reverse_kl(
    teacher_logits: Float[ArrayLike, "B C V"],
    student_logits: Float[ArrayLike, "B C V"],
    tokens: Int[ArrayLike, "B C"] | None = None,
    *,
    skew: float = 0.1,
) -> Float[Array, "B C"]:
  """Computes the KL from the student to a mixture with the teacher.

      KL(π ‖ (1 − σ) μ + σ π)

  Args:
    teacher_logits: logits of μ.
    student_logits: logits of π.
    tokens: not read.
    skew: weight σ of π in the mixture, 0 < σ < 1; `reverse_kl` is its limit at 0.

  Returns:
    Nats per token, float32; at most −log σ.

  Raises:
    ValueError: if skew is out of range.
  """
  del tokens
  teacher, student = log_softmax(teacher_logits), log_softmax(student_logits)
  return divergence(student, _mixture(student, teacher, skew))


def _mixture(
    log_p: Float[Array, "B C V"], log_q: Float[Array, "B C V"], skew: float
) -> Float[Array, "B C V"]:
  """Computes log(σ p + (1 − σ) q)."""
  if not 0.0 < skew < 1.0:
    raise ValueError(f"skew={skew}: must lie between 0 and 1; at 0 it is forward_kl, or reverse_kl")
  return jnp.logaddexp(jnp.log(skew) + log_p, jnp.log1p(-skew) + log_q)
