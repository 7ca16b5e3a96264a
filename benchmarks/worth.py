"""What the head `worth` knows of help, what it should learn from, and what its policy gains.

    python -m benchmarks.worth --config=configs/multi30k.py --config.data.path=DIR \
        --workdir=runs/m30k-0 --out=FILE.json

Heads are fitted to training sources, to half of validation, or to both, and judged on the other
half of validation, by G as the config has it. Then one head learns G in nats of log μ and one in
points of the score, and on test the policy `worth` with each of them is measured beside
`route_gap`, which helps by the sum of predicted gaps, and beside the same number of calls for
everyone; with and without heeding what the last check said. So are the prices that a number of
calls per token stands for. At last, V_C of the stages `wheels` and `worth` against the asks that
follow on test.
"""

from collections.abc import Iterator
import logging
from pathlib import Path

from absl import app, flags
import jax
from ml_collections import config_flags
import numpy as np
from rich.console import Console
import scipy.stats

from kdtw_jax import data, decoding
from kdtw_jax.base import Params
from kdtw_jax.evaluation.outputs import Runner
from kdtw_jax.files import write_json
from kdtw_jax.run import open_run
from kdtw_jax.stages import worth
from kdtw_jax.stages.decisions import Decisions, in_points, make_collector
from kdtw_jax.stages.prices import call_prices
from kdtw_jax.stages.stage import Run

_CONFIG = config_flags.DEFINE_config_file("config", None, "The config of the run")
_WORKDIR = flags.DEFINE_string("workdir", None, "Workdir of the run, with its stage `worth`")
_OUT = flags.DEFINE_string("out", None, "JSON file for the figures")
flags.mark_flags_as_required(["config", "workdir", "out"])

PRICES = {"log_mu": (16.0, 8.0, 5.0, 3.0, 2.0, 1.0, 0.5), "score": (4.0, 1.5, 1.0, 0.7, 0.45, 0.25)}
THRESHOLDS, SKIPS = (4.0, 8.0, 12.0, 20.0, 1000.0), (-1.0, 2.0)
CALLS = (1.0, 2.0, 3.0, 4.0, 6.0)
STATED = (0.05, 0.1, 0.15, 0.2)  # calls per token
BUDGETS = (0.05, 0.1, 0.2, 0.3, 0.5)
SPLITS = ("validation", "test")


def main(argv):
  """Measures, prints and writes the figures."""
  del argv
  logging.getLogger("absl").setLevel(logging.WARNING)  # orbax logs there
  config, workdir, console = _CONFIG.value, Path(_WORKDIR.value), Console(width=120)
  run = open_run(config, workdir)
  runner = run.runner(*SPLITS)
  found = _Figures(Path(_OUT.value), console)
  for row in cost_values(run, runner):
    found.add("cost_value", row)
  params, collected = run.params("wheels"), decisions(run)
  known = collected[config.worth.gain]
  half = known["validation"].example_id % 2 == 0
  seen, unseen = known["validation"].take(half), known["validation"].take(~half)
  for name, parts in {
      "train": (known["train"],),
      "half of validation": (seen,),
      "both": (known["train"], seen),
  }.items():
    head = fitted(run, params, parts)
    found.add("knowledge", {"fitted_to": name, **knowledge(run, head, unseen)})
  students = {
      label: fitted(run, params, tuple(collected[label].values())) for label in ("log_mu", "score")
  }

  def add(name: str, dial: float, student: Params, *, said: dict | None = None, **fields) -> None:
    policy = decoding.make_policy(name, dial, **fields)
    row = {"policy": name, **(said or {}), **fields, "dial": dial}
    found.add("policies", row | measured(runner, policy, student))

  for label, advised in (("score", True), ("score", False), ("log_mu", True)):
    for price in PRICES[label]:
      add("worth", price, students[label], said={"label": label}, advised=advised)
  for budget, price in stated(run, students["score"], collected["score"]["validation"]):
    add("worth", price, students["score"], said={"label": "score", "budget": budget})
  for advised in (True, False):
    for skip in SKIPS:
      for threshold in THRESHOLDS:
        add("route_gap", threshold, params, skip=skip, advised=advised)
    for calls in CALLS:
      add("calls_each", calls, params, advised=advised)


class _Figures:
  """Rows by the name of their table, written to a file and shown as they come."""

  def __init__(self, path: Path, console: Console):
    self._path, self._console, self._rows = path, console, dict[str, list[dict]]()

  def add(self, table: str, row: dict) -> None:
    """Adds a row."""
    self._rows.setdefault(table, []).append(row)
    write_json(self._path, self._rows)
    rounded = {k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}
    self._console.print(table, rounded)


def decisions(run: Run) -> dict[str, dict[str, Decisions]]:
  """Returns the decisions of the training and validation sources, by each unit of G."""
  collect = make_collector(
      run.inputs.models,
      tolerance=run.config.worth.tolerance,
      max_length=run.config.decode.max_length,
      readout_chunk=run.config.wheels.readout_chunk,
  )
  models = run.params("wheels"), run.params("teacher")
  found = {split: collect(*models, worth.batches(run, split)) for split in worth.SPLITS}
  metric, decode = run.config.evaluation.metric, run.inputs.tokenizer.decode
  scored = {
      split: in_points(part, run.inputs.source(split), decode, metric=metric)
      for split, part in found.items()
  }
  return {"log_mu": found, "score": scored}


def stated(run: Run, params: Params, found: Decisions) -> Iterator[tuple[float, float]]:
  """Yields numbers of calls per token and the prices that made as many on validation."""
  expected = jax.device_get(jax.jit(run.inputs.models.student.worth)(params, *found[:3]))
  made, prices = call_prices(found, *expected)
  for budget in STATED:
    yield budget, float(np.interp(budget, made, prices))


def fitted(run: Run, params: Params, parts: tuple[Decisions, ...]) -> Params:
  """Returns a student's parameters with the head fitted to these decisions."""
  student, section = run.inputs.models.student, run.config.worth
  head, _ = worth.fit_worth(student, params, parts, section, seed=run.seed("worth"))
  return {**params, "worth": head}


def knowledge(run: Run, params: Params, found: Decisions) -> dict[str, float]:
  """Returns bias, R² of log(1 + x) and rank correlation of G and C, and that of G / C."""
  model = run.inputs.models.student
  expected = jax.jit(model.worth)(params, *map(jax.numpy.asarray, found[:3]))
  gain, calls = map(np.asarray, expected)
  rows = {}
  for name, mine, true in (("gain", gain, found.gain), ("calls", calls, found.calls)):
    errors = np.log1p(mine) - np.log1p(true)
    rows[f"{name}_mean"] = float(np.mean(true))
    rows[f"{name}_bias"] = float(np.mean(mine - true))
    rows[f"{name}_r2_of_log"] = float(1 - np.mean(errors**2) / np.var(np.log1p(true)))
    rows[f"{name}_rank"] = float(scipy.stats.spearmanr(mine, true)[0])
  rows["gain_per_call_rank"] = float(
      scipy.stats.spearmanr(gain / calls, found.gain / found.calls)[0]
  )
  gap = decoding.signals.column(found.signals[:, :-2], "gap")
  rows["gain_rank_of_gap"] = float(scipy.stats.spearmanr(gap, found.gain)[0])
  return rows


def measured(runner: Runner, policy: decoding.Policy, params: Params, **limits) -> dict[str, float]:
  """Returns calls per 100 tokens, scores and student steps per token on test."""
  outputs = runner.run("test", policy, params, **limits)
  return {
      "calls": 100 * outputs.per_token("teacher_calls"),
      "student_steps": outputs.per_token("student_row_steps"),
      **runner.scores("test", outputs),
  }


def cost_values(run: Run, runner: Runner) -> Iterator[dict[str, float]]:
  """Yields for each budget the share that follows on test, and V_C's predictions of it."""
  policy, wording = decoding.make_policy("handover"), data.TRAIN_WORDINGS[0]
  duals = (run.workdir.summary("wheels") or {})["duals"]
  for budget in BUDGETS:
    outputs = runner.run("test", policy, run.params("worth"), budget=budget, wording=wording)
    predicted = {
        stage: runner.predicted_share(
            "test",
            run.params(stage),
            budget=budget,
            wording=wording,
            price=float(np.interp(budget, run.config.budgets.knots, duals)),
            num_tokens=outputs.num_tokens,
        )
        for stage in ("wheels", "worth")
    }
    yield {"budget": budget, "share": outputs.teacher_share, **predicted}


if __name__ == "__main__":
  app.run(main)
