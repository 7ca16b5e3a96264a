"""What a trained teacher loses in eight bits (`teacher.int8`): its texts, and its distributions.

    python -m benchmarks.int8 --config=configs/multi30k.py --config.data.path=DIR \
        --workdir=runs/m30k-teacher --out=FILE.json

The same weights, as trained and with the kernels of layers in eight bits: greedy outputs on test,
scored, and the difference with its 95% interval; on the references of test the log-probability of a
token, the divergence of one distribution from the other, and how often both prefer the same token.
"""

import logging
from pathlib import Path

from absl import app, flags
import jax
import jax.numpy as jnp
from ml_collections import config_flags

from kdtw_jax import data, decoding, losses
from kdtw_jax.base import PAD_ID, Batch, Params
from kdtw_jax.evaluation import metrics
from kdtw_jax.evaluation.bootstrap import paired_bootstrap
from kdtw_jax.evaluation.outputs import Outputs, Runner
from kdtw_jax.files import write_json
from kdtw_jax.models import Model, shift_right
from kdtw_jax.run import open_run

_CONFIG = config_flags.DEFINE_config_file("config", None, "The config of the run")
_WORKDIR = flags.DEFINE_string("workdir", None, "Workdir of the run, with its stage `teacher`")
_OUT = flags.DEFINE_string("out", None, "JSON file for the figures")
flags.mark_flags_as_required(["config", "workdir", "out"])


def main(argv):
  """Measures both, prints and writes the figures."""
  del argv
  logging.getLogger("absl").setLevel(logging.WARNING)  # orbax logs there
  config = _CONFIG.value
  runs = []
  for in_eight_bits in (False, True):
    config.teacher.int8 = in_eight_bits
    runs.append(open_run(config.copy_and_resolve_references(), Path(_WORKDIR.value)))
  whole, eight = (run.params("teacher") for run in runs)
  runners = [run.runner("test") for run in runs]
  before, after = (runner.run("test", decoding.TeacherAlone(), None) for runner in runners)
  runner = runners[0]
  found = {
      "megabytes": [megabytes(whole), megabytes(eight)],
      "test": [runner.scores("test", written) for written in (before, after)],
      "difference": {
          key: difference(runner, after, before, key, config.evaluation.num_resamples)
          for key in metrics.compared_scores(config.evaluation.metric)
      },
      "same_outputs": sum(a == b for a, b in zip(before.texts, after.texts, strict=True))
      / len(before.texts),
      "references": on_references(
          runs[0].model("teacher"), runner, (whole, eight), config.evaluation.batch_size
      ),
      "hardware": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
  }
  write_json(Path(_OUT.value), found)
  for name, value in found.items():
    print(name, value)


def megabytes(params: Params) -> float:
  """Returns the size of params."""
  return sum(leaf.nbytes for leaf in jax.tree.leaves(params)) / 1e6


def difference(
    runner: Runner, after: Outputs, before: Outputs, metric: str, num_resamples: int
) -> list[float]:
  """Returns the difference on test, and its 95% interval."""
  references = runner.references["test"]
  found = paired_bootstrap(
      after.texts, before.texts, references, metric=metric, num_resamples=num_resamples
  )
  return [found.delta, *found.interval]


def on_references(
    model: Model, runner: Runner, params: tuple[Params, Params], batch_size: int
) -> dict[str, float | list[float]]:
  """Compares the distributions in the states of the references of test, per token."""

  @jax.jit
  def sums(whole: Params, eight: Params, batch: Batch) -> jax.Array:
    """Sums log μ of both, KL(whole ‖ eight), equal choices, and tokens."""
    logits = [
        model.logits(p, model.hidden(p, model.encode(p, source), shift_right(target)))
        for p in (whole, eight)
        for source, target in [(jnp.asarray(batch.teacher_source), jnp.asarray(batch.target))]
    ]
    log_probs = [jax.nn.log_softmax(row, axis=-1) for row in logits]
    divergence = jnp.sum(jnp.exp(log_probs[0]) * (log_probs[0] - log_probs[1]), axis=-1)
    same = jnp.argmax(logits[0], axis=-1) == jnp.argmax(logits[1], axis=-1)
    taken = [losses.taken_log_probs(row, jnp.asarray(batch.target)) for row in logits]
    mask = jnp.asarray(batch.target) != PAD_ID
    terms = (*taken, divergence, same, mask)
    return jnp.stack([jnp.sum(jnp.where(mask, term, 0.0)) for term in terms])

  total = jnp.zeros(5)
  for batch in runner.batches(
      "test", budget=0.0, wording=data.TRAIN_WORDINGS[0], batch_size=batch_size
  ):
    total = total + sums(*params, batch)
  *log_probs, divergence, same, tokens = (float(x) for x in total)
  return {
      "log_prob": [x / tokens for x in log_probs],
      "divergence": divergence / tokens,
      "same_choice": same / tokens,
  }


if __name__ == "__main__":
  app.run(main)
