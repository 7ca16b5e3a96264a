"""What each stage minimises: the only place where models and losses meet.

Every function here builds an objective `(params, frozen, data, key, duals) -> (loss, metrics)` for
`training.step`. `frozen` is None or the teacher's parameters.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections
import optax

from kdtw_jax import losses
from kdtw_jax.base import PAD_ID, Batch, Params, Trajectory
from kdtw_jax.models.functional import Model, shift_right


def supervised(model: Model, stage: ml_collections.ConfigDict, *, source: str) -> Callable:
  """Cross-entropy on references.

  Args:
    model: the model to train.
    stage: `label_smoothing`, `readout_chunk`.
    source: which source of the batch it reads: `teacher_source` or `student_source`.

  Returns:
    The objective; its data is a `Batch`.
  """

  def objective(params: Params, frozen, batch: Batch, key, duals):
    encode_key, decode_key = jax.random.split(key)
    encoded = model.encode(params, getattr(batch, source), dropout_key=encode_key)
    hidden = model.decode(params, encoded, shift_right(batch.target), dropout_key=decode_key)

    def per_token(hidden, target):
      return losses.cross_entropy(
          model.logits(params, hidden), target, label_smoothing=stage.label_smoothing
      )

    values = losses.over_sequence_chunks(
        per_token, hidden, batch.target, chunk_size=stage.readout_chunk
    )
    return losses.token_mean(values, batch.target != PAD_ID), {}

  return objective


def distribution_matching(
    student: Model, teacher: Model, stage: ml_collections.ConfigDict
) -> Callable:
  """A weighted sum of divergences from the teacher's next-token distribution, on references.

  Args:
    student: the model to train; reads `student_source`, budget instruction included.
    teacher: reads `teacher_source`, without dropout.
    stage: `losses` and the weight `budget_loss`.

  Returns:
    The objective; its data is a `Batch`, `frozen` the teacher's parameters.
  """

  def objective(params: Params, teacher_params: Params, batch: Batch, key, duals):
    encode_key, decode_key = jax.random.split(key)
    inputs = shift_right(batch.target)
    encoded = student.encode(params, batch.student_source, dropout_key=encode_key)
    hidden = student.decode(params, encoded, inputs, dropout_key=decode_key)
    teacher_hidden = teacher.decode(
        teacher_params, teacher.encode(teacher_params, batch.teacher_source), inputs
    )

    def per_token(hidden, teacher_hidden, target):
      logits = student.logits(params, hidden)
      teacher_logits = jax.lax.stop_gradient(teacher.logits(teacher_params, teacher_hidden))
      values = {
          "cross_entropy": lambda: losses.cross_entropy(logits, target),
          "forward_kl": lambda: losses.forward_kl(teacher_logits, logits),
          "reverse_kl": lambda: losses.reverse_kl(teacher_logits, logits),
          "generalized_jsd": lambda: losses.generalized_jsd(
              teacher_logits, logits, beta=stage.losses.generalized_jsd.beta
          ),
      }
      return {name: value() for name, value in values.items() if stage.losses[name].weight}

    values = losses.over_sequence_chunks(
        per_token, hidden, teacher_hidden, batch.target, chunk_size=stage.readout_chunk
    )
    means = {
        name: losses.token_mean(value, batch.target != PAD_ID) for name, value in values.items()
    }
    if stage.budget_loss:
      means["budget_loss"] = _budget_error(student.budget(params, encoded), batch)
    return sum(_weight(stage, name) * mean for name, mean in means.items()), means

  return objective


def _weight(stage: ml_collections.ConfigDict, name: str) -> float:
  return stage.losses[name].weight if name in stage.losses else stage[name]


def path_consistency(
    student: Model,
    teacher: Model,
    stage: ml_collections.ConfigDict,
    *,
    knots: tuple[float, ...] | None,
) -> Callable:
  """Path consistency on trajectories; with `knots`, of the Lagrangian with gate and duals.

  Without knots the student is distilled and never asks. With them the policy is gate times language
  model, an ask earns -λ_B, the gate is credited as `stage.gate_credit` says, and the cost value
  learns the asks still to come. The student goes on learning to read its budget.

  Args:
    student: the model to train.
    teacher: gives rewards log μ and, for the gate's credit, its whole distribution.
    stage: the section `distillation` or `wheels` of the config.
    knots: budgets at which the duals stand; None for plain distillation.

  Returns:
    The objective; its data is a `Trajectory`, `frozen` the teacher's parameters.
  """

  def objective(params: Params, teacher_params: Params, trajectory: Trajectory, key, duals):
    mask = (trajectory.tokens != PAD_ID) & (trajectory.example_id >= 0)[:, None]
    row_duals = (
        jnp.zeros_like(trajectory.budget)
        if knots is None
        else losses.interpolate_duals(duals, jnp.asarray(knots), trajectory.budget)
    )
    scores, values, cost_values, budgets = _score(
        student,
        teacher,
        stage,
        params,
        teacher_params,
        trajectory,
        row_duals,
        gated=knots is not None,
    )
    asked = jnp.zeros_like(mask)
    floor = losses.highest_clip_floor(student.config.vocab_size)
    rewards = jnp.maximum(scores["teacher_log_probs"], floor)
    entropies = stage.alpha * scores["log_probs"]
    terms, metrics = {}, {}
    if knots is not None:
      asked, gate_logits = trajectory.asked, scores["gate_logits"]
      rewards = losses.lagrangian_rewards(
          rewards, asked, row_duals, scores["teacher_entropies"], alpha=stage.alpha
      )
      entropies = losses.gated_entropies(
          scores["log_probs"],
          _credited(stage, gate_logits),
          asked,
          alpha=stage.alpha,
          gate_alpha=student.config.gate_alpha,
      )
      terms, metrics = _gate_terms(
          stage,
          student.config.gate_alpha,
          scores,
          gate_logits,
          row_duals,
          cost_values,
          trajectory,
          mask,
      )
    if stage.value == "logsumexp":
      values = scores["logsumexp_values"]
    errors, valid = losses.path_consistency_error(
        values,
        rewards,
        entropies,
        mask,
        trajectory.ended,
        gamma=stage.gamma,
        segment_length=stage.segment_length or None,
        stop_bootstrap=stage.stop_bootstrap,
        asked=asked,
    )
    terms["path_consistency"] = losses.token_mean(
        losses.path_consistency_loss(errors, valid, huber=stage.huber or None), valid
    )
    terms["forward_kl"] = losses.token_mean(scores["forward_kl"], mask)
    terms["budget_loss"] = _budget_error(budgets, trajectory)
    metrics |= {f"loss_{name}": value for name, value in terms.items()}
    metrics["reverse_kl"] = losses.token_mean(
        scores["log_probs"] - scores["teacher_log_probs"],
        mask & trajectory.on_policy[:, None] & ~asked,
    )
    metrics["residual"] = jnp.sqrt(losses.token_mean(errors**2, valid))
    return sum(_weight(stage, name) * value for name, value in terms.items()), metrics

  return objective


def _score(
    student: Model,
    teacher: Model,
    stage: ml_collections.ConfigDict,
    params: Params,
    teacher_params: Params,
    trajectory: Trajectory,
    row_duals: jax.Array,
    *,
    gated: bool,
):
  """Scores every token of the trajectories, logits living one sequence chunk at a time.

  `row_duals` `[B]` are the prices at which the gate decides; `gated` says whether it does.

  Returns:
    `(scores, values, cost_values, budgets)`: scores a dict of `[B, T]` float32, values and
    cost_values `[B, T]`, budgets as the student reads them `[B]`.
  """
  inputs = shift_right(trajectory.tokens)
  encoded = student.encode(params, trajectory.student_source)
  hidden = student.decode(params, encoded, inputs)
  budgets = student.budget(params, encoded)
  values, cost_values = student.values(params, hidden, row_duals)
  teacher_hidden = teacher.decode(
      teacher_params, teacher.encode(teacher_params, trajectory.teacher_source), inputs
  )

  def per_token(hidden, teacher_hidden, tokens):
    logits = student.logits(params, hidden)
    teacher_logits = jax.lax.stop_gradient(teacher.logits(teacher_params, teacher_hidden))
    gate_logits = student.gate_logits(params, logits, hidden, row_duals)
    difficulty = (
        losses.reverse_kl if stage.get("gate_credit") == "expected_kl" else losses.log_prob_gap
    )(teacher_logits, logits)
    return {
        "log_probs": losses.taken_log_probs(logits, tokens),
        "teacher_log_probs": losses.taken_log_probs(teacher_logits, tokens),
        "teacher_entropies": losses.entropy(teacher_logits),
        "logsumexp_values": losses.logsumexp_values(
            logits,
            _credited(stage, gate_logits) if gated else None,
            alpha=stage.alpha,
            gate_alpha=student.config.gate_alpha,
        ),
        "forward_kl": losses.forward_kl(teacher_logits, logits),
        "difficulties": jax.lax.stop_gradient(difficulty),
        "gate_logits": gate_logits,
    }

  scores = losses.over_sequence_chunks(
      per_token, hidden, teacher_hidden, trajectory.tokens, chunk_size=stage.readout_chunk
  )
  return scores, values, cost_values, budgets


def _credited(stage, gate_logits: jax.Array) -> jax.Array:
  """The gate logits as path consistency sees them: it moves them for sampled credit alone."""
  sampled = stage.get("gate_credit") == "sampled"
  return gate_logits if sampled else jax.lax.stop_gradient(gate_logits)


def _budget_error(budgets: jax.Array, batch: Batch | Trajectory) -> jax.Array:
  """Mean error of the budgets that the student reads, per real row; 0.1 of a budget is a unit."""
  rows = (batch.example_id >= 0).astype(jnp.float32)
  errors = optax.huber_loss(10.0 * budgets, 10.0 * batch.budget)
  return jnp.sum(errors * rows) / jnp.maximum(jnp.sum(rows), 1.0)


def _gate_terms(stage, gate_alpha, scores, gate_logits, row_duals, cost_values, trajectory, mask):
  """The gate's expected credit, and the cost value's consistency."""
  difficulties = jnp.minimum(scores["difficulties"], stage.max_difficulty)
  terms = {}
  if stage.gate_credit != "sampled":
    if stage.gate_regression == "advantage":
      errors = losses.gate_advantage_error(
          gate_logits, difficulties, row_duals, gate_alpha=gate_alpha
      )
    else:
      errors = losses.gate_cross_entropy(
          gate_logits, losses.gate_targets(difficulties, row_duals, gate_alpha=gate_alpha)
      )
    terms["gate_loss"] = losses.token_mean(errors, mask)
  own = trajectory.own_gate[:, None] & mask
  errors, valid = losses.cost_consistency_error(
      cost_values, trajectory.asked, own, trajectory.ended, segment_length=None
  )
  terms["cost_value_loss"] = losses.token_mean(0.5 * errors**2, valid)
  metrics = {
      "asked": losses.token_mean(trajectory.asked.astype(jnp.float32), own),
      "budget": losses.token_mean(jnp.broadcast_to(trajectory.budget[:, None], mask.shape), own),
      "difficulty": losses.token_mean(difficulties, mask),
      "dual": jnp.mean(row_duals),
  }
  return terms, metrics


def dual_step(stage: ml_collections.ConfigDict, knots: tuple[float, ...]) -> Callable:
  """λ_B <- max(0, λ_B + η (use_B − B)) on the rows that the student's own gate decided.

  Returns:
    `(duals [K], trajectory) -> duals [K]`.
  """

  def update(duals: jax.Array, trajectory: Trajectory) -> jax.Array:
    counted = (trajectory.tokens != PAD_ID) & (trajectory.own_gate & (trajectory.example_id >= 0))[
        :, None
    ]
    return losses.dual_ascent(
        duals,
        jnp.asarray(knots),
        trajectory.budget,
        jnp.sum(trajectory.asked & counted, axis=1),
        jnp.sum(counted, axis=1),
        learning_rate=stage.dual_learning_rate,
        max_dual=stage.max_dual,
    )

  return update


def gate_log_odds(student: Model) -> Callable:
  """The log-odds of asking at each token, for a gate without a price.

  Returns:
    `(params, trajectory) -> (gate logits [B, T], mask [B, T])`.
  """

  def measure(params: Params, trajectory: Trajectory):
    encoded = student.encode(params, trajectory.student_source)
    hidden = student.decode(params, encoded, shift_right(trajectory.tokens))
    output = student.readout(params, jnp.zeros(trajectory.tokens.shape[:1]), hidden)
    return output.gate_logits, trajectory.tokens != PAD_ID

  return measure


def difficulties(student: Model, teacher: Model, stage: ml_collections.ConfigDict) -> Callable:
  """What asking would gain at each token, as `stage.gate_credit` measures it.

  Returns:
    `(params, teacher_params, trajectory) -> (difficulties [B, T] nats, mask [B, T])`.
  """

  def measure(params: Params, teacher_params: Params, trajectory: Trajectory):
    scores, *_ = _score(
        student,
        teacher,
        stage,
        params,
        teacher_params,
        trajectory,
        jnp.zeros(trajectory.tokens.shape[:1]),
        gated=False,
    )
    mask = (trajectory.tokens != PAD_ID) & (trajectory.example_id >= 0)[:, None]
    return jnp.minimum(scores["difficulties"], stage.max_difficulty), mask

  return measure
