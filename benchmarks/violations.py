"""Outputs under budgets that promise something, and how many of them break the promise: none.

    python -m benchmarks.violations --outputs=100000 --workdir=runs/m30k-0 --out=FILE.json

Shares, calls, gates and models are random; outputs are greedy and sampled, by policies that ask
and by policies that check. The models are tables, so that lengths and gates vary more than any
trained model's. With `--workdir` the pair of that run writes for its own test sentences too. The
script fails if a promise is broken.
"""

import itertools
import logging
import os
from pathlib import Path
import time

from kdtw_jax.config import fast_compile_flags

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {fast_compile_flags()}"  # before jax

from absl import app, flags
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from rich.console import Console
from rich.table import Table

from kdtw_jax import base, data, decoding
from kdtw_jax.evaluation.promises import broken, spent
from kdtw_jax.files import write_json
from kdtw_jax.pair import load_pair

_OUTPUTS = flags.DEFINE_integer("outputs", 100_000, "Outputs of the random models, all forms")
_BATCH = flags.DEFINE_integer("batch", 512, "Outputs of a batch")
_LENGTH = flags.DEFINE_integer("length", 24, "Most tokens of an output of the random models")
_WORKDIR = flags.DEFINE_string("workdir", None, "Workdir of a finished run, to try its pair too")
_SENTENCES = flags.DEFINE_integer("sentences", 128, "Test sentences of the pair, for each setting")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of everything random")
_OUT = flags.DEFINE_string("out", None, "JSON file for the counts")

# Askers that would overspend: each has a dial at which it calls often.
POLICIES = {
    "handover": {},
    "random": {"dial": 0.6},
    "speculative": {"dial": 3},
    "handover_checked": {"dial": 0.5},
    "verify_max_prob_end": {"dial": 0.5},
}
SAMPLINGS = {"greedy": decoding.Sampling(), "sampled": decoding.Sampling(temperature=1.0)}
_STATES, _VOCABULARY = 509, 13


def table_model() -> base.DecoderFns:
  """Makes a model whose logits and gate are a table row picked by source, position and input."""

  def start(params, source, max_length):
    del params, max_length
    return jnp.sum(source, axis=1)

  def extend(params, cache, tokens, positions):
    del params
    place = positions[:, None] + jnp.arange(tokens.shape[1])[None]
    state = (cache[:, None] + 31 * place * place + 7 * tokens) % _STATES
    return state[..., None].astype(jnp.float32), cache

  def readout(params, cache, hidden):
    del cache
    state = hidden[..., 0].astype(jnp.int32)
    return base.StepOutput(params["logits"][state], params["gates"][state])

  return base.DecoderFns(start, extend, readout)


def table_params(rng: np.random.Generator) -> list[dict[str, np.ndarray]]:
  """Draws a student and a teacher that agree often, and end at a rate of their own."""
  shared = 2 * rng.normal(size=(_STATES, _VOCABULARY))
  shared[:, base.EOS_ID] += rng.uniform(-2.0, 2.0)
  return [
      {
          "logits": np.float32(shared + rng.normal(size=shared.shape)),
          "gates": np.float32(2 * rng.normal(size=_STATES) + rng.uniform(-1, 2)),
      }
      for _ in range(2)
  ]


def random_budget(form: str, rng: np.random.Generator, size: int) -> decoding.Budget:
  """Draws a budget for each row, in hundredths of a percent; a tenth of them are 0."""
  share = rng.integers(0, 10_001, size) / 10_000 * rng.choice([0.3, 1.0])
  return decoding.Budget(
      share=np.float32(np.round(share, 4) * (rng.random(size) > 0.1)),
      form=form,
      pace=np.float32(rng.choice([0.0, 1.0, 4.0])),
      shortest=(np.float32(rng.uniform(0, 8)), np.float32(rng.uniform(0, 1))),
      calls=rng.integers(0, 6, size).astype(np.int32),
      credit=np.int32(0),
  )


class Trial:
  """Decodes batch after batch, and counts outputs, calls and broken promises by form."""

  def __init__(self):
    self.rows = []

  def run(self, decoder, batches, *, models: str, form: str, policy: decoding.Policy, drawn: str):
    """Decodes `(params, sources, budget, key)` batches; a ledger's credit passes on."""
    row = dict(models=models, form=form, policy=policy.name, sampling=drawn)
    row.update(outputs=0, tokens=0, calls=0, violations=0)
    credit = np.int32(0)
    for params, sources, budget, key in batches:
      budget = budget.replace(credit=credit)
      result = decoder(*params, *sources, budget, key, policy)
      credit = result.credit if form == "ledger" else credit
      row["outputs"] += int(np.sum(np.asarray(result.length) > 0))
      row["tokens"] += int(np.sum(result.length))
      row["calls"] += int(np.sum(spent(policy, result)))
      row["violations"] += int(np.sum(broken(budget, policy, result)))
    self.rows.append(row)


def random_batches(form: str, number: int, rng: np.random.Generator):
  """Yields batches of random sources for random models under random budgets."""
  for _ in range(number):
    source = rng.integers(2, 90, (_BATCH.value, 6)).astype(np.int32)
    source *= np.arange(6)[None] < rng.integers(1, 7, _BATCH.value)[:, None]
    key = jax.random.key(rng.integers(2**31))
    yield table_params(rng), (source, source), random_budget(form, rng, _BATCH.value), key


def settings():
  """Yields every form that promises with every policy and sampling that can keep it."""
  for form, name, drawn in itertools.product(decoding.PROMISES, POLICIES, SAMPLINGS):
    policy = decoding.make_policy(name, POLICIES[name].get("dial"))
    if policy.keeps_budget(SAMPLINGS[drawn]):
      yield form, policy, drawn


def try_random_models(trial: Trial, rng: np.random.Generator) -> None:
  """Tries every setting on models that are tables."""
  fns, all_settings = table_model(), list(settings())
  number = -(-_OUTPUTS.value // (_BATCH.value * len(all_settings)))
  for drawn, sampling in SAMPLINGS.items():
    decoder = decoding.make_decoder(
        fns, fns, max_length=_LENGTH.value, sampling=sampling, eager=True
    )
    for form, policy, how in all_settings:
      if how == drawn:
        batches = random_batches(form, number, rng)
        trial.run(decoder, batches, models="tables", form=form, policy=policy, drawn=drawn)


def try_pair(trial: Trial, workdir: Path, rng: np.random.Generator) -> None:
  """Tries every setting on a trained pair and its test sentences."""
  pair = load_pair(workdir)
  config = ml_collections.ConfigDict(pair.config)
  test = data.tokenise(
      data.load_split(config.data, "test"),
      pair.tokenizer,
      buckets=config.data.buckets[-1:],
      over_long="truncate",
      task=config.data.task,
  )
  batch = next(
      data.eval_batches(
          test,
          pair.tokenizer,
          batch_size=_SENTENCES.value,
          budget=max(config.budgets.train),  # the budget in words invites to overspend
          wording=data.TRAIN_WORDINGS[0],
          prompt_length=data.instruction_length(pair.tokenizer, config),
      )
  )
  params = (pair.student_params, pair.teacher_params)
  sources = (batch.student_source, batch.teacher_source)
  for drawn, sampling in SAMPLINGS.items():
    decoder = decoding.make_decoder(
        pair.student.decoder_fns,
        pair.teacher.decoder_fns,
        max_length=config.decode.max_length,
        sampling=sampling,
        eager=True,
    )
    for form, policy, how in settings():
      if how == drawn:
        budget = random_budget(form, rng, _SENTENCES.value)
        batches = [(params, sources, budget, jax.random.key(rng.integers(2**31)))]
        trial.run(decoder, batches, models="pair", form=form, policy=policy, drawn=drawn)


def totals(rows: list[dict]) -> list[dict]:
  """Sums the counts by models and form."""
  found = []
  for models, form in itertools.product(("tables", "pair"), decoding.PROMISES):
    own = [row for row in rows if (row["models"], row["form"]) == (models, form)]
    if own:
      counts = {k: sum(row[k] for row in own) for k in ("outputs", "tokens", "calls", "violations")}
      found.append({"models": models, "form": form, **counts})
  return found


def main(argv):
  """Tries, prints and writes the counts."""
  del argv
  logging.getLogger("absl").setLevel(logging.WARNING)  # orbax logs there
  started, rng, trial = time.monotonic(), np.random.default_rng(_SEED.value), Trial()
  try_random_models(trial, rng)
  if _WORKDIR.value:
    try_pair(trial, Path(_WORKDIR.value), rng)
  found, table = totals(trial.rows), Table(title="outputs under a promise", title_justify="left")
  for column in found[0]:
    table.add_column(column, justify="left" if column in ("models", "form") else "right")
  for row in found:
    table.add_row(*(f"{value:,}" if isinstance(value, int) else value for value in row.values()))
  console = Console(width=100)
  console.print(table)
  console.print(f"{time.monotonic() - started:.0f} s", highlight=False)
  if _OUT.value:
    write_json(_OUT.value, {"totals": found, "rows": trial.rows})
  num_broken = sum(row["violations"] for row in found)
  if num_broken:
    raise SystemExit(f"{num_broken} outputs broke the promise of their budget")


if __name__ == "__main__":
  app.run(main)
