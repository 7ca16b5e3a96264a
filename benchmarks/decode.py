"""Decoding speed of all methods in one run, against memory bandwidth and against transformers.

    python benchmarks/decode.py --student=t5-small --teacher=t5-base --peer --out=FILE.json

Sizes have names. Weights are random, so the decisions that matter are forced: handover asks with a
given probability, and speculative decoding accepts each draft with a given probability. All outputs
have the same length. `--peer` (extra: pip install torch transformers) gives the same weights to
transformers' `generate`. Timed runs are interleaved and figures are medians. Trust the ratios
within one run: machines differ, and each machine varies over time.
"""

import dataclasses
import functools
import importlib.metadata
import platform
import sys
import time

from absl import app, flags
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from kdtw_jax import decoding
from kdtw_jax.files import write_json
from kdtw_jax.models import Model, ModelConfig, build, num_params

# width, feed-forward, heads, head size, encoder layers, decoder layers, vocabulary
SIZES = {
    "demo-student": (32, 64, 4, 8, 1, 1, 2000),
    "demo": (128, 512, 4, 32, 2, 2, 2000),
    "multi30k-student": (32, 128, 4, 8, 2, 1, 4000),
    "multi30k": (192, 512, 4, 48, 3, 2, 4000),
    "tiny": (64, 256, 4, 16, 2, 1, 32128),
    "t5-small": (512, 2048, 8, 64, 6, 6, 32128),
    "t5-base": (768, 3072, 12, 64, 12, 12, 32128),
    "t5-large": (1024, 4096, 16, 64, 24, 24, 32128),
    "t5-xl": (2048, 5120, 32, 64, 24, 24, 32128),
}

_STUDENT = flags.DEFINE_enum("student", "tiny", sorted(SIZES), "Size of the student")
_TEACHER = flags.DEFINE_enum("teacher", "t5-small", sorted(SIZES), "Size of the teacher")
_LENGTH = flags.DEFINE_integer("length", 32, "Output tokens", lower_bound=2)
_SOURCE = flags.DEFINE_integer("source", 24, "Source tokens")
_BATCHES = flags.DEFINE_list("batches", ["1", "8", "32"], "Batch sizes; 1 is always measured")
_DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Weights and cache")
_ACCEPT = flags.DEFINE_float("accept", 0.75, "Probability that a draft is accepted")
_RUNS = flags.DEFINE_integer("runs", 11, "Timed runs of each method, interleaved")
_PEER = flags.DEFINE_bool("peer", False, "Also time transformers on the same weights")
_OUT = flags.DEFINE_string("out", None, "JSON file for the figures")


@flax.struct.dataclass
class ForcedSpeculative(decoding.Speculative):
  """Speculative decoding that accepts drafts with a fixed probability, by a hash."""

  acceptance: float = flax.struct.field(pytree_node=False, default=0.75)

  def stays(self, drafts, key, sampling):
    """Returns `[B, k]`, True with that probability: a function of the draft and its check."""
    noise = drafts.teacher_logits[:, :, 0].view(jnp.uint32) * jnp.uint32(2654435761)
    return (noise >> 8).astype(jnp.float32) / 2**24 < self.acceptance


def model_of(name: str) -> Model:
  """Builds the model of a named size."""
  width, hidden, heads, head, encoder, decoder, vocab = SIZES[name]
  gated = name in ("t5-large", "t5-xl")  # v1.1: the models of these sizes worth distilling
  return build(
      ModelConfig(
          vocab_size=vocab,
          d_model=width,
          d_ff=hidden,
          num_heads=heads,
          d_kv=head,
          num_encoder_layers=encoder,
          num_decoder_layers=decoder,
          dropout_rate=0.0,
          tau_id=3,
          feed_forward="gated-gelu" if gated else "relu",
          tie_embeddings=not gated,
          dtype=_DTYPE.value,
          param_dtype=_DTYPE.value,
      )
  )


def interleaved(calls: dict, runs: int) -> dict[str, float]:
  """Measures the median seconds of each call, in turns, so that slow moments affect all calls."""
  seconds = {name: [] for name in calls}
  for call in calls.values():
    call(0)  # compiles
  for run in range(runs):
    for name, call in calls.items():
      started = time.perf_counter()
      call(run)
      seconds[name].append(time.perf_counter() - started)
  return {name: float(np.median(times)) for name, times in seconds.items()}


# The bound ----------------------------------------------------------------------------------------


def bytes_per_step(model: Model, params, batch: int) -> int:
  """Counts the bytes that one greedy step must read: decoder weights, readout and caches, once."""
  flat = {
      jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)
  }
  read = sum(
      leaf.nbytes
      for name, leaf in flat.items()
      if "encoder" not in name
      and "cross_attention']['kv" not in name
      and not ("shared" in name and not model.config.tie_embeddings)
  )
  source = jax.ShapeDtypeStruct((batch, _SOURCE.value), jnp.int32)
  cache = jax.eval_shape(lambda p, s: model.decoder_fns.start(p, s, _LENGTH.value), params, source)
  return read + sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(cache))


def streaming_seconds(num_bytes: int) -> float:
  """Times reading this many bytes in a matrix-vector product; the fastest of several runs."""
  rows = max(1, num_bytes // jnp.dtype(_DTYPE.value).itemsize // 1024)
  matrix, vector = (jnp.ones(shape, _DTYPE.value) for shape in ((rows, 1024), (1024,)))

  @jax.jit
  def read(matrix, vector):
    def one(_, v):
      return v + (matrix @ v)[0] * 1e-9

    return jax.lax.fori_loop(0, 8, one, vector)

  times = []
  for _ in range(8):
    started = time.perf_counter()
    jax.block_until_ready(read(matrix, vector))
    times.append((time.perf_counter() - started) / 8)
  return min(times[1:])


# Our decoder --------------------------------------------------------------------------------------


class Ours:
  """Our student and teacher with random weights, and their measurements."""

  def __init__(self):
    self.models = tuple(model_of(name) for name in (_STUDENT.value, _TEACHER.value))
    self.params = tuple(m.init(jax.random.key(i)) for i, m in enumerate(self.models))
    source = np.full((1, _SOURCE.value), 5, np.int32)
    self.pass_seconds = decoding.pass_seconds(
        self.models[1].decoder_fns, self.params[1], source, max_length=_LENGTH.value
    )

  @functools.cache  # noqa: B019  one object per run
  def decoder(self, length: int, chunk: int, eager: bool):
    """Makes the jitted decoder of a setting."""
    return decoding.make_decoder(
        *(m.decoder_fns for m in self.models),
        max_length=length,
        chunk=chunk,
        eager=eager,
        eos_id=-1,
    )

  def systems(self, batch: int) -> dict:
    """Returns (policy, chunk, eager) by name; eager suits a batch that asks at nearly all steps."""
    found = {
        "student": (decoding.make_policy("student"), 8, False),
        "teacher": (decoding.make_policy("teacher"), 8, False),
        "handover 0%": (decoding.make_policy("random", 0.0), 8, False),
    }
    for use in (0.1, 0.2, 0.3):
      chunk = decoding.best_chunk(self.pass_seconds, use, batch=batch)
      policy = decoding.make_policy("random", use)
      found[f"handover {use:.0%}"] = (policy, chunk, False)
      if batch > 1:
        found[f"handover {use:.0%}, eager"] = (policy, chunk, True)
    for k in (2, 4, 6):
      found[f"speculative k={k}"] = (ForcedSpeculative(k=k, acceptance=_ACCEPT.value), 8, False)
    return found

  def call(self, batch: int, policy, chunk: int = 8, eager: bool = False, length: int = 0):
    """Makes a function of the run's number that decodes and keeps its results in `.results`."""
    decoder = self.decoder(length or _LENGTH.value, chunk, eager)
    source, budget = sources(batch), np.zeros(batch, np.float32)

    def run(number):
      run.results[number] = jax.block_until_ready(
          decoder(*self.params, source, source, budget, jax.random.key(number), policy)
      )

    run.results = {}
    return run

  def measure(self, batch: int) -> dict[str, dict]:
    """Measures time per token and counts of every system at a batch size."""
    calls = {name: self.call(batch, *system) for name, system in self.systems(batch).items()}
    one = {
        f"{who}, first token": self.call(batch, decoding.make_policy(who), length=1)
        for who in ("student", "teacher")
    }
    seconds = interleaved({**calls, **one}, _RUNS.value)
    tokens = batch * _LENGTH.value

    def per_token(name, count):
      counts = [int(getattr(result, count)) for result in calls[name].results.values()]
      return float(np.mean(counts)) / _LENGTH.value

    rows = {
        name: {
            "seconds": seconds[name],
            "ms_per_token": 1e3 * seconds[name] / tokens,
            "tokens_per_second": tokens / seconds[name],
            "teacher_passes": per_token(name, "teacher_passes"),
            "student_steps": per_token(name, "student_steps"),
            "widths": str(self.systems(batch)[name][1]),
        }
        for name in calls
    }
    for who in ("student", "teacher"):  # the cost of a step without reading the source
      first = seconds[f"{who}, first token"]
      rows[who]["first_token_ms"] = 1e3 * first
      rows[who]["step_ms"] = 1e3 * (seconds[who] - first) / (_LENGTH.value - 1)
    for name in calls:  # against the sum of the parts: encoders, student steps, teacher passes
      if name.startswith("handover"):
        parts = (
            rows["student"]["seconds"]
            + 1e-3 * rows["teacher"]["first_token_ms"]
            + 1e-3 * rows["teacher"]["step_ms"] * rows[name]["teacher_passes"] * _LENGTH.value
        )
        rows[name]["over_parts"] = seconds[name] / parts
    return rows

  def bounds(self, rows: dict) -> dict:
    """Compares step times with the time to read the bytes."""
    found = {}
    for who, model, params in zip(("student", "teacher"), self.models, self.params, strict=True):
      size = bytes_per_step(model, params, 1)
      bound = 1e3 * streaming_seconds(size)
      found[who] = {
          "megabytes": size / 1e6,
          "bound_ms": bound,
          "gigabytes_per_second": size / bound / 1e6,
          "step_ms": rows[who]["step_ms"],
          "ratio": rows[who]["step_ms"] / bound,
      }
    return found

  def memory(self) -> dict[str, float]:
    """Returns the megabytes that each compiled decoder needs besides its arguments, at batch 1."""
    found = {}
    for name, (policy, chunk, eager) in self.systems(1).items():
      source = sources(1)
      compiled = (
          self.decoder(_LENGTH.value, chunk, eager)
          .lower(*self.params, source, source, np.zeros(1, np.float32), jax.random.key(0), policy)
          .compile()
      )
      found[name] = compiled.memory_analysis().temp_size_in_bytes / 1e6
    return found


def sources(batch: int) -> np.ndarray:
  """Draws random sources `[batch, S]` without padding."""
  vocab = min(SIZES[_STUDENT.value][-1], 1000)
  return np.random.default_rng(0).integers(4, vocab, (batch, _SOURCE.value)).astype(np.int32)


# The peer -----------------------------------------------------------------------------------------


class Peer:
  """The same weights in transformers' T5, with greedy `generate` to the same length."""

  def __init__(self, ours: Ours):
    import torch
    import transformers

    from kdtw_jax.published import export_t5

    self.torch = torch
    self.models = []
    for model, params in zip(ours.models, ours.params, strict=True):
      c = model.config
      config = transformers.T5Config(
          vocab_size=c.vocab_size,
          d_model=c.d_model,
          d_kv=c.d_kv,
          d_ff=c.d_ff,
          num_layers=c.num_encoder_layers,
          num_decoder_layers=c.num_decoder_layers,
          num_heads=c.num_heads,
          feed_forward_proj=c.feed_forward,
          tie_word_embeddings=c.tie_embeddings,
          decoder_start_token_id=0,
          dropout_rate=0.0,
      )
      peer = transformers.T5ForConditionalGeneration(config).eval()
      weights = {name: torch.tensor(array) for name, array in export_t5(params, c)}
      peer.load_state_dict(weights, strict=False)
      peer = peer.to(getattr(torch, _DTYPE.value))
      peer.generation_config.eos_token_id = None
      self.models.append(peer.to("cuda") if torch.cuda.is_available() else peer)
    self.versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers")}

  def call(self, batch: int, who: int, assisted: bool = False):
    """Makes a function that generates, waits and returns the tokens."""
    source = self.torch.tensor(sources(batch), dtype=self.torch.long)
    source = source.to(self.models[who].device)
    mask = self.torch.ones_like(source)
    always = {"assistant_model": self.models[0]} if assisted else {}

    def run(_, **more):
      with self.torch.inference_mode():
        out = self.models[who].generate(
            input_ids=source,
            attention_mask=mask,
            do_sample=False,
            num_beams=1,
            max_new_tokens=_LENGTH.value,
            **always,
            **more,
        )
      return out[:, 1:].cpu().numpy()

    return run

  def measure(self, ours: Ours, batches: list[int]) -> dict:
    """Times both engines in turns; returns seconds, ratio, and whether the outputs agree."""
    found = {}
    for batch in batches:
      for index, who in enumerate(("student", "teacher")):
        mine = ours.call(batch, decoding.make_policy(who))
        theirs = self.call(batch, index)
        found[f"{who}, batch {batch}"] = self._row(mine, theirs, batch)
    mine = ours.call(1, decoding.make_policy("speculative", 1))
    found["speculative, batch 1"] = self._row(mine, self.call(1, 1, assisted=True), 1)
    return found

  def _row(self, mine, theirs, batch: int) -> dict:
    seconds = interleaved({"ours": mine, "theirs": theirs}, max(3, _RUNS.value // 2))
    per_token = 1e3 / (batch * _LENGTH.value)
    # Ours never writes padding or `<τ>`; theirs is set up likewise outside of the timed runs.
    same = np.mean(np.asarray(mine.results[0].tokens) == theirs(0, suppress_tokens=[0, 3]))
    return {
        "ms_per_token": seconds["ours"] * per_token,
        "peer_ms_per_token": seconds["theirs"] * per_token,
        "times_faster": seconds["theirs"] / seconds["ours"],
        "same_tokens": float(same),
    }


# Output -------------------------------------------------------------------------------------------


def show(console: Console, title: str, rows: dict[str, dict], columns: dict[str, str]) -> None:
  """Prints a table: a row per system, the columns from `{key: format}`."""
  table = Table(title=title, title_justify="left")
  table.add_column("")
  for key in columns:
    table.add_column(key.replace("_", " "), justify="right")
  for name, row in rows.items():
    table.add_row(
        name, *(format(row[key], form) if key in row else "" for key, form in columns.items())
    )
  console.print(table)


def main(argv):
  """Measures, prints and writes the figures."""
  del argv
  console = Console(width=None if sys.stdout.isatty() else 120)
  ours = Ours()
  report = {
      "student": _STUDENT.value,
      "teacher": _TEACHER.value,
      "length": _LENGTH.value,
      "source": _SOURCE.value,
      "accept": _ACCEPT.value,
      "runs": _RUNS.value,
      "dtype": _DTYPE.value,
      "jax": jax.__version__,
      "hardware": (
          f"{jax.device_count()} x {jax.devices()[0].device_kind}, " f"{platform.machine()}"
      ),
      "params": [num_params(p) for p in ours.params],
      "configs": [dataclasses.asdict(m.config) for m in ours.models],
      "pass_ms": {str(c): 1e3 * t for c, t in ours.pass_seconds.items()},
  }
  show(
      console,
      "teacher pass by width, ms",
      {"": {str(c): 1e3 * t for c, t in ours.pass_seconds.items()}},
      {str(c): ".3f" for c in ours.pass_seconds},
  )
  for batch in sorted({1, *map(int, _BATCHES.value)}):
    rows = report[f"batch_{batch}"] = ours.measure(batch)
    for row in rows.values():
      row["times_teacher"] = rows["teacher"]["seconds"] / row["seconds"]
    show(
        console,
        f"batch {batch}",
        rows,
        {
            "ms_per_token": ".3f",
            "tokens_per_second": ",.0f",
            "times_teacher": ".2f",
            "teacher_passes": ".2f",
            "over_parts": ".2f",
            "step_ms": ".3f",
            "widths": "",
        },
    )
    if batch == 1:
      report["teacher_per_student_step"] = rows["teacher"]["step_ms"] / rows["student"]["step_ms"]
      report["bounds"] = ours.bounds(rows)
      show(
          console,
          "against the bandwidth, batch 1",
          report["bounds"],
          {
              "megabytes": ".1f",
              "gigabytes_per_second": ".1f",
              "bound_ms": ".3f",
              "step_ms": ".3f",
              "ratio": ".2f",
          },
      )
      report["scratch_megabytes"] = ours.memory()
  if _PEER.value:
    peer = Peer(ours)
    report["peer_versions"] = peer.versions
    report["peer"] = peer.measure(ours, [1, max(map(int, _BATCHES.value))])
    show(
        console,
        f"transformers {peer.versions['transformers']}",
        report["peer"],
        {
            "ms_per_token": ".3f",
            "peer_ms_per_token": ".3f",
            "times_faster": ".2f",
            "same_tokens": ".0%",
        },
    )
  if _OUT.value:
    write_json(_OUT.value, report)


if __name__ == "__main__":
  app.run(main)
