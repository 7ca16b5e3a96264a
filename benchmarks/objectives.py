"""The zoo of distillation: every objective of configs/objectives.py from the same student.

    python -m benchmarks.objectives --config=configs/multi30k.py:objective=path_consistency \
        --config.data.path=DIR --base=runs/m30k-0 --rates=1e-4,3e-4 --out=results/objectives0.json
    python -m benchmarks.objectives --table results/objectives*.json

`--base` is a workdir of the same config whose stages up to `warm_start` are done, however its
student is distilled; the config says how long V learns alone before path consistency. Each
objective at each learning rate is a separate, resumable run in `BASE/objectives/NAME-RATE`: the
same steps, batches and seed, and half of the rows the student's own where the objective has such
rows. The rate is that of the best score on validation, where the student writes alone; test is
decoded with that one only. With `--table`, the mean over the files, one per seed, and the range.
"""

import json
import logging
from pathlib import Path

from absl import app, flags
import jax
import jax.numpy as jnp
from ml_collections import config_flags
import numpy as np
from rich.console import Console

from benchmarks import seeds
from benchmarks.variants import branch
from configs import objectives
from kdtw_jax import config as config_lib
from kdtw_jax import data, decoding, devices
from kdtw_jax.base import Params
from kdtw_jax.evaluation import metrics
from kdtw_jax.evaluation.bootstrap import paired_bootstrap
from kdtw_jax.evaluation.outputs import Outputs
from kdtw_jax.files import write_json
from kdtw_jax.stages import distillation, rollouts, scoring
from kdtw_jax.stages.stage import Run

SPLITS = ("validation", "test")
START = "the student at the start"

_CONFIG = config_flags.DEFINE_config_file("config", None, "The config of the base run")
_BASE = flags.DEFINE_string("base", None, "Workdir of the base run")
_OUT = flags.DEFINE_string("out", None, "JSON file for the figures; what it holds is kept")
_RATES = flags.DEFINE_list("rates", ["1e-4", "3e-4", "1e-3"], "Learning rates to choose from")
_ONLY = flags.DEFINE_multi_enum("only", [], list(objectives.OBJECTIVES), "Repeat for more; or all")
_TABLE = flags.DEFINE_bool("table", False, "Print a Markdown table of the files given, and end")


class Scorer:
  """Scores of students alone: of their texts, and of their tokens under the teacher."""

  def __init__(self, run: Run):
    """Opens validation and test of a run."""
    self._run, self._config = run, run.config
    self._runner = run.runner(*SPLITS)
    self._sums = jax.jit(self._token_sums, static_argnums=3)

  def outputs(self, split: str, params: Params) -> Outputs:
    """Decodes a split by the student alone, greedily."""
    return self._runner.run(split, decoding.StudentAlone(), params)

  def scores(self, split: str, outputs: Outputs) -> dict[str, float]:
    """Scores outputs by the config's metric."""
    return self._runner.scores(split, outputs)

  def difference(self, outputs: Outputs, baseline: Outputs, metric: str) -> list[float]:
    """Returns the difference on test, and its 95% interval."""
    found = paired_bootstrap(
        outputs.texts,
        baseline.texts,
        self._runner.references["test"],
        metric=metric,
        num_resamples=self._config.evaluation.num_resamples,
    )
    return [found.delta, *found.interval]

  def tokens(self, params: Params, temperature: float) -> dict[str, float]:
    """Returns nats per token, and per output, of the student's outputs on test."""
    totals = np.zeros(5)
    batches = self._runner.batches(
        "test",
        budget=0.0,
        wording=data.TRAIN_WORDINGS[0],
        batch_size=self._config.evaluation.batch_size,
    )
    length = self._config.decode.max_length
    for number, batch in enumerate(batches):
      batch = batch._replace(target=np.zeros((len(batch.example_id), length), np.int32))
      batch = devices.shard_batch(self._run.mesh, batch)
      key = jax.random.key(number)
      totals += np.asarray(
          self._sums(params, self._run.params("teacher"), (batch, key), temperature)
      )
    log_probs, teacher_log_probs, tokens, rows, ended = totals.tolist()
    return {
        "teacher_log_prob": teacher_log_probs / tokens,
        "reverse_kl_per_output": (log_probs - teacher_log_probs) / rows,
        "tokens_per_output": tokens / rows,
        "ended": ended / rows,
    }

  def _token_sums(self, params: Params, teacher_params: Params, batch_and_key, temperature: float):
    """Sums log π, log μ, tokens, rows and rows with an end over a batch of own outputs."""
    models, stage = self._run.inputs.models, config_lib.defaults().distillation
    stage.update(on_policy_fraction=1.0, rollout_temperature=temperature)
    rollout = rollouts.make_rollout(models, stage, max_length=10**9)
    trajectory = rollout(params, teacher_params, *batch_and_key)
    scores = scoring.score(models, stage, params, teacher_params, trajectory)
    real = scores.mask[:, 0]
    return jnp.stack(
        [
            jnp.sum(jnp.where(scores.mask, scores.log_probs, 0.0)),
            jnp.sum(jnp.where(scores.mask, scores.teacher_log_probs, 0.0)),
            jnp.sum(scores.mask),
            jnp.sum(real),
            jnp.sum(real & trajectory.ended),
        ]
    )


def train(config, base: Path, name: str, rate: float) -> Run:
  """Trains one objective at one learning rate, from the base's warm start."""
  config = config.copy_and_resolve_references()
  with config.unlocked():
    objectives.use(config, name)
  config.distillation.learning_rate = rate
  run = branch(config, base, base / "objectives" / f"{name}-{rate:g}", "warm_start")
  distillation.train(run)
  return run


def measure(scorer: Scorer, params: Params, start: Outputs | None) -> tuple[dict, Outputs]:
  """Measures one student on test, against the student at the start."""
  outputs = scorer.outputs("test", params)
  found = {
      "test": scorer.scores("test", outputs),
      "greedy": scorer.tokens(params, 0.0),
      "sampled": scorer.tokens(params, 1.0),
  }
  if start is not None:
    metric = _CONFIG.value.evaluation.metric
    found["less the start"] = {
        key: scorer.difference(outputs, start, key) for key in metrics.compared_scores(metric)
    }
  return found, outputs


def main(argv):
  """Runs the objectives that are missing in the file of figures, or prints the table."""
  if _TABLE.value:
    if not argv[1:]:
      raise app.UsageError("--table needs the files of figures")
    print(tabulated([json.loads(Path(path).read_text(encoding="utf-8")) for path in argv[1:]]))
    return
  for flag in ("config", "base", "out"):
    if flags.FLAGS[flag].value is None:
      raise app.UsageError(f"--{flag} is needed")
  logging.getLogger("absl").setLevel(logging.WARNING)  # orbax logs there
  config, base, out, console = _CONFIG.value, Path(_BASE.value), Path(_OUT.value), Console()
  key = metrics.primary_score(config.evaluation.metric)
  found = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {}
  start_outputs = None
  for name in _ONLY.value or objectives.OBJECTIVES:
    if name in found:
      continue
    validation, params = {}, {}
    for rate in map(float, _RATES.value):
      run = train(config, base, name, rate)
      scorer = Scorer(run)
      params[rate] = run.params("distillation")
      validation[rate] = scorer.scores("validation", scorer.outputs("validation", params[rate]))
      console.print(f"{name} {rate:g}: validation {validation[rate][key]:.2f}", highlight=False)
    if start_outputs is None:
      row, start_outputs = measure(scorer, run.params("warm_start"), None)
      found.setdefault(START, row)
    best = max(validation, key=lambda rate: validation[rate][key])
    row, _ = measure(scorer, params[best], start_outputs)
    found[name] = {
        "learning_rate": best,
        "validation": {f"{rate:g}": scores for rate, scores in validation.items()},
        **row,
        "steps": config.distillation.steps,
        "seed": config.seed,
        "hardware": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
    }
    write_json(out, found)
    console.print(f"{name}: test {row['test'][key]:.2f}", highlight=False)


def per_token(sampled: dict[str, float]) -> float:
  """Returns the reverse KL of a token of the student's samples: brevity does not lower it."""
  return sampled["reverse_kl_per_output"] / sampled["tokens_per_output"]


def tabulated(runs: list[dict]) -> str:
  """Formats the mean over seeds, with the range in brackets; the best on test first.

  The difference from the start is that of each seed, with its interval over sentences.
  """
  keys = list(runs[0][START]["test"])
  names = [name for name in runs[0] if all(name in run for run in runs)]
  key = next(iter(runs[0][next(name for name in names if name != START)]["less the start"]))
  rows = []
  for name in sorted(names, key=lambda n: -np.mean([run[n]["test"][key] for run in runs])):
    found = [run[name] for run in runs]
    less = [row["less the start"][key] for row in found if name != START]
    rows.append(
        [
            name,
            "; ".join(f"{mean:+.1f} ({low:+.1f} to {high:+.1f})" for mean, low, high in less),
            *(seeds.over_seeds(row["test"][key] for row in found) for key in keys[:-1]),
            seeds.over_seeds((row["test"][keys[-1]] for row in found), 2),
            seeds.over_seeds((row["greedy"]["teacher_log_prob"] for row in found), 2),
            seeds.over_seeds((row["sampled"]["reverse_kl_per_output"] for row in found), 2),
            seeds.over_seeds((per_token(row["sampled"]) for row in found), 3),
            seeds.over_seeds((100 * row["greedy"]["ended"] for row in found), 0),
            ", ".join(sorted({f"{row['learning_rate']:g}" for row in found if "seed" in row})),
        ]
    )
  head = [
      "objective",
      f"{key} less the start",
      *keys,
      "log μ per token",
      "reverse KL, sampled",
      "the same per token",
      "ended, %",
      "rate",
  ]
  return seeds.table(head, rows)


if __name__ == "__main__":
  app.run(main)
