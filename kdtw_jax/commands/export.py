"""`kdtw export`: the student as a folder of transformers with a model card, for a model hub.

With its teacher beside it, the folder is a pair too.
"""

import argparse
from pathlib import Path
import shlex
import shutil
from typing import TYPE_CHECKING, Any

from kdtw_jax.commands import spending
from kdtw_jax.files import read_json_object, replaced_folder, write_json

if TYPE_CHECKING:  # loads jax
  from kdtw_jax.evaluation.record import Metrics
  from kdtw_jax.pair import Pair

SUMMARY = "write the student as a folder that transformers loads, with a model card"
EXAMPLES = """\
  kdtw export --pair=runs/demo --out=exported --licence=apache-2.0
  kdtw export --pair=runs/demo --out=exported --teacher --push=OWNER/NAME --private
  kdtw write --pair=OWNER/NAME --budget=0.2 < in.txt > out.txt
The weights are the student's, in safetensors; the gate and its prices lie beside them. The card has
the run's results, if --pair is a workdir with metrics.json. With --teacher, the folder and the hub
id are a --pair, too. --push needs `hf auth login` once, or HF_TOKEN."""
CARD = "README.md"
_PARTS = (CARD, "kdtw.json")  # of an earlier export, and of no model of a pair


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Adds the command's arguments."""
  parser.add_argument("--pair", required=True, metavar="DIR", help=spending.PAIR_HELP)
  parser.add_argument("--out", required=True, metavar="DIR", help="folder to write")
  parser.add_argument(
      "--teacher", action="store_true", help="add the teacher: kdtw_jax.load_pair reads the folder"
  )
  parser.add_argument(
      "--push", metavar="OWNER/NAME", help="upload the folder to the Hugging Face hub, as a model"
  )
  parser.add_argument("--private", action="store_true", help="with --push: for its owner alone")
  parser.add_argument("--licence", default="other", help="of the card, e.g. apache-2.0")


def run(args: argparse.Namespace) -> None:
  """Writes the folder, and uploads it.

  Raises:
    OSError: if the pair cannot be read or the folder not written, or the hub refuses it.
    ValueError: if the pair is unusable, or an argument is not possible.
  """
  _check_push(args)
  from kdtw_jax import data, pair, pair_folder
  from kdtw_jax.evaluation.record import read_metrics

  spending.quiet()
  folder, out = pair_folder.locate(args.pair), Path(args.out)
  trained = pair.load_pair(folder)
  ours = all((out / name).is_file() for name in _PARTS)
  if out.is_file() or (out.exists() and any(out.iterdir()) and not ours):
    raise ValueError(f"--out={out}: exists and is no earlier export: give another folder")
  shared = _shared_pair(folder) if args.teacher else None
  measured = Path(args.pair) / "metrics.json"
  instruction = data.state_budget(0, largest=1.0, task=trained.config["data"]["task"]).instruction
  if trained.student.config.kind == "t5":  # a tag of MADLAD-400 is text, too
    tag = "".join(trained.tokenizer.pieces(trained.student.config.prompt_prefix))
    instruction = f"{tag} {instruction}".lstrip()
  text = card(
      trained.config["name"],
      instruction,
      # transformers counts what it forces as new
      max_length=trained.config["decode"]["max_length"]
      + len(trained.student.config.decoder_prefix),
      licence=args.licence,
      metrics=read_metrics(measured) if measured.is_file() else None,
      where=args.push or "FOLDER",
      is_pair=args.teacher,
      prompt=_published_prompt(trained),
      is_causal=trained.student.config.kind == "causal",
  )
  student, teacher = pair_folder.student_of(folder), folder / "teacher"
  with replaced_folder(out) as unfinished:
    beside = None if student != folder else shutil.ignore_patterns("teacher", "pair.json", ".*")
    shutil.copytree(student, unfinished, ignore=beside, dirs_exist_ok=True)
    if shared:
      write_json(unfinished / "pair.json", shared)
      if teacher.is_dir():
        shutil.copytree(teacher, unfinished / "teacher")
    (unfinished / CARD).write_text(text, encoding="utf-8")
  print(f"{out}: {', '.join(sorted(path.name for path in out.iterdir()))}")
  if args.push:
    _push(out, args.push, private=args.private)


def _check_push(args: argparse.Namespace) -> None:
  """Raises ValueError if the folder cannot be uploaded as it is asked; asks no hub."""
  from kdtw_jax import published

  if args.private and not args.push:
    raise ValueError("--private: goes with --push=OWNER/NAME: give both, or none")
  if args.push is not None:
    try:
      published.check_new_id(args.push)
    except ValueError as error:
      raise ValueError(f"--push={args.push}: {error}") from error


def _push(out: Path, name: str, *, private: bool) -> None:
  """Uploads the folder; an error says that it is kept, and how to go on."""
  from kdtw_jax import published

  try:
    page = published.upload(out, name, private=private)
  except ValueError as error:
    raise ValueError(f"--push={name}: {error}; the folder {out} is complete") from error
  except OSError as error:
    go_on = shlex.join(["hf", "upload", name, str(out), *["--private"] * private])
    raise OSError(
        f"--push={name}: {error}. The folder {out} is complete: `{go_on}` goes on"
    ) from error
  print(f"{page}: uploaded")


def _published_prompt(trained: "Pair") -> tuple[list[int], list[int]] | None:
  """Returns the published ids around a text; None if the published tokenizer puts them there."""
  config = trained.student.config
  if config.kind in ("t5", "bart"):
    return None
  theirs = dict(config.renamed_ids)
  prefix, suffix = (
      [theirs.get(i, i) for i in ids] for ids in (config.prompt_prefix, config.prompt_suffix)
  )
  return prefix, suffix if config.kind == "causal" else suffix[:-1]


_PLACES = (("data", "path"), ("data", "tfds_data_dir"), ("tokenizer", "path"))
_MODELS = (("student", "pretrained"), ("teacher", "pretrained"), ("teacher", "checkpoint"))


def _shared_pair(folder: Path) -> dict[str, Any]:
  """Returns what pair.json says, without the names of folders of this machine.

  Raises:
    ValueError: if the teacher is such a folder.
  """
  saved = read_json_object(folder / "pair.json", remedy="copy the whole pair again")
  if saved["teacher"] and Path(saved["teacher"]).is_absolute():
    raise ValueError(
        f"--teacher: the teacher was used as published, from {saved['teacher']}, a folder of this "
        "machine, and is no part of the pair: leave out --teacher, or train with its hub id as "
        "config.teacher.pretrained"
    )
  for section, name in (*_PLACES, *_MODELS):
    fields = saved["config"].get(section, {})
    if (section, name) in _PLACES or Path(fields.get(name, "")).expanduser().exists():
      fields[name] = ""
  return saved


def card(
    name: str,
    instruction: str,
    *,
    max_length: int,
    licence: str,
    metrics: "Metrics | None",
    where: str = "FOLDER",
    is_pair: bool = False,
    prompt: tuple[list[int], list[int]] | None = None,
    is_causal: bool = False,
) -> str:
  """Returns the model card.

  Args:
    name: of the config.
    instruction: what the student reads before a text if it may not ask.
    max_length: most tokens of an output.
    licence: identifier of a licence, as model hubs know it.
    metrics: the run's results, if it was evaluated.
    where: the folder or the hub id.
    is_pair: True if the teacher lies beside the student.
    prompt: ids that come before and after a text; None if its tokenizer puts them there.
    is_causal: True if the model is a decoder alone, whose output follows the prompt.
  """
  code = _CODE if prompt is None else _PROMPT_CODE
  prefix, suffix = prompt or ((), ())
  return _CARD.format(
      name=name,
      code=code.format(
          instruction=instruction,
          max_length=max_length,
          where=where,
          prefix=prefix,
          suffix=suffix,
          kind="CausalLM" if is_causal else "Seq2SeqLM",
          output="written[0, ids.shape[1] :]" if is_causal else "written[0]",
      ),
      pair=_PAIR.format(where=where) if is_pair else "",
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
{code}```
{pair}
## Results

{results}"""

_CODE = """\
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{where}")
model = AutoModelForSeq2SeqLM.from_pretrained("{where}")
text = {instruction!r} + "YOUR TEXT"
ids = model.generate(**tokenizer(text, return_tensors="pt"), max_new_tokens={max_length})
print(tokenizer.decode(ids[0], skip_special_tokens=True))
"""

_PROMPT_CODE = """\
import torch
from transformers import AutoModelFor{kind}, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{where}")
model = AutoModelFor{kind}.from_pretrained("{where}")
text = {instruction!r} + "YOUR TEXT"
before, after = {prefix}, {suffix}  # what the student was trained with around a text
ids = [*before, *tokenizer(text, add_special_tokens=False)["input_ids"], *after]
ids = torch.tensor([ids])
seen = torch.ones_like(ids)  # nothing is padding
written = model.generate(ids, attention_mask=seen, max_new_tokens={max_length})
print(tokenizer.decode({output}, skip_special_tokens=True))
"""

_PAIR = """
The teacher is here too (Python package `kdtw_jax`):

```python
import kdtw_jax

pair = kdtw_jax.load_pair("{where}")
print(pair.write("YOUR TEXT", budget=0.2).text)
```
"""
