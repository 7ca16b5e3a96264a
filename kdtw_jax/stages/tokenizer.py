"""Stage `tokenizer`: the vocabulary of both models, found or trained."""

from kdtw_jax.stages.stage import Run
from kdtw_jax.terminal import print_line


def make(run: Run) -> None:
  """Makes the tokenizer, or reads the one that is kept in the workdir."""
  print_line("tokenizer", f"{run.inputs.tokenizer.num_tokens:,} tokens")
