"""ImitKD: the student imitates what the teacher would write in the states that the student visits.

Lin et al. 2020, arXiv 2009.07253. The paper mixes sequences of the data and of the student by a
share that changes over training; here the share is the stage's `on_policy_fraction`.

Shape letters: B batch, C chunk of positions, V vocabulary.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from kdtw_jax.base import ArrayLike
from kdtw_jax.losses.distillation import taken_log_probs
from kdtw_jax.losses.registry import register_loss


@register_loss("teacher_choice")
def teacher_choice(
    teacher_logits: Float[ArrayLike, "B C V"],
    student_logits: Float[ArrayLike, "B C V"],
    tokens: Int[ArrayLike, "B C"] | None = None,
) -> Float[Array, "B C"]:
  """Computes the cross-entropy of the teacher's own choice at each state.

      −log π(argmax_v μ_v)

  Args:
    teacher_logits: logits of μ.
    student_logits: logits of π.
    tokens: not read.

  Returns:
    Nats per token, float32.
  """
  del tokens
  return -taken_log_probs(student_logits, jnp.argmax(jnp.asarray(teacher_logits), axis=-1))
