"""Tokens per second of a trained pair on its test sentences: batches against continuous batching.

    python -m benchmarks.throughput --workdir=runs/m30k-0 --out=FILE.json

Real outputs have different lengths. A batch runs until its longest row is done; with continuous
batching a slot whose row is done takes the next sentence. The same sentences are fed in three ways,
in turns: batches as they come, batches sorted by source length (which needs all sentences at the
start), and slots. All three write the same tokens.
"""

import logging
from pathlib import Path
import platform
import time

from absl import app, flags
import jax
import ml_collections
import numpy as np
from rich.console import Console
from rich.table import Table

from kdtw_jax import data, decoding
from kdtw_jax.files import write_json
from kdtw_jax.pair import load_pair
from kdtw_jax.run import open_run

_WORKDIR = flags.DEFINE_string("workdir", None, "Workdir of a finished run", required=True)
_BATCHES = flags.DEFINE_list("batches", ["1", "8", "32", "128"], "Batch sizes, or slots")
_BUDGET = flags.DEFINE_float("budget", 0.2, "Budget of the handover")
_WAIT = flags.DEFINE_float("wait", 0.5, "Share of the rows that must need the teacher")
_CHUNK = flags.DEFINE_list("chunk", ["4", "16"], "Widths of a catch-up pass")
_SENTENCES = flags.DEFINE_integer("sentences", 512, "Test sentences")
_RUNS = flags.DEFINE_integer("runs", 3, "Timed runs of each way, in turns; the median counts")
_OUT = flags.DEFINE_string("out", None, "JSON file for the figures")


class Bench:
  """A trained pair and its test sentences."""

  def __init__(self, workdir: Path):
    self.pair = load_pair(workdir)
    self.config = ml_collections.ConfigDict(self.pair.config)
    self.tokenised = open_run(self.config, workdir).inputs.tokenised("test")
    self.params = (self.pair.student_params, self.pair.teacher_params)
    self.fns = (self.pair.student.decoder_fns, self.pair.teacher.decoder_fns)
    self.settings = {
        "max_length": self.config.decode.max_length,
        "chunk": tuple(map(int, _CHUNK.value)),
        "wait": _WAIT.value,
        "pass_rows": self.config.decode.pass_rows or None,
    }

  def batches(self, size: int, by_length: bool) -> list:
    """Returns the sentences in batches of `size` rows."""
    found, left = [], _SENTENCES.value
    for batch in data.eval_batches(
        self.tokenised,
        self.pair.tokenizer,
        batch_size=size,
        budget=_BUDGET.value,
        wording=data.TRAIN_WORDINGS[0],
        prompt_length=data.instruction_length(self.pair.tokenizer, self.config),
        by_length=by_length,
    ):
      found.append(batch)
      left -= size
      if left <= 0:
        break
    return found

  def in_batches(self, size: int, policy, by_length: bool):
    """Makes a function that decodes all sentences batch by batch and returns the token count."""
    batches = self.batches(size, by_length)
    decode = decoding.make_decoder(*self.fns, **self.settings)

    def run():
      results = [
          decode(
              *self.params, b.student_source, b.teacher_source, b.budget, jax.random.key(0), policy
          )
          for b in batches
      ]
      lengths = np.concatenate([np.asarray(result.length) for result in results])
      return int(lengths.sum())

    return run

  def in_slots(self, slots: int, policy):
    """Makes the same function with continuous batching."""
    requests = [
        decoding.Request(b.student_source[0], b.teacher_source[0], float(b.budget[0]))
        for b in self.batches(1, False)
    ]
    programs = decoding.SlotPrograms(*self.fns, batch=slots, **self.settings)

    def run():
      args = (*self.params, requests, jax.random.key(0), policy)
      return int(sum(done.result.length for done in decoding.decode_stream(programs, *args)))

    return run


def main(argv):
  """Measures, prints and writes the figures."""
  del argv
  logging.getLogger("absl").setLevel(logging.WARNING)  # orbax logs there
  bench, console = Bench(Path(_WORKDIR.value)), Console(width=110)
  report = {
      "workdir": Path(_WORKDIR.value).name,
      "sentences": _SENTENCES.value,
      "budget": _BUDGET.value,
      "wait": _WAIT.value,
      "chunk": bench.settings["chunk"],
      "jax": jax.__version__,
      "rows": [],
      "hardware": (
          f"{jax.device_count()} x {jax.devices()[0].device_kind}, " f"{platform.machine()}"
      ),
  }
  for name in ("student", "teacher", "handover"):
    policy = decoding.make_policy(name)
    for size in map(int, _BATCHES.value):
      ways = {
          "as they come": bench.in_batches(size, policy, False),
          "by source length": bench.in_batches(size, policy, True),
          "slots": bench.in_slots(size, policy),
      }
      seconds, tokens = {way: [] for way in ways}, {way: run() for way, run in ways.items()}
      for _ in range(_RUNS.value):
        for way, run in ways.items():
          started = time.perf_counter()
          run()
          seconds[way].append(time.perf_counter() - started)
      report["rows"].append(
          {
              "method": name,
              "batch": size,
              **{way: tokens[way] / float(np.median(seconds[way])) for way in ways},
          }
      )
  table = Table(title="tokens per second", title_justify="left")
  for column in report["rows"][0]:
    table.add_column(column, justify="left" if column == "method" else "right")
  for row in report["rows"]:
    table.add_row(*(f"{v:,.0f}" if isinstance(v, float) else str(v) for v in row.values()))
  console.print(table)
  if _OUT.value:
    write_json(_OUT.value, report)


if __name__ == "__main__":
  app.run(main)
