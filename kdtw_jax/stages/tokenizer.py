"""Stage `tokenizer`: the vocabulary of both models, published or trained."""

import functools

from kdtw_jax import processes
from kdtw_jax.files import replaced_folder, write_json
from kdtw_jax.stages.stage import TRAINING_TEXT, Run
from kdtw_jax.terminal import print_line


def make(run: Run) -> None:
  """Keeps the tokenizer in the workdir, unless it is there already."""
  tokenizer = run.inputs.tokenizer
  made = run.workdir.folder("tokenizer") / "summary.json"
  processes.first_alone(functools.partial(_save, run), makes=made)
  print_line("tokenizer", f"the vocabulary of both models: {tokenizer.num_tokens:,} tokens")


def _save(run: Run) -> None:
  if run.workdir.begun("tokenizer"):
    return
  tokenizer, data = run.inputs.tokenizer, {TRAINING_TEXT: run.inputs.text_fingerprint("train")}
  with replaced_folder(run.workdir.begin("tokenizer", data=data)) as folder:
    tokenizer.save(folder)
    write_json(folder / "made_by.json", run.workdir.made_by("tokenizer", data=data))
    write_json(folder / "summary.json", {"stage": "tokenizer", "tokens": tokenizer.num_tokens})
