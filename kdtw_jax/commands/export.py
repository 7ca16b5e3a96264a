"""`kdtw export`: the student as a folder of transformers with a model card, for a model hub."""

import argparse
from pathlib import Path
import shutil
from typing import TYPE_CHECKING

from kdtw_jax.commands import spending
from kdtw_jax.files import replaced_folder

if TYPE_CHECKING:  # loads jax
  from kdtw_jax.evaluation.record import Metrics

SUMMARY = "write the student as a folder that transformers loads, with a model card"
EXAMPLES = """\
  kdtw export --pair=runs/demo --out=exported --licence=apache-2.0
  hf upload OWNER/NAME exported
The weights are the student's, in safetensors; the gate and its prices lie beside them. The card has
the run's results, if --pair is a workdir with metrics.json."""
CARD = "README.md"
_PARTS = (CARD, "kdtw.json")  # of an earlier export, and of no model of a pair


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Adds the command's arguments."""
  parser.add_argument("--pair", required=True, metavar="DIR", help="workdir of a run, or its pair/")
  parser.add_argument("--out", required=True, metavar="DIR", help="folder to write")
  parser.add_argument("--licence", default="other", help="of the card, e.g. apache-2.0")


def run(args: argparse.Namespace) -> None:
  """Writes the folder; raises ValueError or OSError if the pair is unusable or it cannot."""
  from kdtw_jax import data, pair
  from kdtw_jax.evaluation.record import read_metrics

  spending.quiet()
  trained, given, out = pair.load_pair(args.pair), Path(args.pair), Path(args.out)
  ours = all((out / name).is_file() for name in _PARTS)
  if out.is_file() or (out.exists() and any(out.iterdir()) and not ours):
    raise ValueError(f"--out={out}: exists and is no earlier export: give another folder")
  student = next(
      folder for folder in (given / "pair/student", given / "student") if folder.is_dir()
  )
  measured = given / "metrics.json"
  instruction = data.state_budget(0, largest=1.0, task=trained.config["data"]["task"]).instruction
  text = card(
      trained.config["name"],
      instruction,
      max_length=trained.config["decode"]["max_length"],
      licence=args.licence,
      metrics=read_metrics(measured) if measured.is_file() else None,
  )
  with replaced_folder(out) as unfinished:
    shutil.copytree(student, unfinished, dirs_exist_ok=True)
    (unfinished / CARD).write_text(text, encoding="utf-8")
  print(f"{out}: {', '.join(sorted(path.name for path in out.iterdir()))}")


def card(
    name: str, instruction: str, *, max_length: int, licence: str, metrics: "Metrics | None"
) -> str:
  """Returns the model card.

  Args:
    name: of the config.
    instruction: what the student reads before a text if it may not ask.
    max_length: most tokens of an output.
    licence: identifier of a licence, as model hubs know it.
    metrics: the run's results, if it was evaluated.
  """
  return _CARD.format(
      name=name,
      instruction=instruction,
      max_length=max_length,
      licence=licence,
      results=_results(metrics) if metrics else "This student has not been evaluated.\n",
  )


def _results(metrics: "Metrics") -> str:
  """Returns the results as a table: both models alone, the gate, and help that is worth it."""
  lines = [f"Scores on the test set ({metrics.signature}).", ""]
  scores = [s for s in metrics.alone["student"].scores if s != "length_ratio"]
  lines += [f"| | calls per 100 tokens | {' | '.join(scores)} |", "|---" * (2 + len(scores)) + "|"]
  for who, calls in (("teacher", "–"), ("student", 0)):
    cells = " | ".join(f"{metrics.alone[who].scores[score]:.1f}" for score in scores)
    lines.append(f"| {who} alone | {calls} | {cells} |")
  for curve in metrics.curves.get("test", ()):
    if curve.method in ("handover", "worth"):
      for point in curve.points:
        cells = " | ".join(f"{point.scores[score]:.1f}" for score in scores)
        calls = 100 * point.teacher_calls
        lines.append(f"| {curve.title}, {point.label} | {calls:.1f} | {cells} |")
  return "\n".join(lines) + "\n"


_CARD = """\
---
license: {licence}
library_name: transformers
tags: [knowledge-distillation, kdtw_jax]
---

# {name}: a student that asks its teacher

Trained with kdtw_jax (Knowledge Distillation with Training Wheels, arXiv 2502.17717). It writes
alone in transformers; with its teacher, in kdtw_jax, it asks for help within a budget in words.

```python
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("FOLDER")
model = AutoModelForSeq2SeqLM.from_pretrained("FOLDER")
text = {instruction!r} + "YOUR TEXT"
ids = model.generate(**tokenizer(text, return_tensors="pt"), max_new_tokens={max_length})
print(tokenizer.decode(ids[0], skip_special_tokens=True))
```

## Results

{results}"""
