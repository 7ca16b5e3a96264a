"""The gain on test from letting calls of the learned gate check as well as write.

    python benchmarks/checking.py --config=configs/multi30k.py --config.data.path=DIR \
        --workdir=runs/m30k-0 --out=FILE.json

The same trained gate is measured under the same budgets in two ways. Its asks only write, or the
pass that an ask pays for also takes back student tokens that the teacher rejects by more than a
tolerance. The end of a sentence is not checked, so every call is an ask.
"""

import logging
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags
from rich.console import Console

from kdtw_jax import decoding
from kdtw_jax.evaluation.outputs import Runner
from kdtw_jax.files import write_json
from kdtw_jax.pair import load_pair
from kdtw_jax.run import open_run

_CONFIG = config_flags.DEFINE_config_file("config", None, "The config of the run")
_WORKDIR = flags.DEFINE_string("workdir", None, "Workdir of the finished run")
_OUT = flags.DEFINE_string("out", None, "JSON file for the figures")
flags.mark_flags_as_required(["config", "workdir", "out"])

BUDGETS = (0.05, 0.1, 0.15, 0.2, 0.3)
TOLERANCES = (None, 2.0, 1.0, 0.5)  # nats; None: asks only write


def main(argv):
  """Measures, prints and writes the figures."""
  del argv
  logging.getLogger("absl").setLevel(logging.WARNING)  # orbax logs there
  config, workdir, console = _CONFIG.value, Path(_WORKDIR.value), Console(width=100)
  pair, run = load_pair(workdir), open_run(config, workdir)
  runner = Runner(
      config,
      (pair.student, pair.teacher),
      run.mesh,
      pair.tokenizer,
      pair.teacher_params,
      sources={"test": run.inputs.source("test")},
      tokenised={"test": run.inputs.tokenised("test")},
  )
  rows = []
  for tolerance in TOLERANCES:
    policy = (
        decoding.make_policy("handover")
        if tolerance is None
        else decoding.make_policy("handover_checked", tolerance, end=False)
    )
    for budget in BUDGETS:
      outputs = runner.run("test", policy, pair.student_params, budget=budget)
      rows.append(
          {
              "tolerance": tolerance,
              "budget": budget,
              "calls": outputs.per_token("teacher_calls"),
              "written": outputs.teacher_share,
              **runner.scores("test", outputs),
          }
      )
      console.print(
          {key: value if value is None else round(value, 3) for key, value in rows[-1].items()}
      )
  write_json(_OUT.value, rows)


if __name__ == "__main__":
  app.run(main)
