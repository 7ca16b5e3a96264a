"""Stage `warm_start`: the teacher's distribution matched, with random budgets in the instruction.

The student learns to read a budget before budgets have an effect. An instruction that it has never
seen would make it fail later.
"""

import jax
import ml_collections

from kdtw_jax import losses
from kdtw_jax.base import PAD_ID, Batch, Params
from kdtw_jax.models import Models, shift_right
from kdtw_jax.stages import scoring, teacher_scores
from kdtw_jax.stages.stage import Run, fit, starting_params
from kdtw_jax.training.step import Objective


def train(run: Run) -> None:
  """Trains the student on references to match the teacher's distribution at each token."""
  stage = run.config.warm_start
  fit(
      run,
      "warm_start",
      stage,
      purpose="the student learns the teacher's distribution, whatever budget it reads",
      start=lambda: starting_params(run, "student", "warm_start"),
      objective=distribution_matching(run.inputs.models, stage),
      **teacher_scores.source(run, stage),
      budgets=run.config.budgets.train,
  )


def distribution_matching(models: Models, stage: ml_collections.ConfigDict) -> Objective:
  """Makes the objective: a weighted sum of token losses on references and of the budget loss.

  Args:
    models: the student reads `student_source`, including the budget instruction; the teacher reads
      `teacher_source`, without dropout.
    stage: `losses`, the weight `budget_loss`, `readout_chunk`.

  Returns:
    The objective; its data is a `Batch`, and `frozen` the teacher's parameters.
  """
  student, teacher = models
  token_losses = losses.weighted_losses(stage.losses.to_dict(), of_sequences=False)

  def objective(params: Params, teacher_params: Params, batch: Batch, key, duals):
    encode_key, decode_key = jax.random.split(key)
    inputs = shift_right(batch.target)
    encoded = student.encode(params, batch.student_source, dropout_key=encode_key)
    hidden = student.hidden(params, encoded, inputs, dropout_key=decode_key)
    states, teacher_logits_of = teacher_scores.teacher_logits(
        teacher, teacher_params, batch, batch.target
    )

    def per_token(hidden, target, *states):
      logits = student.logits(params, hidden)
      others = teacher_logits_of(*states, target, logits)
      return {name: loss.fn(others, logits, target) for name, loss in token_losses.items()}

    values = losses.over_sequence_chunks(
        per_token, hidden, batch.target, *states, chunk_size=stage.readout_chunk
    )
    mask = batch.target != PAD_ID
    terms = {name: losses.token_mean(value, mask) for name, value in values.items()}
    if stage.budget_loss and "price" in params:
      terms["budget_loss"] = scoring.budget_error(student.budget(params, encoded), batch)
    return scoring.weighted(stage, terms), terms

  return objective
