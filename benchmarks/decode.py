"""Decode latency at batch 1 and throughput at batch 32, every method in one run.

    python benchmarks/decode.py --pair=small --out=results/decode_small.json

Weights are random, so what a method would decide is forced: handover asks with the stated
probability, speculative decoding accepts each draft with the stated probability. Every output has
the same length. Figures are ratios within one run: machines differ, and so do their moods.
"""

import dataclasses
import json
from pathlib import Path
import platform
import time

from absl import app, flags
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from kdtw_jax import decoding
from kdtw_jax.models import ModelConfig, build, num_params

PAIRS = {  # (student, teacher): width, feed-forward, heads, head size, encoder and decoder layers
    "multi30k": ((32, 128, 4, 8, 2, 1), (192, 512, 4, 48, 3, 2)),
    "small": ((64, 256, 4, 16, 2, 1), (512, 2048, 8, 64, 6, 6)),  # teacher as wide as t5-small
}
VOCAB = {"multi30k": 4000, "small": 32128}

_PAIR = flags.DEFINE_enum("pair", "small", sorted(PAIRS), "Sizes of student and teacher")
_LENGTH = flags.DEFINE_integer("length", 32, "Output tokens")
_SOURCE = flags.DEFINE_integer("source", 24, "Source tokens")
_CHUNK = flags.DEFINE_integer("chunk", 8, "Width of the teacher's catch-up pass")
_ACCEPT = flags.DEFINE_float("accept", 0.75, "Probability that a draft is accepted")
_RUNS = flags.DEFINE_integer("runs", 15, "Timed runs of each method, interleaved")
_OUT = flags.DEFINE_string("out", None, "JSON file for the figures")


@flax.struct.dataclass
class ForcedSpeculative(decoding.Speculative):
  """Speculative decoding whose drafts are accepted with a fixed probability, decided by a hash."""

  acceptance: float = flax.struct.field(pytree_node=False, default=0.75)
  name: str = flax.struct.field(pytree_node=False, default="forced_speculative")

  def accept(self, drafts, teacher_logits):
    """`[B, k]` True with the stated probability, a function of draft and verification."""
    noise = teacher_logits[:, :-1, 0].view(jnp.uint32) * jnp.uint32(2654435761)
    return (noise >> 8).astype(jnp.float32) / 2**24 < self.acceptance


def _model(sizes, vocab):
  width, hidden, heads, head, encoder, decoder = sizes
  return build(ModelConfig(
      vocab_size=vocab, d_model=width, d_ff=hidden, num_heads=heads, d_kv=head,
      num_encoder_layers=encoder, num_decoder_layers=decoder, dropout_rate=0.0, tau_id=3))


def _systems():
  yield "student", decoding.make_policy("student")
  yield "teacher", decoding.make_policy("teacher")
  for use in (0.0, 0.1, 0.2, 0.3):
    yield f"handover {use:.0%}", decoding.make_policy("random", use)
  for k in (2, 4, 6):
    yield f"speculative k={k}", ForcedSpeculative(k=k, acceptance=_ACCEPT.value)


def _measure(decode, batch, systems):
  """Seconds of each system, interleaved so that a slow moment of the machine hits all alike."""
  source = np.random.default_rng(0).integers(4, 1000, (batch, _SOURCE.value)).astype(np.int32)
  budget, key = np.zeros(batch, np.float32), jax.random.key(0)
  for _, policy in systems:
    jax.block_until_ready(decode(source, budget, key, policy))  # compiles
  seconds, results = ({name: [] for name, _ in systems} for _ in range(2))
  for run in range(_RUNS.value):
    for name, policy in systems:
      started = time.perf_counter()
      result = decode(source, budget, jax.random.fold_in(key, run), policy)
      jax.block_until_ready(result)
      seconds[name].append(time.perf_counter() - started)
      results[name].append(result)
  tokens = batch * _LENGTH.value

  def mean(name, count):
    return float(np.mean([getattr(result, count).sum() for result in results[name]]))

  return {name: {
      "seconds": float(np.median(times)), "ms_per_token": 1e3 * float(np.median(times)) / tokens,
      "tokens_per_second": tokens / float(np.median(times)),
      "asked": mean(name, "asks") / tokens,
      "teacher_passes": mean(name, "teacher_passes") / _LENGTH.value,
      "student_steps": mean(name, "student_steps") / _LENGTH.value,
  } for name, times in seconds.items()}


def main(argv):
  """Measures and prints."""
  del argv
  vocab = VOCAB[_PAIR.value]
  student, teacher = (_model(sizes, vocab) for sizes in PAIRS[_PAIR.value])
  params = tuple(m.init(jax.random.key(i)) for i, m in enumerate((student, teacher)))
  decoders = {eager: decoding.make_decoder(
      student.decoder_fns, teacher.decoder_fns, chunk=_CHUNK.value, max_length=_LENGTH.value,
      eager=eager, eos_id=-1) for eager in (False, True)}

  def decode(source, budget, key, policy):
    decoder = decoders[len(source) > 1]  # a large batch is served best by an eager teacher
    return decoder(*params, source, source, budget, key, policy)

  systems = list(_systems())
  report = {"pair": _PAIR.value, "length": _LENGTH.value, "accept": _ACCEPT.value,
            "chunk": _CHUNK.value, "runs": _RUNS.value, "jax": jax.__version__,
            "hardware": f"{jax.devices()[0].device_kind} {platform.machine()}",
            "params": [num_params(p) for p in params],
            "student_config": dataclasses.asdict(student.config),
            "teacher_config": dataclasses.asdict(teacher.config)}
  console = Console()
  for batch in (1, 32):
    rows = report[f"batch_{batch}"] = _measure(decode, batch, systems)
    if batch == 1:
      ratio = rows["teacher"]["seconds"] / rows["student"]["seconds"]
      report["teacher_per_student_step"] = ratio
    table = Table(title=f"pair {_PAIR.value}, batch {batch}, {_LENGTH.value} tokens", min_width=80)
    for column in ("method", "ms/token", "tokens/s", "x teacher", "teacher passes/token"):
      table.add_column(column, justify="left" if column == "method" else "right")
    for name, row in rows.items():
      table.add_row(name, f"{row['ms_per_token']:.3f}", f"{row['tokens_per_second']:,.0f}",
                    f"{rows['teacher']['seconds'] / row['seconds']:.2f}",
                    f"{row['teacher_passes']:.2f}")
    console.print(table)
  console.print(f"one teacher pass costs {report['teacher_per_student_step']:.1f} student steps "
                "(batch 1, encoder included)")
  if _OUT.value:
    Path(_OUT.value).parent.mkdir(parents=True, exist_ok=True)
    Path(_OUT.value).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
  app.run(main)
