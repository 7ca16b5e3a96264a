"""Stage `sft`: a baseline student, trained on references only."""

from kdtw_jax.stages import supervised
from kdtw_jax.stages.stage import Run, fit, starting_params


def train(run: Run) -> None:
  """Trains the student on references, without instructions and without the teacher."""
  stage = run.config.sft
  fit(
      run,
      "sft",
      stage,
      purpose="a baseline: the student learns the task from references alone",
      start=lambda: starting_params(run, "student", "sft"),
      objective=supervised.cross_entropy(run.inputs.models.student, stage),
  )
