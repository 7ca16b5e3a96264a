"""Stage `tokenizer`: the vocabulary of both models, published or trained."""

from kdtw_jax.stages.stage import Run
from kdtw_jax.terminal import print_line


def make(run: Run) -> None:
  """Makes the tokenizer, or reads the one in the workdir."""
  print_line("tokenizer", f"{run.inputs.tokenizer.num_tokens:,} tokens")
