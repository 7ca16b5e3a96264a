"""The scores of each token and the loss terms that both stages of path consistency share.

Not here: what a stage adds to them (`distillation.py`, `wheels.py`), and the losses themselves.

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
from kdtw_jax.stages.teacher_scores import teacher_logits

Terms = dict[str, losses.Mean]


class Scores(NamedTuple):
  """Both models' scores of every token of a batch of trajectories; float32, nats.

  Attributes:
    mask: True for tokens of real rows, EOS included.
    log_probs: log π_LM of the emitted token.
    teacher_log_probs: log μ of the emitted token, without gradient.
    teacher_entropies: entropy of μ at the token's state, without gradient.
    values: V of the token's state, of the kind that the stage sets.
    cost_values: V_C of the token's state: expected asks still to come.
    budgets: the budget that the student reads in its instruction, a share; None for a gate without
      a price, which reads none.
    token_losses: the values of each loss with a weight in the stage.
    expected_rewards: the immediate term in expectation over π; zeros if the stage samples it.
    difficulties: what an ask would gain there, without gradient; zeros if nobody may ask.
    gate_logits: log-odds of asking; zeros if nobody may ask.
  """

  mask: Bool[Array, "B T"]
  log_probs: Float[Array, "B T"]
  teacher_log_probs: Float[Array, "B T"]
  teacher_entropies: Float[Array, "B T"]
  values: Float[Array, "B T"]
  cost_values: Float[Array, "B T"]
  budgets: Float[Array, " B"] | None
  token_losses: dict[str, Float[Array, "B T"]]
  expected_rewards: Float[Array, "B T"]
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
  """Scores trajectories, holding logits of `stage.readout_chunk` positions in memory at a time.

  Args:
    models: student and teacher.
    stage: the section `distillation` or `wheels` of the config.
    params: the student's parameters.
    teacher_params: the teacher's parameters; not read if the trajectory has its scores.
    trajectory: the sequences.
    prices: λ of each row's budget, nats per ask; None if nobody may ask.

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
  states, teacher_logits_of = teacher_logits(teacher, teacher_params, trajectory, trajectory.tokens)
  known = losses.weighted_losses(stage.losses.to_dict())
  token_losses = {name: loss.fn for name, loss in known.items() if not loss.of_sequences}
  of_sequences = {name: loss.fn for name, loss in known.items() if loss.of_sequences}
  floor = losses.highest_clip_floor(student.config.vocab_size)

  def per_token(hidden, tokens, *states) -> dict:
    logits = student.logits(params, hidden)
    others = teacher_logits_of(*states, tokens, logits)
    found = {
        "log_probs": losses.taken_log_probs(logits, tokens),
        "teacher_log_probs": losses.taken_log_probs(others, tokens),
        "teacher_entropies": distributions.entropy(others),
        "token_losses": {name: loss(others, logits, tokens) for name, loss in token_losses.items()},
    }
    if of_sequences:
      found["reverse_kl"] = losses.reverse_kl(others, logits)
    if is_expected(stage):
      found["expected_rewards"] = losses.expected_rewards(
          others, logits, alpha=stage.alpha, floor=floor
      )
    gate_logits = None
    if may_ask:
      gate_logits = student.gate_logits(params, logits, hidden, prices)
      by_kl = stage.gate_credit == "expected_kl"
      difficulty = losses.reverse_kl if by_kl else distributions.log_prob_gap
      found["gate_logits"] = gate_logits
      found["difficulties"] = jax.lax.stop_gradient(difficulty(others, logits))
    if stage.value == "logsumexp":
      found["values"] = losses.logsumexp_values(
          logits,
          None if gate_logits is None else credited(stage, gate_logits),
          alpha=stage.alpha,
          gate_alpha=student.config.gate_alpha,
      )
    return found

  found = losses.over_sequence_chunks(
      per_token, hidden, trajectory.tokens, *states, chunk_size=stage.readout_chunk
  )
  if trajectory.teacher_scores is not None:
    found["teacher_log_probs"] = jnp.asarray(trajectory.teacher_scores.log_probs)
  mask = (trajectory.tokens != PAD_ID) & (trajectory.example_id >= 0)[:, None]
  if of_sequences:
    written = losses.Written(
        log_probs=found["log_probs"],
        teacher_log_probs=found["teacher_log_probs"],
        reverse_kl=found.pop("reverse_kl"),
        mask=mask,
        teacher_mixing=stage.get("teacher_mixing", 0.0),
    )
    found["token_losses"] |= {name: loss(written) for name, loss in of_sequences.items()}
  return Scores(
      **{
          "mask": mask,
          "values": values,
          "cost_values": cost_values,
          "budgets": student.budget(params, encoded) if "price" in params else None,
          "expected_rewards": jnp.zeros_like(values),
          "difficulties": jnp.zeros_like(values),
          "gate_logits": jnp.zeros_like(values),
          **found,
      }
  )


def is_expected(stage: ml_collections.ConfigDict) -> bool:
  """Returns True if a stage takes the immediate term of path consistency in expectation."""
  return stage.get("immediate", "sampled") == "expected" and stage.path_consistency > 0


def credited(
    stage: ml_collections.ConfigDict, gate_logits: Float[Array, "B C"]
) -> Float[Array, "B C"]:
  """Returns the gate logits for path consistency, with a gradient only if credit is sampled."""
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
  """Returns path consistency on the trajectories and the terms that accompany it.

  Args:
    stage: the stage's section of the config.
    scores: scores of the trajectories.
    trajectory: the sequences.
    rewards: reward of each action, nats; not read if the stage takes it in expectation.
    entropies: α log π of each action, with gradient; not read either, then.
    asked: True where the action was `<τ>`.

  Returns:
    Terms of the loss by the name of their weight, and metrics.
  """
  expected, rows = is_expected(stage), _rows(stage.consistency_rows, trajectory)
  if expected:
    rewards = jax.lax.stop_gradient(scores.expected_rewards)
    entropies = jnp.zeros_like(entropies)
  if stage.get("average_reward", False):
    rewards -= losses.average_reward(rewards - entropies, scores.mask & rows)
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
  valid &= rows
  huber = stage.huber or None
  if expected:
    consistency = losses.expected_consistency_loss(
        errors, valid, scores.expected_rewards, scores.log_probs, alpha=stage.alpha, huber=huber
    )
  else:
    consistency = losses.path_consistency_loss(errors, valid, huber=huber)
  known = losses.weighted_losses(stage.losses.to_dict())
  terms = {
      "path_consistency": losses.token_mean(consistency, valid),
      **{
          name: losses.token_mean(loss, scores.mask & _rows(known[name].rows, trajectory))
          for name, loss in scores.token_losses.items()
      },
  }
  if scores.budgets is not None:
    terms["budget_loss"] = budget_error(scores.budgets, trajectory)
  own = scores.mask & trajectory.on_policy[:, None] & ~asked
  metrics = {
      "reverse_kl": losses.token_mean(scores.log_probs - scores.teacher_log_probs, own),
      "residual": losses.RootMean(*losses.token_mean(errors**2, valid)),
  }
  return terms, metrics


def _rows(rows: str, trajectory: Trajectory) -> Bool[Array, "B 1"]:
  """Returns True for the rows that a loss takes: all, on_policy or off_policy."""
  on_policy = jnp.asarray(trajectory.on_policy)[:, None]
  return {"all": on_policy | True, "on_policy": on_policy, "off_policy": ~on_policy}[rows]


def budget_error(budgets: Float[Array, " B"], batch: Batch | Trajectory) -> losses.Mean:
  """Returns the mean Huber loss of the budgets that the student reads, in units of 0.1."""
  rows = jnp.asarray(batch.example_id >= 0)
  return losses.token_mean(optax.huber_loss(10.0 * budgets, 10.0 * batch.budget), rows)


def weighted(stage: ml_collections.ConfigDict, terms: Terms) -> Terms:
  """Returns each term of the loss times its weight, a field of the stage or of its `losses`."""

  def weight(name: str) -> float:
    return stage.losses[name].weight if name in stage.losses else stage[name]

  return {name: losses.Mean(weight(name) * m.total, m.count) for name, m in terms.items()}
