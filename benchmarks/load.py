"""Time and memory of loading a published checkpoint, against transformers' `from_pretrained`.

    python -m benchmarks.load --size=t5-base --out=FILE.json

(Extra: pip install torch transformers.) Random weights of a published size are written once per
shard size. Each load runs in a new process, in turns, with the files in the system's cache; figures
are medians. Seconds do not include imports. After each load one number of every page of every
parameter is read, because transformers leaves parameters that need no conversion in the mapped
file. Peaks are relative to the memory before the load. They include the parameters themselves,
which on a CPU are in host memory:

    peak_mb       all resident pages (VmHWM, reset before the load), with the pages of mapped
                  files, which the system can take back unless they are the parameters
    own_peak_mb   pages without a file (RssAnon), sampled every 2 ms; without the parameters that
                  transformers leaves in the file

Linux only. Not here: a comparison of the values that are read (`tests/published/parity.py`).
"""

from collections.abc import Callable
import importlib.metadata
import json
from pathlib import Path
import platform
import subprocess
import sys
import tempfile
import threading
import time

from absl import app, flags
import numpy as np
from rich.console import Console
from rich.table import Table

from kdtw_jax.files import write_json

# width, feed-forward, heads, layers of each stack; gated and untied (v1.1)
SIZES = {
    "t5-small": (512, 1024, 6, 8),
    "t5-base": (768, 2048, 12, 12),
    "t5-large": (1024, 2816, 16, 24),
}
PAGE = 4096
DTYPES = ("float32", "bfloat16")  # to which a float32 checkpoint is converted

_SIZE = flags.DEFINE_enum("size", "t5-base", sorted(SIZES), "Size of the model")
_SHARDS = flags.DEFINE_list("shards", ["5e9", "2e8"], "Most bytes of a file, each tried")
_RUNS = flags.DEFINE_integer("runs", 3, "Loads of each kind, in turns; the median counts")
_OUT = flags.DEFINE_string("out", None, "JSON file for the figures")
_TASK = flags.DEFINE_string("task", None, "What one of the processes does: how the script runs it")


# In a new process ---------------------------------------------------------------------------------


def write(folder: str, size: str, shard_bytes: int) -> dict[str, int]:
  """Writes random weights of a size in the published format, float32."""
  import jax

  from kdtw_jax import published
  from kdtw_jax.models import ModelConfig, build, num_params

  width, hidden, heads, layers = SIZES[size]
  config = ModelConfig(
      vocab_size=32128,
      d_model=width,
      d_ff=hidden,
      num_heads=heads,
      d_kv=64,
      num_encoder_layers=layers,
      num_decoder_layers=layers,
      feed_forward="gated-gelu",
      tie_embeddings=False,
  )
  params = build(config).init(jax.random.key(0))
  published.save_model(Path(folder), params, config, shard_bytes=shard_bytes)
  return {"num_params": num_params(params)}


def ours(folder: str, dtype: str) -> dict[str, float]:
  """Loads with `published`."""
  import jax

  from kdtw_jax import published
  from kdtw_jax.models import ModelConfig

  jax.devices()  # starts the backend

  def load():
    found = published.open_published(folder)
    config = ModelConfig(
        **found.architecture, vocab_size=found.config["vocab_size"], dtype=dtype, param_dtype=dtype
    )
    return [np.asarray(x) for x in jax.tree.leaves(published.load_params(folder, config))]

  return measured(load)


def theirs(folder: str, dtype: str) -> dict[str, float]:
  """Loads with transformers."""
  import torch
  from transformers import AutoModelForSeq2SeqLM, T5ForConditionalGeneration, logging

  logging.set_verbosity_error()
  logging.disable_progress_bar()

  def load():
    model = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    if not isinstance(model, T5ForConditionalGeneration):  # imported above, not in the timed part
      raise TypeError(f"{folder}: read as a {type(model).__name__}")
    return [x.detach().view(torch.uint8).numpy() for x in model.parameters()]

  return measured(load)


def measured(load: Callable[[], list[np.ndarray]]) -> dict[str, float]:
  """Measures the seconds of a load, and its peaks of memory relative to the start."""
  Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # resets VmHWM
  before, own_before = memory("VmRSS"), memory("RssAnon")
  peak_own, done = own_before, threading.Event()

  def watch():
    nonlocal peak_own
    while not done.wait(0.002):
      peak_own = max(peak_own, memory("RssAnon"))

  watcher = threading.Thread(target=watch)
  watcher.start()
  started = time.perf_counter()
  arrays = load()
  for array in arrays:
    array.reshape(-1).view(np.uint8)[::PAGE].max()
  seconds = time.perf_counter() - started
  done.set()
  watcher.join()
  return {
      "seconds": seconds,
      "peak_mb": (memory("VmHWM") - before) / 1e6,
      "own_peak_mb": (max(peak_own, memory("RssAnon")) - own_before) / 1e6,
      "parameter_mb": sum(x.nbytes for x in arrays) / 1e6,
  }


def memory(field: str) -> int:
  """Reads a field of this process's status, in bytes."""
  status = Path("/proc/self/status").read_text(encoding="utf-8")
  return 1024 * int(status.split(f"{field}:")[1].split()[0])


TASKS = {"write": write, "ours": ours, "theirs": theirs}
ENGINES = ("ours", "theirs")


# All processes ------------------------------------------------------------------------------------


def run(task: str, **arguments) -> dict[str, float]:
  """Runs a task in a new process and returns its figures."""
  command = [sys.executable, __file__, "--task", json.dumps({"task": task, **arguments})]
  done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
  return json.loads(done.stdout.splitlines()[-1])


def compare(folder: str) -> dict[str, dict]:
  """Compares both engines on a folder, for each dtype."""
  for file in Path(folder).glob("*.safetensors"):
    file.read_bytes()  # puts it into the system's cache
  found = {(dtype, engine): [] for dtype in DTYPES for engine in ENGINES}
  for _ in range(_RUNS.value):
    for (dtype, engine), figures in found.items():
      figures.append(run(engine, folder=folder, dtype=dtype))
  rows = {}
  for dtype in DTYPES:
    medians = {
        engine: {
            name: float(np.median([figures[name] for figures in found[dtype, engine]]))
            for name in found[dtype, engine][0]
        }
        for engine in ENGINES
    }
    rows[dtype] = {
        **medians,
        "times_theirs": {
            name: medians["theirs"][name] / medians["ours"][name] for name in ("seconds", "peak_mb")
        },
    }
  return rows


def main(argv):
  """Runs a single task, or measures all and prints."""
  del argv
  if _TASK.value:
    task = json.loads(_TASK.value)
    print(json.dumps(TASKS[task.pop("task")](**task)))
    return
  report = {
      "size": _SIZE.value,
      "runs": _RUNS.value,
      "file_dtype": "float32",
      **{
          name: importlib.metadata.version(name)
          for name in ("jax", "torch", "transformers", "safetensors")
      },
      "hardware": f"CPU, {platform.machine()}",
      "shards": {},
  }
  table = Table(title=f"{_SIZE.value}: a float32 checkpoint", title_justify="left")
  for column in ("files", "to", "", "seconds", "peak MB", "own peak MB", "parameters MB"):
    table.add_column(column, justify="right" if "MB" in column or column == "seconds" else "left")
  for shard in _SHARDS.value:
    with tempfile.TemporaryDirectory() as parent:
      folder = str(Path(parent) / "model")
      report |= run("write", folder=folder, size=_SIZE.value, shard_bytes=int(float(shard)))
      files = len(list(Path(folder).glob("*.safetensors")))
      rows = compare(folder)
    report["shards"][shard] = {"files": files, **rows}
    for dtype, row in rows.items():
      for engine in ENGINES:
        table.add_row(
            str(files),
            dtype,
            engine,
            f"{row[engine]['seconds']:.2f}",
            *(f"{row[engine][name]:,.0f}" for name in ("peak_mb", "own_peak_mb", "parameter_mb")),
        )
      table.add_row(
          "", "", "theirs / ours", *(f"{ratio:.2f}" for ratio in row["times_theirs"].values())
      )
  Console(width=110).print(table)
  if _OUT.value:
    write_json(_OUT.value, report)


if __name__ == "__main__":
  app.run(main)
