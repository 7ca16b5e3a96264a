"""Stage `distillation`: path consistency on student samples, and any other loss, without asking.

r_t = log μ(y_t|s_t), clipped far below;    C = −V(s_i) + γ^d V(s_{i+d}) + Σ γ^{t−i} (r_t − α log π)

V is fitted to the student's own rows: one V for own rows and references is the baseline of neither.
References have losses of their own, with `rows="off_policy"`. `immediate="expected"` computes
r_t − α log π in expectation over the student's token, from the whole distributions that the
stage has at hand anyway. `average_reward` takes each term less their mean, so that brevity does not
pay. All of the zoo of distillation is a config of this stage: `objectives.py`
in `configs`, and `losses/README.md`.
"""

import jax.numpy as jnp
import ml_collections

from kdtw_jax import losses
from kdtw_jax.base import Params, Trajectory
from kdtw_jax.models import Models
from kdtw_jax.stages import rollouts, scoring, teacher_scores
from kdtw_jax.stages.stage import Run, fit
from kdtw_jax.training.step import Objective


def train(run: Run) -> None:
  """Continues training from the warm start."""
  stage, models = run.config.distillation, run.inputs.models
  rollout = rollouts.from_stored
  if stage.teacher_scores == "live":
    rollout = rollouts.make_rollout(models, stage, max_length=run.config.decode.max_length)
  fit(
      run,
      "distillation",
      stage,
      purpose="the student comes nearer to the teacher, on outputs of its own too",
      start=lambda: run.params("warm_start"),
      rollout=rollout,
      objective=path_consistency(models, stage),
      **teacher_scores.source(run, stage),
      budgets=run.config.budgets.train,
  )


def path_consistency(models: Models, stage: ml_collections.ConfigDict) -> Objective:
  """Makes the objective: path consistency with the teacher's log-probability as the reward.

  Args:
    models: the student to train, and the teacher.
    stage: the section `distillation` of the config.

  Returns:
    The objective; its data is a `Trajectory`, and `frozen` the teacher's parameters.
  """
  floor = losses.highest_clip_floor(models.student.config.vocab_size)

  def objective(params: Params, teacher_params: Params, trajectory: Trajectory, key, duals):
    scores = scoring.score(models, stage, params, teacher_params, trajectory)
    terms, metrics = scoring.consistency_terms(
        stage,
        scores,
        trajectory,
        rewards=jnp.maximum(scores.teacher_log_probs, floor),
        entropies=stage.alpha * scores.log_probs,
        asked=jnp.zeros_like(scores.mask),
    )
    metrics |= {f"loss_{name}": term for name, term in terms.items()}
    return scoring.weighted(stage, terms), metrics

  return objective
