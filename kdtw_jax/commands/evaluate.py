"""`kdtw evaluate`: what a pair's outputs are worth on texts of one's own, and what they cost."""

import argparse
from collections.abc import Sequence
import hashlib
import json
from pathlib import Path
import re
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from kdtw_jax.commands import spending
from kdtw_jax.files import read_json_object, write_atomically, write_json

if TYPE_CHECKING:  # both load jax
  from kdtw_jax.base import Params
  from kdtw_jax.pair import Pair

SUMMARY = "score a pair on texts of your own, with the calls that each setting needs"
EXAMPLES = """\
  kdtw evaluate --pair=runs/demo --source=en.txt --reference=de.txt --out=runs/scores
  kdtw evaluate --pair=runs/demo --source=en.txt --reference=de.txt --out=runs/scores \\
      student 0.1 0.2 0.2/hard worth@0.1 margin:0.15@0.2/ledger speculative:4 teacher
A setting is [POLICY[:DIAL]@]BUDGET[/FORM], or a policy that needs no budget. Without any, both
models alone, exact speculation and the trained budgets are measured. --out keeps the outputs and
the cost of each line; a setting that is there already is not measured again."""
SCORES_FILE = "scores.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Adds the command's arguments."""
  parser.add_argument("--pair", required=True, metavar="DIR", help=spending.PAIR_HELP)
  parser.add_argument("--source", required=True, metavar="FILE", help="texts, one per line")
  parser.add_argument(
      "--reference",
      required=True,
      metavar="FILE",
      action="append",
      help="outputs by people, line by line; may be given several times",
  )
  parser.add_argument("--out", required=True, metavar="DIR", help="folder of outputs and scores")
  parser.add_argument(
      "--metric", help="bleu, chrf, rouge or exact_match (that of the pair's config)"
  )
  parser.add_argument("--batch", type=int, default=16, help="texts that decode together (16)")
  parser.add_argument("settings", nargs="*", metavar="SETTING", help="see below")


def run(args: argparse.Namespace) -> None:
  """Measures what is missing in --out and prints a table of all settings asked for."""
  from kdtw_jax import devices, pair
  from kdtw_jax.evaluation.metrics import compared_scores

  spending.quiet()
  devices.keep_programs()
  sources, references = _read(args.source, args.reference)
  settings = {name: spending.read_setting(name) for name in args.settings}
  trained = pair.load_pair(args.pair)
  settings = settings or {name: spending.read_setting(name) for name in usual_settings(trained)}
  metric = args.metric or trained.config["evaluation"]["metric"]
  keys = compared_scores(metric)
  kept = _Kept(Path(args.out), trained, sources, references, metric)
  console = Console(stderr=True)
  for name, setting in settings.items():
    if name not in kept.scores:
      written = trained.write_stream(
          sources, setting.budget, form=setting.form, policy=setting.policy, batch=args.batch
      )
      hidden = not console.is_terminal
      kept.add(
          name,
          [*track(written, f"{name:<16}", total=len(sources), console=console, disable=hidden)],
          references,
      )
  table = Table("setting", *keys, "by the teacher, %", "calls per 100 tokens")
  for name in settings:
    row = kept.scores[name]
    cells = [*(row[key] for key in keys), 100 * row["share"], 100 * row["calls"]]
    table.add_row(name, *(f"{cell:.1f}" for cell in cells))
  Console().print(table)


class _Kept:
  """The folder of a pair's outputs on some texts.

  Attributes:
    scores: by setting, the scores, and the teacher's share and calls per token.
  """

  def __init__(
      self,
      folder: Path,
      trained: "Pair",
      sources: Sequence[str],
      references: Sequence[Sequence[str]],
      metric: str,
  ):
    """Opens the folder; raises ValueError if its results are of another pair, text or metric."""
    self._folder, self._metric = folder, metric
    parts = [trained.config, trained.duals, trained.prices, trained.paces, trained.shortest]
    sums = [_sums_of(trained.student_params), _sums_of(trained.teacher_params)]
    content = json.dumps([*parts, sources, references, *sums], sort_keys=True)
    self._made_by = {"metric": metric, "sha256": hashlib.sha256(content.encode()).hexdigest()}
    path, self.scores = folder / SCORES_FILE, dict[str, dict[str, float]]()
    if path.exists():
      found = read_json_object(path, remedy="delete it, or give another --out")
      if found.get("made_by") != self._made_by:
        raise ValueError(
            f"--out={folder}: has results of another pair, other texts or another metric: give "
            "another folder"
        )
      self.scores = found["settings"]

  def add(self, name: str, written: Sequence[Any], references: Sequence[Sequence[str]]) -> None:
    """Scores the outputs of a setting and saves them, the scores last."""
    from kdtw_jax.evaluation.metrics import corpus_scores

    tally, stem = spending.Tally(), name.replace(":", "-at-").replace("@", "-for-")
    stem = re.sub(r"[^\w.-]+", "_", stem)
    for out in written:
      tally.add(out)
    costs = (spending.cost_line(line, out) for line, out in enumerate(written, 1))
    write_atomically(self._folder / f"{stem}.txt", "".join(map(spending.line_of, written)))
    write_atomically(self._folder / f"{stem}.jsonl", "".join(costs))
    scores = corpus_scores([out.text for out in written], references, metric=self._metric)
    self.scores[name] = {**scores, **tally.shares()}
    write_json(self._folder / SCORES_FILE, {"made_by": self._made_by, "settings": self.scores})


def _read(source: str, references: Sequence[str]) -> tuple[list[str], list[tuple[str, ...]]]:
  """Reads the texts and the references of each; raises ValueError if their numbers differ."""
  from kdtw_jax import data

  sources = data.read_lines(source, expected="--source names a file with a text on each line")
  columns = []
  for path in references:
    lines = data.read_lines(path, expected="--reference names a file with a text on each line")
    if len(lines) != len(sources):
      raise ValueError(
          f"--reference={path}: has {len(lines):,} lines, and --source={source} has "
          f"{len(sources):,}: give one reference on each line"
      )
    columns.append(lines)
  if not sources:
    raise ValueError(f"--source={source}: is empty: give at least one text")
  return sources, [*zip(*columns, strict=True)]


def usual_settings(trained: "Pair") -> list[str]:
  """Returns the settings that are measured if none is given."""
  budgets = [f"{budget:g}" for budget in trained.config["budgets"]["seen"] if budget]
  worth = [f"worth@{budget}" for budget in budgets] if trained.prices else []
  return ["student", *budgets, *worth, "speculative:4", "teacher"]


def _sums_of(params: "Params") -> list[float]:
  """A mark of a model's parameters: the sum of the magnitudes of each."""
  import jax
  import numpy as np

  return [float(np.abs(np.asarray(x, np.float32)).sum()) for x in jax.tree.leaves(params)]
