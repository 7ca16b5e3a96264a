"""Stage `tokenizer`: the vocabulary of both models, found or trained."""

from kdtw_jax.stages.stage import Run


def make(run: Run) -> None:
  """Makes the tokenizer, or reads the one that is kept in the workdir."""
  _ = run.inputs.tokenizer
