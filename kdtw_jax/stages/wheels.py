"""Stage `wheels`: the student learns when to ask, within the budget that its instruction states.

The loss is path consistency on the Lagrangian reward, where asking is an action with the price λ_B.
Added to it are the gate's credit, computed or sampled, and the consistency of V_C, the expected
asks still to come. Dual ascent updates λ. Finally the prices are calibrated on validation sources
(`calibration.py`). arXiv 2502.17717.

Shape letters: B batch, T target length, K knots of the dual function.
"""

from collections.abc import Callable, Iterator
import itertools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
import ml_collections

from kdtw_jax import devices, losses
from kdtw_jax.base import PAD_ID, Params, Trajectory
from kdtw_jax.models import Model, Models, shift_right
from kdtw_jax.stages import calibration, rollouts, scoring
from kdtw_jax.stages.scoring import Scores, Terms
from kdtw_jax.stages.stage import Run, fit
from kdtw_jax.training.step import Objective

_BATCHES_OF_DIFFICULTY = 4  # batches of references that set the initial duals


def train(run: Run) -> None:
  """Continues training from the distilled student, or from the warm start if there is none."""
  if run.workdir.summary("wheels") is not None:
    return
  stage, knots, models = run.config.wheels, run.config.budgets.knots, run.inputs.models
  teacher_params = run.params("teacher")
  before = "distillation" if run.workdir.summary("distillation") else "warm_start"
  start = with_gate_at_start(models.student, run.params(before), next(_references(run)))
  fit(
      run,
      "wheels",
      stage,
      purpose="the student learns when to ask the teacher, and budgets get their prices",
      start=lambda: start,
      rollout=rollouts.make_rollout(
          models, stage, max_length=run.config.decode.max_length, may_ask=True
      ),
      objective=constrained_path_consistency(models, stage, knots=knots),
      frozen=teacher_params,
      budgets=run.config.budgets.train,
      splits=("train", "validation"),
      duals=_initial_duals(run, start, teacher_params),
      update_duals=dual_step(stage, knots),
      finish=lambda state: calibration.calibrated(run, state),
  )


def constrained_path_consistency(
    models: Models, stage: ml_collections.ConfigDict, *, knots: tuple[float, ...]
) -> Objective:
  """Makes the objective: path consistency of the Lagrangian, with the gate's credit and V_C.

  The policy is the gate times the language model, and an ask earns −λ_B. `stage.gate_credit` sets
  how the gate is credited. The student also continues to learn to read its budget.

  Args:
    models: the student to train; the teacher gives rewards and, for the gate, its distribution.
    stage: the section `wheels` of the config.
    knots: budgets of the duals.

  Returns:
    The objective; its data is a `Trajectory`, and `frozen` the teacher's parameters.
  """
  floor = losses.highest_clip_floor(models.student.config.vocab_size)
  gate_alpha = models.student.config.gate_alpha

  def objective(params: Params, teacher_params: Params, trajectory: Trajectory, key, duals):
    prices = losses.interpolate_duals(duals, jnp.asarray(knots), trajectory.budget)
    scores = scoring.score(models, stage, params, teacher_params, trajectory, prices)
    consistency, metrics = scoring.consistency_terms(
        stage,
        scores,
        trajectory,
        rewards=losses.lagrangian_rewards(
            jnp.maximum(scores.teacher_log_probs, floor),
            trajectory.asked,
            prices,
            scores.teacher_entropies,
            alpha=stage.alpha,
        ),
        entropies=losses.gated_entropies(
            scores.log_probs,
            scoring.credited(stage, scores.gate_logits),
            trajectory.asked,
            alpha=stage.alpha,
            gate_alpha=gate_alpha,
        ),
        asked=trajectory.asked,
    )
    terms = {
        **gate_terms(stage, scores, prices, gate_alpha=gate_alpha),
        **cost_value_terms(scores, trajectory),
        **consistency,
    }
    metrics |= {f"loss_{name}": term for name, term in terms.items()}
    metrics |= _use_metrics(stage, scores, trajectory, prices)
    one = jnp.ones(())
    metrics |= {f"dual_{k:g}": losses.Mean(dual, one) for k, dual in zip(knots, duals, strict=True)}
    return scoring.weighted(stage, terms), metrics

  return objective


def gate_terms(
    stage: ml_collections.ConfigDict,
    scores: Scores,
    prices: Float[Array, " B"],
    *,
    gate_alpha: float,
) -> Terms:
  """Returns the gate's computed credit, difficulty against price; empty if credit is sampled."""
  if stage.gate_credit == "sampled":
    return {}
  difficulties = jnp.minimum(scores.difficulties, stage.max_difficulty)
  if stage.gate_regression == "advantage":
    errors = losses.gate_advantage_error(
        scores.gate_logits, difficulties, prices, gate_alpha=gate_alpha
    )
  else:
    targets = losses.gate_targets(difficulties, prices, gate_alpha=gate_alpha)
    errors = losses.gate_cross_entropy(scores.gate_logits, targets)
  return {"gate_loss": losses.token_mean(errors, scores.mask)}


def cost_value_terms(scores: Scores, trajectory: Trajectory) -> Terms:
  """Returns the consistency of V_C on rows that the student's own gate decided."""
  own = trajectory.own_gate[:, None] & scores.mask
  errors, valid = losses.cost_consistency_error(
      scores.cost_values, trajectory.asked, own, trajectory.ended
  )
  return {"cost_value_loss": losses.token_mean(0.5 * errors**2, valid)}


def _use_metrics(
    stage: ml_collections.ConfigDict,
    scores: Scores,
    trajectory: Trajectory,
    prices: Float[Array, " B"],
) -> Terms:
  """Returns the use of the teacher, budget, difficulty and price, for the log."""
  own = trajectory.own_gate[:, None] & scores.mask
  budgets = jnp.broadcast_to(trajectory.budget[:, None], own.shape)
  difficulties = jnp.minimum(scores.difficulties, stage.max_difficulty)
  return {
      "asked": losses.token_mean(trajectory.asked.astype(jnp.float32), own),
      "budget": losses.token_mean(budgets, own),
      "difficulty": losses.token_mean(difficulties, scores.mask),
      "dual": losses.Mean(jnp.sum(prices), jnp.asarray(prices.size, jnp.float32)),
  }


def dual_step(
    stage: ml_collections.ConfigDict, knots: tuple[float, ...]
) -> Callable[[Float[Array, " K"], Trajectory], Float[Array, " K"]]:
  """Makes the update λ_B <- max(0, λ_B + η (use_B − B)), on rows where only the gate decided.

  Args:
    stage: `dual_learning_rate` and `max_dual`.
    knots: budgets of the duals.

  Returns:
    `(duals [K], trajectory) -> duals [K]`.
  """

  def update(duals: Float[Array, " K"], trajectory: Trajectory) -> Float[Array, " K"]:
    rows = trajectory.own_gate & (trajectory.example_id >= 0)
    counted = (trajectory.tokens != PAD_ID) & rows[:, None]
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


def with_gate_at_start(student: Model, params: Params, references: Trajectory) -> Params:
  """Sets a token gate's bias so that its mean log-odds on a batch are `gate_bias_init`.

  The level of a trained model's logits is arbitrary, so with a fresh bias a trained student could
  ask for everything or nothing. Other kinds of gate are left unchanged.

  Args:
    student: its functions.
    params: its parameters.
    references: a batch of references.

  Returns:
    The parameters.
  """
  if student.config.gate != "token":
    return params
  log_odds = jax.jit(lambda *args: gate_log_odds(student, *args))(params, references)
  mean = losses.token_mean(log_odds, references.tokens != PAD_ID).value()
  bias = params["gate"]["bias"] + student.config.gate_bias_init - mean
  return {**params, "gate": {"bias": bias}}


def gate_log_odds(student: Model, params: Params, trajectory: Trajectory) -> Float[Array, "B T"]:
  """Returns the log-odds of asking at each token, at a price of zero."""
  encoded = student.encode(params, trajectory.student_source)
  hidden = student.hidden(params, encoded, shift_right(trajectory.tokens))
  return student.readout(params, jnp.zeros(hidden.shape[:1]), hidden).gate_logits


def _references(run: Run) -> Iterator[Trajectory]:
  """Iterates over batches of references, in the wordings of the stage."""
  for batch in run.batches("wheels", run.config.wheels, budgets=run.config.budgets.train):
    yield rollouts.from_references(devices.shard_batch(run.mesh, batch))


def _initial_duals(run: Run, params: Params, teacher_params: Params) -> Float[Array, " K"]:
  """Returns the (1 − B)-quantiles of the difficulty on a few batches of references."""
  models, stage = run.inputs.models, run.config.wheels

  @jax.jit
  def measure(params: Params, teacher_params: Params, trajectory: Trajectory):
    free = jnp.zeros_like(trajectory.budget)
    scores = scoring.score(models, stage, params, teacher_params, trajectory, free)
    return jnp.minimum(scores.difficulties, stage.max_difficulty).reshape(-1), scores.mask.reshape(
        -1
    )

  batches = itertools.islice(_references(run), _BATCHES_OF_DIFFICULTY)
  found = [measure(params, teacher_params, trajectory) for trajectory in batches]
  difficulties, mask = (jnp.concatenate(parts)[None] for parts in zip(*found, strict=True))
  return losses.initial_duals(difficulties, mask, jnp.asarray(run.config.budgets.knots))
