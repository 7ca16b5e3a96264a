"""Where a stage has the teacher's distribution from: the teacher, or scores computed before.

A teacher that reads references, or writes one output for each source, gives the same scores in each
epoch and in each run. They are computed once, as `config.scores` says, part by part; a run that is
killed goes on with the next part, and a run that finds all of them never loads the teacher. They
belong to one teacher, tokenizer, data and instruction, and are refused for any other.
Shape letters: B batch, T target length, C chunk of positions, V vocabulary.
"""

from collections.abc import Callable, Iterator
import contextlib
import functools
import hashlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import ml_collections
import numpy as np

from kdtw_jax import config_models, data, decoding, devices, losses, processes
from kdtw_jax.base import PAD_ID, ArrayLike, Batch, Params, TeacherScores, Trajectory
from kdtw_jax.config_models import teacher_is_published
from kdtw_jax.files import not_written
from kdtw_jax.models import Model, shift_right
from kdtw_jax.stages.stage import Run
from kdtw_jax.terminal import Bar, print_line

# `(chunk of each array, tokens [B, C], student_logits [B, C, V]) -> logits of μ [B, C, V]`
LogitsFn = Callable[..., Float[Array, "B C V"]]


def teacher_logits(
    teacher: Model, params: Params, batch: Batch | Trajectory, tokens: Int[ArrayLike, "B T"]
) -> tuple[tuple[Array, ...], LogitsFn]:
  """Runs the teacher on sequences, all but its readout; or takes their stored scores.

  Args:
    teacher: its functions.
    params: its parameters; not read if the batch has scores.
    batch: what it reads, `teacher_source`, or `teacher_scores`.
    tokens: the sequences.

  Returns:
    Arrays `[B, T, ...]`, and a function that makes logits, without gradient, of a chunk of each, of
    the tokens there and of the student's logits, which shape what no score says.
  """
  if batch.teacher_scores is not None:
    return tuple(map(jnp.asarray, batch.teacher_scores)), losses.completed_logits
  encoded = teacher.encode(params, batch.teacher_source)
  hidden = teacher.hidden(params, encoded, shift_right(tokens))

  def logits(hidden, tokens, student_logits):
    del tokens, student_logits
    return jax.lax.stop_gradient(teacher.logits(params, hidden))

  return (hidden,), logits


def source(run: Run, section: ml_collections.ConfigDict) -> dict[str, Any]:
  """Returns the arguments of `fit` that say where a stage has the teacher's scores from."""
  if section.teacher_scores == "live":
    return {"frozen": run.params("teacher")}
  return {"scores": functools.partial(stored, run, section)}


def stored(run: Run, section: ml_collections.ConfigDict) -> data.ScoredSplit:
  """Opens the scores of a stage's sequences; computes and writes those that are missing.

  Args:
    run: the run.
    section: of its stage: `off_policy` and `rollout_temperature`, if it may have the teacher's own
      outputs.

  Returns:
    The training split with its scores.

  Raises:
    OSError: if they cannot be written.
    ValueError: if the folder has scores of another teacher, tokenizer, or data.
  """
  temperature = section.rollout_temperature if section.get("off_policy") == "teacher" else None
  path, split = run.config.scores.path, run.inputs.tokenised("train")
  root = Path(path) if path else run.workdir.path / "data" / "scores"
  folder = root / ("references" if temperature is None else "teacher")
  made_of = _made_of(run, temperature)

  def begin() -> list[int]:
    with _saying(folder):
      data.begin_scores(folder, made_of)
    return [part for part in range(data.num_parts(split)) if not data.is_scored(folder, part)]

  missing = processes.first_alone(begin)
  if missing:
    _score(run, folder, missing, temperature)
  print_line("scores", f"the teacher's, of {len(split.example_id):,} examples, are in {folder}")
  return data.ScoredSplit(split, folder, with_targets=temperature is not None)


@contextlib.contextmanager
def _saying(folder: Path) -> Iterator[None]:
  """Makes an OSError in the block one line about the scores."""
  try:
    yield
  except OSError as error:
    raise not_written(f"scores {folder}", error, remedy="The same command goes on") from error


def _made_of(run: Run, temperature: float | None) -> dict[str, Any]:
  """Returns everything that the scores depend on."""
  model, config = run.inputs.models.teacher.config, run.config
  made_of = {
      "teacher": processes.first_alone(lambda: _weights_digest(run)),
      "teacher.dtype": [model.dtype, model.param_dtype],
      "teacher.int8": config.teacher.int8,
      "tokenizer": run.inputs.tokenizer.digest(),
      "data": run.inputs.fingerprint("train"),
      "data.task": config.data.task,
      "scores.top_k": config.scores.top_k,
  }
  if temperature is not None:
    made_of |= {"seed": config.seed, "rollout_temperature": temperature}
  return made_of


def _weights_digest(run: Run) -> str:
  """Hashes the files of the teacher's parameters."""
  if teacher_is_published(run.config):
    folder = config_models.locate_published(run.config, "teacher")
    files = sorted([*folder.glob("*.safetensors"), folder / "config.json"])
  else:
    folder = run.workdir.folder("teacher") / "params"
    files = sorted(file for file in folder.rglob("*") if file.is_file())
  digest = hashlib.blake2b(digest_size=16)
  for file in files:
    digest.update(file.relative_to(folder).as_posix().encode())
    with file.open("rb") as opened:
      digest.update(hashlib.file_digest(opened, "blake2b").digest())
  return digest.hexdigest()


def _score(run: Run, folder: Path, missing: list[int], temperature: float | None) -> None:
  """Scores the missing parts of the split, and writes each when it is done."""
  teacher, params = run.inputs.models.teacher, run.load("teacher")
  config, split = run.config.scores, run.inputs.tokenised("train")
  task = data.encode_task(run.inputs.tokenizer, split.task)
  write = None if temperature is None else _writer(teacher, temperature)
  score = functools.partial(
      jax.jit(score_tokens, static_argnames=("teacher", "top_k", "readout_chunk")),
      teacher=teacher,
      top_k=min(config.top_k, teacher.config.vocab_size),
      readout_chunk=config.readout_chunk,
  )

  def of_rows(rows: Int[np.ndarray, " E"], key: jax.Array) -> tuple[np.ndarray, TeacherScores]:
    """Returns the targets and scores of some examples of one bucket, padded to whole batches."""
    batch = data.lay_out(
        split,
        np.pad(rows, (0, config.batch_size - len(rows)), constant_values=-1),
        [[]] * config.batch_size,
        np.zeros(config.batch_size, np.float32),
        task=task,
        bucket=int(split.bucket[rows[0]]),
        prompt_length=0,
    )
    batch = devices.shard_batch(run.mesh, batch)
    target = batch.target if write is None else write(params, batch, key)
    return processes.whole((target, score(params, batch.teacher_source, target)))

  batches = {part: _batches(split, part, config.batch_size) for part in missing}
  with Bar("scores", total=sum(map(len, batches.values()))) as bar:
    for part, chosen in batches.items():
      found: dict[int, Any] = {}
      part_key = jax.random.fold_in(jax.random.key(run.config.seed), part)
      for number, rows in enumerate(chosen):
        target, scores = of_rows(rows, jax.random.fold_in(part_key, number))
        for b, row in enumerate(rows.tolist()):
          found[row] = (target[b], TeacherScores(*(np.asarray(x)[b] for x in scores)))
        bar.advance()
      packed = data.packed([found[row] for row in sorted(found)], teacher.config.vocab_size)

      def write_part(part=part, packed=packed) -> None:
        with _saying(folder):
          data.write_scores(folder, part, packed, with_targets=temperature is not None)

      processes.first_alone(write_part, makes=folder / f"{part:05d}" / "log_probs.npy")
      bar.say(f"part {part + 1} of {data.num_parts(split)}")


def _batches(split: data.TokenisedSplit, part: int, size: int) -> list[Int[np.ndarray, " E"]]:
  """Returns the rows of each batch of a part; those of a batch have one bucket."""
  rows = np.arange(part * data.PART, min((part + 1) * data.PART, len(split.example_id)))
  found = []
  for bucket in np.unique(split.bucket[rows]).tolist():
    of_bucket = rows[split.bucket[rows] == bucket]
    found += [of_bucket[i : i + size] for i in range(0, len(of_bucket), size)]
  return found


def _writer(teacher: Model, temperature: float) -> Callable[..., Int[Array, "B T"]]:
  """Returns `(params, batch, key) -> tokens`: the teacher's outputs, as long as the targets."""

  @jax.jit
  def write(params: Params, batch: Batch, key: jax.Array) -> Int[Array, "B T"]:
    return decoding.decode(
        None,
        teacher.decoder_fns,
        None,
        params,
        None,
        batch.teacher_source,
        batch.budget,
        key,
        decoding.TeacherAlone(),
        max_length=batch.target.shape[1],
        sampling=decoding.Sampling(temperature=temperature),
        eager=True,
    ).tokens

  return write


def score_tokens(
    params: Params,
    source: Int[Array, "B S"],
    tokens: Int[Array, "B T"],
    *,
    teacher: Model,
    top_k: int,
    readout_chunk: int,
) -> TeacherScores:
  """Scores sequences by one pass of the teacher.

  Args:
    params: its parameters.
    source: what it reads.
    tokens: the sequences.
    teacher: its functions.
    top_k: number of largest probabilities to keep per token.
    readout_chunk: positions whose logits are in memory at a time; 0 for all.

  Returns:
    The scores, float32 but for the ids.
  """
  hidden = teacher.hidden(params, teacher.encode(params, source), shift_right(tokens))

  def per_token(hidden, tokens):
    logits = teacher.logits(params, hidden)
    top, ids = jax.lax.top_k(logits, top_k)
    return TeacherScores(
        losses.taken_log_probs(logits, tokens),
        ids,
        top - jax.nn.logsumexp(logits, axis=-1, keepdims=True),
    )

  scores = losses.over_sequence_chunks(per_token, hidden, tokens, chunk_size=readout_chunk)
  return scores._replace(log_probs=jnp.where(tokens == PAD_ID, 0.0, scores.log_probs))
