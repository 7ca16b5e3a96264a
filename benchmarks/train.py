"""Speed and memory of a training step, with random weights, beside the same step in torch.

    python -m benchmarks.train --student=t5-small --teacher=t5-base --peer --out=FILE.json
    python -m benchmarks.train --student=t5-small --teacher=t5-base --objectives=sft \
        --microbatches=1,4 --readout_chunk=0,16 --remat=none,layers --lora_rank=0,16
    python -m benchmarks.train --student=t5-small --teacher=t5-base --objectives=stored

Three objectives of the stages: `sft`, the cross-entropy of references; `kl`, the teacher's
distribution on references; `pcl`, path consistency and the distribution on references. `stored` has
the steps that train without the teacher, in turns with those that run it: `kl`, and path
consistency alone, `sampled`, from one number per token. Each with AdamW and a clipped gradient,
batches without padding, parameters in training in float32. What a way to save memory costs is
measured in turns with the plain step. Memory is what the compiled program says it needs beside its
arguments (activations, gradients, logits), and the size of what trains with its optimizer's state;
torch does not say.
"""

from collections.abc import Callable
import dataclasses
import functools
import itertools
import platform
import sys

from absl import app, flags
import jax
import ml_collections
import numpy as np
from rich.console import Console

from benchmarks.peer import Peer
from benchmarks.random_models import NAMES, model_of, sources
from benchmarks.timing import interleaved, show
from kdtw_jax import config
from kdtw_jax.base import Batch, TeacherScores
from kdtw_jax.files import write_json
from kdtw_jax.models import HEADS, Model, Models, build, low_rank, num_params, shift_right
from kdtw_jax.stages import distillation, rollouts, supervised, warm_start
from kdtw_jax.stages.teacher_scores import score_tokens
from kdtw_jax.training import optim
from kdtw_jax.training import state as state_lib
from kdtw_jax.training import step as step_lib

OBJECTIVES = ("sft", "kl", "pcl")
STAGES = {"sft": "sft", "kl": "warm_start", "pcl": "distillation", "sampled": "distillation"}
LEARNING_RATE = 1e-4
SPEED = {
    "step_ms": ".0f",
    "spread_ms": ".0f",
    "tokens_per_s": ",.0f",
    "of_plain": ".2f",
    "of_torch": ".2f",
    "times_sft": ".2f",
    "memory_mb": ",.0f",
    "state_mb": ",.0f",
    "loss": ".3f",
}

_STUDENT = flags.DEFINE_enum("student", "t5-small", NAMES, "Model in training")
_TEACHER = flags.DEFINE_enum("teacher", "t5-base", NAMES, "Frozen model of kl and pcl")
_OBJECTIVES = flags.DEFINE_list("objectives", list(OBJECTIVES), "Of sft, kl, pcl, stored")
_BATCH = flags.DEFINE_integer("batch", 16, "Rows")
_SOURCE = flags.DEFINE_integer("source", 64, "Source tokens of a row")
_TARGET = flags.DEFINE_integer("target", 48, "Target tokens of a row")
_DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Of activations")
_PARTS = flags.DEFINE_list("microbatches", ["1"], "Parts of a batch")
_CHUNKS = flags.DEFINE_list("readout_chunk", ["0"], "Positions whose logits are in memory; 0: all")
_REMAT = flags.DEFINE_list("remat", ["none"], "Of none, dots, layers")
_RANKS = flags.DEFINE_list("lora_rank", ["0"], "Rank of the change that trains; 0: all trains")
_RUNS = flags.DEFINE_integer("runs", 5, "Timed steps of each, in turns; the median counts")
_PEER = flags.DEFINE_bool("peer", False, "Also take sft and kl steps of T5 models in torch")
_OUT = flags.DEFINE_string("out", None, "JSON file for the figures")


@dataclasses.dataclass(frozen=True)
class Way:
  """A way to take the step; the first value of each flag makes the plain one."""

  microbatches: int
  readout_chunk: int
  remat: str
  lora_rank: int


def ways() -> dict[str, Way]:
  """Returns all combinations of the flags, each by what it does not share with the first."""
  flags_in_order = (_PARTS.value, _CHUNKS.value, _REMAT.value, _RANKS.value)
  found = [
      Way(int(m), int(c), r, int(rank)) for m, c, r, rank in itertools.product(*flags_in_order)
  ]
  first = dataclasses.asdict(found[0])

  def name(way: Way) -> str:
    fields = dataclasses.asdict(way).items()
    return ", ".join(f"{key} {value}" for key, value in fields if value != first[key]) or "plain"

  return {name(way): way for way in found}


def trained(name: str, remat: str) -> Model:
  """Builds a student with parameters in float32 and heads for path consistency."""
  model = model_of(name, "float32")
  fields = dict(dtype=_DTYPE.value, remat=remat, value_heads=True)
  return build(dataclasses.replace(model.config, **fields))


def section(objective: str, way: Way) -> ml_collections.ConfigDict:
  """Returns a stage's section of the config."""
  stage = config.defaults()[STAGES[objective]]
  stage.readout_chunk, stage.learning_rate, stage.warmup_steps = way.readout_chunk, LEARNING_RATE, 1
  if objective == "sft":
    stage.label_smoothing = 0.0
  if objective in ("pcl", "sampled"):
    stage.consistency_rows, stage.value_warmup_steps = "off_policy", 0
  if objective == "sampled":
    stage.immediate, stage.losses.forward_kl.weight = "sampled", 0.0
  return stage


class Ours:
  """The models, their weights and a batch."""

  def __init__(self):
    self.teacher = model_of(_TEACHER.value, _DTYPE.value)
    self.student = trained(_STUDENT.value, "none")
    keys = jax.random.split(jax.random.key(0))
    models = (self.student, self.teacher)
    self.params = [jax.jit(m.init)(key) for m, key in zip(models, keys, strict=True)]
    rows = sources(_BATCH.value, _SOURCE.value + _TARGET.value, _STUDENT.value)
    source, target = rows[:, : _SOURCE.value], rows[:, _SOURCE.value :]
    self.batch = Batch(
        student_source=source,
        teacher_source=source,
        target=target,
        budget=np.zeros(len(rows), np.float32),
        example_id=np.arange(len(rows), dtype=np.int32),
    )

  def step(
      self, objective: str, way: Way, *, stored: bool = False
  ) -> tuple[Callable[[int], float], dict[str, float]]:
    """Compiles a step; returns `run -> loss`, which goes on from its last state, and its needs."""
    stage, data = section(objective, way), self.batch
    if stored:
      data = data._replace(teacher_scores=self.scores())
    models = Models(trained(_STUDENT.value, way.remat), self.teacher)
    if objective == "sft":
      loss = supervised.cross_entropy(models.student, stage)
    elif objective == "kl":
      loss = warm_start.distribution_matching(models, stage)
    else:
      loss, data = distillation.path_consistency(models, stage), rollouts.from_references(data)
    data = jax.device_put(jax.tree.map(np.asarray, data))
    optimizer = optim.make_optimizer(stage)
    create = functools.partial(state_lib.create, optimizer=optimizer)
    frozen = None if objective == "sft" or stored else self.params[1]
    params, key = self.params[0], jax.random.key(0)
    if way.lora_rank:
      base = low_rank.frozen_of(params, whole=HEADS)
      params = low_rank.draw(params, key, whole=HEADS, rank=way.lora_rank)
      frozen, loss = (base, frozen), _of_changes(loss)
    state = jax.jit(create)(params)
    step = step_lib.make_train_step(loss, optimizer, microbatches=way.microbatches)
    program = step.lower(state, frozen, data, key).compile()

    def run(_: int) -> float:
      nonlocal state
      state, metrics = program(state, frozen, data, key)
      return float(metrics["loss"])

    state_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    needs = program.memory_analysis().temp_size_in_bytes
    return run, {"memory_mb": needs / 2**20, "state_mb": state_bytes / 2**20}

  @functools.cache  # noqa: B019  one per process
  def scores(self) -> TeacherScores:
    """Returns the teacher's scores of the batch."""
    score = functools.partial(
        score_tokens, teacher=self.teacher, top_k=config.defaults().scores.top_k, readout_chunk=0
    )
    scores = jax.jit(score)(self.params[1], self.batch.teacher_source, self.batch.target)
    return scores._replace(top_log_probs=scores.top_log_probs.astype("float16"))


def _of_changes(objective: step_lib.Objective) -> step_lib.Objective:
  """Returns an objective of changes of low rank, whose frozen part begins with the kernels."""

  def of_changes(trained, frozen, *args):
    base, others = frozen
    return objective(low_rank.combined(trained, base, scale=1.0), others, *args)

  return of_changes


class Torch:
  """The same weights and steps in torch."""

  def __init__(self, ours: Ours):
    import torch

    self.torch = torch
    length = _TARGET.value
    pair = (model_of(_STUDENT.value, "float32"), ours.teacher)
    self.peer = Peer(pair, tuple(ours.params), "float32", length)
    self.batch = [
        torch.tensor(np.asarray(part), dtype=torch.long, device=self.peer.models[0].device)
        for part in (ours.batch.teacher_source, shift_right(ours.batch.target), ours.batch.target)
    ]

  def step(self, objective: str) -> Callable[[int], float]:
    """Returns `run -> loss`, which goes on from its last state."""
    torch, (student, teacher) = self.torch, self.peer.models
    student.load_state_dict(self.first_weights(), strict=True)
    optimizer = torch.optim.AdamW(
        student.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), eps=1e-9, weight_decay=0.0
    )
    source, inputs, target = self.batch
    lower = torch.autocast(source.device.type, torch.bfloat16, enabled=_DTYPE.value == "bfloat16")

    def logits(model):
      return model(input_ids=source, decoder_input_ids=inputs).logits.float().flatten(0, 1)

    def run(_: int) -> float:
      with lower:
        own = logits(student)
        if objective == "sft":
          loss = torch.nn.functional.cross_entropy(own, target.flatten())
        else:
          with torch.no_grad():
            other = torch.log_softmax(logits(teacher), dim=-1)
          loss = torch.nn.functional.kl_div(
              torch.log_softmax(own, dim=-1), other, reduction="batchmean", log_target=True
          )
      loss.backward()
      torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
      optimizer.step()
      optimizer.zero_grad()
      return float(loss.detach())

    return run

  @functools.cache  # noqa: B019  one per process
  def first_weights(self) -> dict:
    """Returns a copy of the student's weights, taken at the first call."""
    return {name: value.clone() for name, value in self.peer.models[0].state_dict().items()}


def measure(ours: Ours, peer: Torch | None, objective: str) -> dict[str, dict[str, float]]:
  """Measures all ways of an objective, and torch's, in turns."""
  rows, calls = {}, {}
  for name, way in ways().items():
    calls[name], needs = ours.step(objective, way)
    rows[name] = {"loss": calls[name](0), **needs}
  if peer is not None and objective in ("sft", "kl"):
    calls["torch"] = peer.step(objective)
    rows["torch"] = {"loss": calls["torch"](0)}
    theirs, own = rows["torch"]["loss"], rows["plain"]["loss"]
    if abs(theirs - own) > 0.02 * own:
      raise RuntimeError(f"{objective}: torch's loss is {theirs}, ours {own}")
  times = interleaved(calls, _RUNS.value)
  for name, row in rows.items():
    seconds = float(np.median(times[name]))
    row["step_ms"] = 1e3 * seconds
    row["spread_ms"] = 1e3 * float(np.ptp(times[name]))
    row["tokens_per_s"] = _BATCH.value * _TARGET.value / seconds
    row["of_plain"] = float(np.median(times["plain"] / times[name]))  # of neighbours in time
    if "torch" in times:
      row["of_torch"] = float(np.median(times["torch"] / times[name]))
  return rows


def measure_stored(ours: Ours) -> dict[str, dict[str, float]]:
  """Measures steps with and without the teacher, in turns with that of `sft`."""
  calls, rows = {}, {}
  for objective, stored in (("sft", False), *itertools.product(("kl", "sampled"), (False, True))):
    name = f"{objective}, stored" if stored else objective
    calls[name], needs = ours.step(objective, ways()["plain"], stored=stored)
    rows[name] = {"loss": calls[name](0), **needs}
  times = interleaved(calls, _RUNS.value)
  for name, row in rows.items():
    row["step_ms"] = 1e3 * float(np.median(times[name]))
    row["spread_ms"] = 1e3 * float(np.ptp(times[name]))
    row["times_sft"] = float(np.median(times[name] / times["sft"]))
  return rows


def main(argv):
  """Measures, prints and writes the figures, after each objective."""
  del argv
  console = Console(width=None if sys.stdout.isatty() else 130)
  known = (*OBJECTIVES, "stored")
  if unknown := set(_OBJECTIVES.value) - {*known}:
    raise app.UsageError(f"--objectives={sorted(unknown)[0]}: must be of {', '.join(known)}")
  ours = Ours()
  peer = Torch(ours) if _PEER.value else None
  asked = (_STUDENT, _TEACHER, _BATCH, _SOURCE, _TARGET, _DTYPE, _RUNS)
  report = {
      **{flag.name: flag.value for flag in asked},
      "jax": jax.__version__,
      "hardware": f"{jax.device_count()} x {jax.devices()[0].device_kind}, {platform.machine()}",
      "params": [num_params(p) for p in ours.params],
      **({} if peer is None else {"peer_versions": peer.peer.versions}),
  }
  for objective in _OBJECTIVES.value:
    stored = objective == "stored"
    report[objective] = measure_stored(ours) if stored else measure(ours, peer, objective)
    show(console, objective, report[objective], SPEED)
    if _OUT.value:
      write_json(_OUT.value, report)


if __name__ == "__main__":
  app.run(main)
