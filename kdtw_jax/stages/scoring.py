"""What both stages of path consistency know of each token, and the terms that they share.

Not here: what a stage adds to them (`distillation.py`, `wheels.py`), the losses themselves.

Shape letters: B batch, T target length.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float
import ml_collections
import optax

from kdtw_jax import distributions, losses
from kdtw_jax.base import PAD_ID, ArrayLike, Batch, Params, Trajectory
from kdtw_jax.models import Models, shift_right

Terms = dict[str, Float[Array, ""]]


class Scores(NamedTuple):
  """Every token of a batch of trajectories as both models see it; float32, nats.

  Attributes:
    mask: True for tokens of real rows, EOS included.
    log_probs: log π_LM of the emitted token.
    teacher_log_probs: log μ of it, without gradient.
    teacher_entropies: entropy of μ at its state, without gradient.
    values: V of its state, by the stage's kind of value.
    cost_values: V_C of its state: asks still to come.
    budgets: the budget that the student reads in its instruction, a share.
    token_losses: of each loss that the stage weighs.
    difficulties: what an ask would gain there, without gradient; zeros where nobody may ask.
    gate_logits: log-odds of asking; zeros where nobody may ask.
  """

  mask: Bool[Array, "B T"]
  log_probs: Float[Array, "B T"]
  teacher_log_probs: Float[Array, "B T"]
  teacher_entropies: Float[Array, "B T"]
  values: Float[Array, "B T"]
  cost_values: Float[Array, "B T"]
  budgets: Float[Array, " B"]
  token_losses: dict[str, Float[Array, "B T"]]
  difficulties: Float[Array, "B T"]
  gate_logits: Float[Array, "B T"]


def score(
    models: Models,
    stage: ml_collections.ConfigDict,
    params: Params,
    teacher_params: Params,
    trajectory: Trajectory,
    prices: Float[Array, " B"] | None = None,
) -> Scores:
  """Scores trajectories; logits are in memory for `stage.readout_chunk` positions at a time.

  Args:
    models: student and teacher.
    stage: the section `distillation` or `wheels` of the config.
    params: the student's parameters.
    teacher_params: the teacher's parameters.
    trajectory: the sequences.
    prices: λ of each row's budget, nats per ask; None where nobody may ask.

  Returns:
    The scores.
  """
  student, teacher = models
  may_ask = prices is not None
  if prices is None:
    prices = jnp.zeros_like(trajectory.budget)
  inputs = shift_right(trajectory.tokens)
  encoded = student.encode(params, trajectory.student_source)
  hidden = student.hidden(params, encoded, inputs)
  values, cost_values = student.values(params, hidden, prices)
  teacher_hidden = teacher.hidden(
      teacher_params, teacher.encode(teacher_params, trajectory.teacher_source), inputs
  )
  token_losses = losses.weighted_losses(stage.losses.to_dict())

  def per_token(hidden, teacher_hidden, tokens) -> dict:
    logits = student.logits(params, hidden)
    teacher_logits = jax.lax.stop_gradient(teacher.logits(teacher_params, teacher_hidden))
    found = {
        "log_probs": losses.taken_log_probs(logits, tokens),
        "teacher_log_probs": losses.taken_log_probs(teacher_logits, tokens),
        "teacher_entropies": distributions.entropy(teacher_logits),
        "token_losses": {
            name: loss(teacher_logits, logits, tokens) for name, (_, loss) in token_losses.items()
        },
    }
    gate_logits = None
    if may_ask:
      gate_logits = student.gate_logits(params, logits, hidden, prices)
      by_kl = stage.gate_credit == "expected_kl"
      difficulty = losses.reverse_kl if by_kl else distributions.log_prob_gap
      found["gate_logits"] = gate_logits
      found["difficulties"] = jax.lax.stop_gradient(difficulty(teacher_logits, logits))
    if stage.value == "logsumexp":
      found["values"] = losses.logsumexp_values(
          logits,
          None if gate_logits is None else credited(stage, gate_logits),
          alpha=stage.alpha,
          gate_alpha=student.config.gate_alpha,
      )
    return found

  found = losses.over_sequence_chunks(
      per_token, hidden, teacher_hidden, trajectory.tokens, chunk_size=stage.readout_chunk
  )
  real_rows = (trajectory.example_id >= 0)[:, None]
  return Scores(
      **{
          "mask": (trajectory.tokens != PAD_ID) & real_rows,
          "values": values,
          "cost_values": cost_values,
          "budgets": student.budget(params, encoded),
          "difficulties": jnp.zeros_like(values),
          "gate_logits": jnp.zeros_like(values),
          **found,
      }
  )


def credited(
    stage: ml_collections.ConfigDict, gate_logits: Float[Array, "B C"]
) -> Float[Array, "B C"]:
  """The gate logits as path consistency sees them: it moves them for sampled credit alone."""
  sampled = stage.gate_credit == "sampled"
  return gate_logits if sampled else jax.lax.stop_gradient(gate_logits)


def consistency_terms(
    stage: ml_collections.ConfigDict,
    scores: Scores,
    trajectory: Trajectory,
    *,
    rewards: Float[Array, "B T"],
    entropies: Float[Array, "B T"],
    asked: Bool[ArrayLike, "B T"],
) -> tuple[Terms, Terms]:
  """Path consistency on the trajectories, and the terms that go with it.

  Args:
    stage: the section of the config.
    scores: of the trajectories.
    trajectory: the sequences.
    rewards: what each action earns, nats.
    entropies: α log π of each action, with gradient.
    asked: True where the action was `<τ>`.

  Returns:
    Terms of the loss by the name of their weight, and metrics.
  """
  errors, valid = losses.path_consistency_error(
      scores.values,
      rewards,
      entropies,
      scores.mask,
      trajectory.ended,
      gamma=stage.gamma,
      segment_length=stage.segment_length or None,
      stop_bootstrap=stage.stop_bootstrap,
      asked=asked,
  )
  terms = {
      "path_consistency": losses.token_mean(
          losses.path_consistency_loss(errors, valid, huber=stage.huber or None), valid
      ),
      **{n: losses.token_mean(loss, scores.mask) for n, loss in scores.token_losses.items()},
      "budget_loss": budget_error(scores.budgets, trajectory),
  }
  own = scores.mask & trajectory.on_policy[:, None] & ~asked
  metrics = {
      "reverse_kl": losses.token_mean(scores.log_probs - scores.teacher_log_probs, own),
      "residual": jnp.sqrt(losses.token_mean(errors**2, valid)),
  }
  return terms, metrics


def budget_error(budgets: Float[Array, " B"], batch: Batch | Trajectory) -> Float[Array, ""]:
  """Mean error of the budgets that the student reads, per real row; 0.1 of a budget is a unit."""
  rows = (batch.example_id >= 0).astype(jnp.float32)
  errors = optax.huber_loss(10.0 * budgets, 10.0 * batch.budget)
  return jnp.sum(errors * rows) / jnp.maximum(jnp.sum(rows), 1.0)


def weighted_sum(stage: ml_collections.ConfigDict, terms: Terms) -> Float[Array, ""]:
  """The loss: each term by its weight, a field of the stage or of its `losses`."""
  weighted = (
      (stage.losses[name].weight if name in stage.losses else stage[name]) * term
      for name, term in terms.items()
  )
  return sum(weighted, start=jnp.zeros(()))
