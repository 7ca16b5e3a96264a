"""Decoding speed of all methods in one run, against memory bandwidth and against other engines.

    python -m benchmarks.decode --student=t5-small --teacher=t5-base --peer --out=FILE.json
    python -m benchmarks.decode --student=causal-mini --teacher=qwen3-0.6b --peer --out=FILE.json

Sizes have names. Weights are random, so the decisions that matter are forced: a handover asks with
a given probability; a draft is accepted with a given probability, in speculation as in checks of
whole outputs; and where help is routed, a given share of the outputs gets it. All outputs have the
same length. `--peer` (extra `parity`) gives the same weights to transformers' `generate`, and on a
CPU those of a T5 to CTranslate2, in float32 and in int8, with one thread or one per core, whichever
is faster. Timed runs are interleaved. Seconds are medians, and ratios are of the same turn, with
their quartiles. Trust the ratios within one run: machines differ, and each varies over time.
"""

import dataclasses
import functools
import itertools
import os
import platform
import sys

from absl import app, flags
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from benchmarks.peer import CTranslate2, Peer
from benchmarks.random_models import NAMES, bytes_per_step, model_of, sources, streaming_seconds
from benchmarks.timing import interleaved, show
from kdtw_jax import decoding
from kdtw_jax.files import write_json
from kdtw_jax.models import num_params

_STUDENT = flags.DEFINE_enum("student", "tiny", NAMES, "Size of the student")
_TEACHER = flags.DEFINE_enum("teacher", "t5-small", NAMES, "Size of the teacher")
_LENGTH = flags.DEFINE_integer("length", 32, "Output tokens", lower_bound=2)
_SOURCE = flags.DEFINE_integer("source", 24, "Source tokens")
_BATCHES = flags.DEFINE_list("batches", ["1", "8", "32", "128"], "Batch sizes; '': none")
_WAITS = flags.DEFINE_list("waits", ["0", "0.5", "0.75", "1"], "Shares that must wait, in batches")
_PASS_ROWS = flags.DEFINE_list("pass_rows", ["all"], "Rows of a teacher pass, in batches")
_CHUNK = flags.DEFINE_list("chunk", ["4", "16"], "Widths of a catch-up pass")
_DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Weights and cache")
_ACCEPT = flags.DEFINE_float("accept", 0.75, "Probability that a draft is accepted")
_HELPED = flags.DEFINE_list("helped", ["0.5"], "Shares of the outputs that get help")
_RUNS = flags.DEFINE_integer("runs", 11, "Timed runs of each method, interleaved")
_PEER_BATCHES = flags.DEFINE_list("peer_batches", ["1", "8"], "Batch sizes of other engines")
_PEER = flags.DEFINE_bool("peer", False, "Also time transformers and CTranslate2 on these weights")
_OUT = flags.DEFINE_string("out", None, "JSON file for the figures")


class Forced:
  """A policy that accepts drafts with a fixed probability, by a hash."""

  def stays(self, drafts, key, sampling):
    """Returns `[B, k]`, True with that probability: a hash of the logit of an ordinary token."""
    del key, sampling
    noise = drafts.teacher_logits[:, :, 4].view(jnp.uint32) * jnp.uint32(2654435761)
    return (noise >> 8).astype(jnp.float32) / 2**24 < _ACCEPT.value


@flax.struct.dataclass
class ForcedSpeculative(Forced, decoding.Speculative):
  """Speculative decoding."""


@flax.struct.dataclass
class ForcedCheck(Forced, decoding.Verify):
  """A check at the end alone, until all is accepted."""


@flax.struct.dataclass
class ForcedRoute(Forced, decoding.Route):
  """Help for some outputs, until all is accepted."""


@dataclasses.dataclass(frozen=True)
class System:
  """One way to decode: a policy, and for policies of catching up how rows wait."""

  policy: decoding.Policy
  wait: float = 1.0
  pass_rows: int | None = None
  eager: bool = False


class Ours:
  """Our student and teacher with random weights, and their measurements."""

  def __init__(self):
    self.names = (_STUDENT.value, _TEACHER.value)
    self.models = tuple(model_of(name, _DTYPE.value) for name in self.names)
    self.params = tuple(m.init(jax.random.key(i)) for i, m in enumerate(self.models))
    self.chunk = tuple(map(int, _CHUNK.value))

  @functools.cache  # noqa: B019  one object per run
  def decoder(self, length: int, wait: float, pass_rows: int | None, eager: bool):
    """Makes the jitted decoder of a setting."""
    return decoding.make_decoder(
        *(m.decoder_fns for m in self.models),
        max_length=length,
        chunk=self.chunk,
        wait=wait,
        pass_rows=pass_rows,
        eager=eager,
        eos_id=-1,
    )

  def systems(self, batch: int) -> dict[str, System]:
    """Returns the systems to compare at a batch size, by name."""
    ask, k = decoding.make_policy, min(_LENGTH.value - 1, 24)
    found = {who: System(ask(who)) for who in ("student", "teacher")}
    waits = [float(wait) for wait in _WAITS.value] if batch > 1 else [1.0]
    some = {number: None if number == "all" else int(number) for number in _PASS_ROWS.value}
    passes = {f", {number} rows a pass": n for number, n in some.items() if n is None or n < batch}
    for use in (0.1, 0.2, 0.3):
      for wait, (suffix, rows) in itertools.product(waits, passes.items()):
        name = f"handover {use:.0%}, wait {wait:g}{suffix}"
        found[name] = System(ask("random", use), wait, rows)
      found[f"handover {use:.0%}, eager"] = System(ask("random", use), eager=True)
    for suffix, rows in passes.items():
      for k_drafts in (2, 4, 6):
        policy = ForcedSpeculative(k=k_drafts)
        found[f"speculative k={k_drafts}{suffix}"] = System(policy, pass_rows=rows)
      found[f"check until clean{suffix}"] = System(ForcedCheck(rule="prefix", k=k), pass_rows=rows)
      for share in _HELPED.value:
        helped = jnp.where(jnp.arange(batch) % round(1 / float(share)) == 0, jnp.inf, -jnp.inf)
        policy = ForcedRoute(threshold=helped, by="tokens")
        found[f"check {float(share):.0%} of the outputs{suffix}"] = System(policy, pass_rows=rows)
    return found

  def call(self, batch: int, system: System, length: int = 0):
    """Makes a function of the run's number that decodes and keeps its results in `.results`."""
    how = (system.wait, system.pass_rows, system.eager)
    decoder = self.decoder(length or _LENGTH.value, *how)
    source = sources(batch, _SOURCE.value, self.names[0])
    budget = np.zeros(batch, np.float32)

    def run(number):
      run.results[number] = jax.block_until_ready(
          decoder(*self.params, source, source, budget, jax.random.key(number), system.policy)
      )

    run.results = {}
    return run

  def measure(self, batch: int) -> dict[str, dict]:
    """Measures time per token and counts of every system at a batch size."""
    calls = {name: self.call(batch, system) for name, system in self.systems(batch).items()}
    first = {
        f"{who}, first token": self.call(batch, System(decoding.make_policy(who)), length=1)
        for who in ("student", "teacher")
    }
    seconds = interleaved({**calls, **first}, _RUNS.value)
    tokens = batch * _LENGTH.value

    def mean(name, count):
      results = calls[name].results.values()
      return float(np.mean([np.sum(getattr(result, count)) for result in results]))

    rows = {}
    for name in calls:
      ratio = seconds["teacher"] / seconds[name]
      rows[name] = {
          "ms_per_token": 1e3 * float(np.median(seconds[name])) / tokens,
          "tokens_per_second": tokens / float(np.median(seconds[name])),
          "times_teacher": float(np.median(ratio)),
          "quartiles": [float(np.quantile(ratio, q)) for q in (0.25, 0.75)],
          "teacher_passes": mean(name, "teacher_passes") / _LENGTH.value,
          "student_steps": mean(name, "student_steps") / _LENGTH.value,
          "calls": mean(name, "teacher_calls") / tokens,
      }
    for who in ("student", "teacher"):  # the cost of a step without reading the source
      start = float(np.median(seconds[f"{who}, first token"]))
      rows[who]["first_token_ms"] = 1e3 * start
      rows[who]["step_ms"] = 1e3 * (float(np.median(seconds[who])) - start) / (_LENGTH.value - 1)
    return rows

  def bounds(self, rows: dict) -> dict:
    """Compares step times with the time to read the bytes."""
    found = {}
    for who, model, params in zip(("student", "teacher"), self.models, self.params, strict=True):
      size = bytes_per_step(model, params, source=_SOURCE.value, length=_LENGTH.value)
      bound = 1e3 * streaming_seconds(size, _DTYPE.value)
      found[who] = {
          "megabytes": size / 1e6,
          "bound_ms": bound,
          "gigabytes_per_second": size / bound / 1e6,
          "step_ms": rows[who]["step_ms"],
          "ratio": rows[who]["step_ms"] / bound,
      }
    return found

  def against(self, peer: Peer, converted: CTranslate2 | None, batches: list[int]) -> dict:
    """Times all engines in turns; returns seconds, ratios, and whether the outputs agree."""
    found = {}
    for batch in batches:
      source = sources(batch, _SOURCE.value, self.names[0])
      for index, who in enumerate(("student", "teacher")):
        mine = self.call(batch, System(decoding.make_policy(who)))
        engines = {"transformers": [peer.call(source, index)]}
        if converted is not None:
          for kind, threads in itertools.product(("float32", "int8"), {1, os.cpu_count() or 1}):
            call = converted.call(source, index, compute_type=kind, threads=threads)
            engines.setdefault(f"CTranslate2, {kind}", []).append(call)
        found |= self._compared(f"{who}, batch {batch}", batch, mine, engines)
    mine = self.call(1, System(decoding.make_policy("speculative", 1)))
    source = sources(1, _SOURCE.value, self.names[0])
    assisted = peer.call(source, 1, assisted=True)
    return found | self._compared("speculative, batch 1", 1, mine, {"transformers": [assisted]})

  def _compared(self, title: str, batch: int, mine, engines: dict[str, list]) -> dict:
    """Compares with each engine at the fastest of its settings."""
    theirs = {
        f"{name} {i}": call for name, calls in engines.items() for i, call in enumerate(calls)
    }
    times = interleaved({"ours": mine, **theirs}, max(3, _RUNS.value // 2))
    per_token = 1e3 / (batch * _LENGTH.value)
    found = {}
    for engine, calls in engines.items():
      medians = [float(np.median(times[f"{engine} {i}"])) for i in range(len(calls))]
      fastest = int(np.argmin(medians))
      ratio = times[f"{engine} {fastest}"] / times["ours"]
      # Ours never writes padding or `<τ>`; theirs is set up likewise outside of the timed runs.
      same = np.asarray(mine.results[0].tokens) == calls[fastest](0, silent=(0, 3))
      found[f"{title}, {engine}"] = {
          "ms_per_token": float(np.median(times["ours"])) * per_token,
          "peer_ms_per_token": medians[fastest] * per_token,
          "times_faster": float(np.median(ratio)),
          "quartiles": [float(np.quantile(ratio, q)) for q in (0.25, 0.75)],
          "same_tokens": float(np.mean(same)),
      }
    return found


# Output -------------------------------------------------------------------------------------------

SPEED = {
    "ms_per_token": ".3f",
    "tokens_per_second": ",.0f",
    "times_teacher": ".2f",
    "teacher_passes": ".2f",
    "student_steps": ".2f",
    "calls": ".2f",
    "step_ms": ".3f",
}
BOUNDS = {
    "megabytes": ".1f",
    "gigabytes_per_second": ".1f",
    "bound_ms": ".3f",
    "step_ms": ".3f",
    "ratio": ".2f",
}
PEER = {
    "ms_per_token": ".3f",
    "peer_ms_per_token": ".3f",
    "times_faster": ".2f",
    "same_tokens": ".0%",
}


def main(argv):
  """Measures, prints and writes the figures, after each batch size."""
  del argv
  console = Console(width=None if sys.stdout.isatty() else 130)
  ours = Ours()
  report = {
      **{flag.name: flag.value for flag in (_STUDENT, _TEACHER, _LENGTH, _SOURCE, _ACCEPT, _RUNS)},
      "chunk": ours.chunk,
      "dtype": _DTYPE.value,
      "jax": jax.__version__,
      "hardware": f"{jax.device_count()} x {jax.devices()[0].device_kind}, {platform.machine()}",
      "params": [num_params(p) for p in ours.params],
      "step_ratio": {},
  }
  batches = list(map(int, _BATCHES.value))
  for batch in batches:
    rows = report[f"batch_{batch}"] = ours.measure(batch)
    report["step_ratio"][batch] = rows["teacher"]["step_ms"] / rows["student"]["step_ms"]
    show(console, f"batch {batch}", rows, SPEED)
    if batch == 1:
      report["bounds"] = ours.bounds(rows)
      show(console, "against the bandwidth, batch 1", report["bounds"], BOUNDS)
    if _OUT.value:
      write_json(_OUT.value, report)
  if _PEER.value:
    peer = Peer(ours.models, ours.params, _DTYPE.value, _LENGTH.value)
    report["peer_versions"] = peer.versions
    converted = None
    if jax.default_backend() == "cpu" and not any(peer.are_causal):
      converted = CTranslate2(peer)
      report["peer_versions"]["ctranslate2"] = converted.version
    report["peer"] = ours.against(peer, converted, list(map(int, _PEER_BATCHES.value)))
    show(console, "other engines", report["peer"], PEER)
    if _OUT.value:
      write_json(_OUT.value, report)


if __name__ == "__main__":
  app.run(main)
