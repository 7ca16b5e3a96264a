"""Stage `sft`: the baseline, a student on references alone."""

from kdtw_jax.stages import supervised
from kdtw_jax.stages.stage import Run, fit, starting_params


def train(run: Run) -> None:
  """Trains the student on references, without instruction and without the teacher."""
  stage = run.config.sft
  fit(
      run,
      "sft",
      stage,
      start=lambda: starting_params(run, "student", "sft"),
      objective=supervised.cross_entropy(run.inputs.models.student, stage),
  )
