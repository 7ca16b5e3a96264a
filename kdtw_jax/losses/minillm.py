"""MiniLLM: the policy gradient of the reverse KL of whole sequences.

Gu et al. 2023, arXiv 2306.08543. With ℓ_t = log π(y_t|s_t) − log μ(y_t|s_t), on sequences that the
student writes and the teacher at a share a of the tokens (its "teacher-mixed sampling"):

    w_t = π(y_t) / ((1 − a) π(y_t) + a μ(y_t))                importance of token t alone
    L_t = w_t KL(π‖μ)(s_t) + w_t mean_{k>t} ℓ_k · (log π(y_t) − [log π(y_t)])

with w, the mean and the bracket without gradient, so that the second term is 0 and has a gradient.
The first term is its single-step decomposition, the mean its length normalisation.
Its loss on the pre-training corpus is another entry of the stage's losses. Not here: clipping of
the importance of old samples, as every sequence trains one step.

Shape letters: B batch, T target length.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdtw_jax.losses.registry import Written, register_sequence_loss


@register_sequence_loss("minillm")
def minillm(written: Written) -> Float[Array, "B T"]:
  """Computes a loss whose gradient is that of MiniLLM's objective; see the module.

  Args:
    written: the scores of the sequences.

  Returns:
    Nats per token, float32, zero where masked.
  """
  mask = written.mask
  log_probs, teacher = (
      jnp.where(mask, part, 0.0) for part in (written.log_probs, written.teacher_log_probs)
  )
  own = jax.lax.stop_gradient(log_probs)
  excess = own - teacher
  left = jnp.cumsum(mask[:, ::-1], axis=1)[:, ::-1] - mask  # tokens that follow
  follow = jnp.cumsum(excess[:, ::-1], axis=1)[:, ::-1] - excess
  mean_of_rest = follow / jnp.maximum(left, 1)
  mixing = written.teacher_mixing
  importance = 1.0 / ((1.0 - mixing) + mixing * jnp.exp(jnp.minimum(-excess, 80.0)))
  loss = importance * (written.reverse_kl + mean_of_rest * (log_probs - own))
  return jnp.where(mask, loss, 0.0)
