"""A comparison of ways to train the wheels, all starting from the same distilled student.

    python -m benchmarks.wheels --config=configs/multi30k.py --config.data.path=DIR \
        --base=runs/m30k --out=results/multi30k/wheels.json

Scores are read off each method's curve at equal shares of teacher tokens; None is out of its reach.
`--base` is a workdir of the same config whose stages up to `distillation` are done. Each variant is
a separate, resumable run in `BASE/variants/NAME`. Scores are on validation; test is not touched.
Other kinds of gate have other parameters and need a separate base.
"""

import json
import logging
from pathlib import Path

from absl import app, flags
import jax
from ml_collections import config_flags
from rich.console import Console

from benchmarks.variants import branch
from kdtw_jax.evaluation import sweeps
from kdtw_jax.evaluation.measure import Measure
from kdtw_jax.evaluation.tradeoff import score_at_share
from kdtw_jax.files import write_json
from kdtw_jax.report.summary import SHARE_TOLERANCE
from kdtw_jax.stages import wheels

VARIANTS = {
    "default": {},
    "difficulty: KL": {"wheels.gate_credit": "expected_kl"},
    "difficulty: gap up to 4 nats": {"wheels.max_difficulty": 4.0},
    "gate: probability": {"wheels.gate_regression": "probability"},
    "gate: sampled credit": {
        "wheels.gate_credit": "sampled",
        "wheels.gate_sampled": True,
        "wheels.path_consistency": 1.0,
    },
    "gate: frozen student": {
        "wheels.learning_rate": 1e-9,
        "student.model.detach_gate_features": True,
    },
    "student: path consistency alone": {
        "wheels.path_consistency": 1.0,
        "wheels.losses.forward_kl.weight": 0.0,
        "wheels.learning_rate": 2e-4,
    },
    "student: path consistency over 4 tokens": {"wheels.segment_length": 4},
    "student: forward KL alone (gap up to 4 nats)": {
        "wheels.path_consistency": 0.0,
        "wheels.max_difficulty": 4.0,
    },
    "student: forward KL alone": {"wheels.path_consistency": 0.0},
    "rollouts: greedy": {"wheels.rollout_temperature": 0.0},
    "rollouts: temperature 1": {"wheels.rollout_temperature": 1.0},
}
METHODS = ("random", "max_prob", "margin")

_CONFIG = config_flags.DEFINE_config_file("config", None, "The config of the base run")
_BASE = flags.DEFINE_string("base", None, "Workdir of the base run")
_OUT = flags.DEFINE_string("out", None, "JSON file for the figures; what it holds is kept")
_ONLY = flags.DEFINE_multi_enum("only", [], list(VARIANTS), "A variant; repeat for more; none: all")
flags.mark_flags_as_required(["config", "base", "out"])


def run_variant(config, base: Path, name: str, overrides: dict) -> dict:
  """Trains, calibrates and scores one variant, on validation."""
  config = config.copy_and_resolve_references()
  config.update_from_flattened_dict(overrides)
  workdir = base / "variants" / "".join(c if c.isalnum() else "_" for c in name)
  run = branch(config, base, workdir, "warm_start", "distillation")
  wheels.train(run)
  params, splits = run.params("wheels"), ("validation",)
  measure = Measure(
      config,
      run.inputs.models,
      run.mesh,
      run.inputs.tokenizer,
      students={"wheels": params},
      teacher_params=run.params("teacher"),
      sources={split: run.inputs.source(split) for split in splits},
      tokenised={split: run.inputs.tokenised(split) for split in splits},
      paces={},
  )
  alone = measure.alone("wheels", "validation")
  swept = [sweeps.handovers(measure)[0], *sweeps.baselines(measure, METHODS)]
  curves = [measure.curve("validation", sweep) for sweep in swept]
  return {
      "variant": name,
      "overrides": overrides,
      "seed": config.seed,
      "student": measure.runner.scores("validation", alone)[measure.key],
      "scores": {
          curve.method: {
              f"{share:g}": found.score
              for share in config.evaluation.compare_at
              if (found := score_at_share(curve, measure.key, share))
              and abs(found.share - share) <= SHARE_TOLERANCE
          }
          for curve in curves
      },
      "duals": run.workdir.summary("wheels")["duals"],
      "seconds": run.workdir.summary("wheels")["seconds"],
      "hardware": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
  }


def main(_):
  """Runs the variants that are missing in the file of figures."""
  logging.getLogger("absl").setLevel(logging.WARNING)  # orbax logs there
  out, console = Path(_OUT.value), Console()
  rows = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else []
  for name in _ONLY.value or VARIANTS:
    if name in {row["variant"] for row in rows}:
      continue
    rows.append(run_variant(_CONFIG.value, Path(_BASE.value), name, VARIANTS[name]))
    write_json(out, rows)
    console.print(f"{name}: {json.dumps(rows[-1]['scores'])}", highlight=False)


if __name__ == "__main__":
  app.run(main)
