"""Stage `teacher`: a teacher trained on references, taken from another run, or as published."""

from kdtw_jax import config_models
from kdtw_jax.models import num_params
from kdtw_jax.stages import supervised
from kdtw_jax.stages.stage import Run, fit, starting_params
from kdtw_jax.terminal import print_line


def train(run: Run) -> None:
  """Trains the teacher, unless the config names one that is already trained."""
  section = run.config.teacher
  if section.checkpoint or config_models.teacher_is_published(run.config):
    run.params("teacher")  # refused here, if it cannot be read
    millions = num_params(run.model("teacher").shapes) / 1e6
    name = section.checkpoint or section.pretrained
    print_line("teacher", f"{name}: {millions:,.1f} M parameters")
    return
  fit(
      run,
      "teacher",
      section.train,
      purpose="the large model learns the task from references",
      start=lambda: starting_params(run, "teacher", "teacher"),
      objective=supervised.cross_entropy(run.inputs.models.teacher, section.train),
  )
