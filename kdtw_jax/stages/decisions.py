"""Decisions about help: what a student knew of each of its drafts, and what help then brought.

Sources are decoded with help until clean. The student drafts to the end of the output; a call takes
back the first token that falls short of the teacher's choice by more than ρ nats, the teacher
writes there, and the student drafts on, heeding what the teacher said of the rest; and so on, until
a call finds nothing. Each draft is a decision to learn from:

    C = calls from this one until the output is clean
    G = max(0, log μ(final output) − log μ(this draft)), or the same of a score

Not here: the heads that learn from them (worth.py).

Shape letters: B batch, T most tokens, D width, E signals of a decision, N decisions.
"""

from collections.abc import Callable, Iterable
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from kdtw_jax import decoding, losses, processes
from kdtw_jax.base import PAD_ID, ArrayLike, Batch, Params
from kdtw_jax.data import Source
from kdtw_jax.evaluation import metrics
from kdtw_jax.models import Encoded, Model, Models, shift_right

_WIDTH = 8  # drafts are scored at multiples of this many tokens


class Decisions(NamedTuple):
  """Decisions and what help brought, as arrays on the host.

  Attributes:
    hidden: the decoder state that predicted the last draft.
    hidden_mean: the mean of these states over the draft.
    signals: as in `decoding.signals.features`.
    gain: G, in nats as collected; 0 until `in_points` if it was collected without log μ.
    calls: C, at least 1.
    example_id: index of the example in its split.
    draft: the output with its draft, then PAD_ID.
    final: the output after the help, then PAD_ID.
    rollout: number of the rollout that it is a decision of.
  """

  hidden: Float[np.ndarray, "N D"]
  hidden_mean: Float[np.ndarray, "N D"]
  signals: Float[np.ndarray, "N E"]
  gain: Float[np.ndarray, " N"]
  calls: Int[np.ndarray, " N"]
  example_id: Int[np.ndarray, " N"]
  draft: Int[np.ndarray, "N T"]
  final: Int[np.ndarray, "N T"]
  rollout: Int[np.ndarray, " N"]

  def take(self, rows: np.ndarray) -> "Decisions":
    """Returns some decisions, by a mask or by index."""
    return Decisions(*(part[rows] for part in self))


def make_collector(
    models: Models, *, tolerance: float, max_length: int, readout_chunk: int, log_mu: bool = True
) -> Callable[[Params, Params, Iterable[Batch]], Decisions]:
  """Makes the function that rolls out help on batches and returns all decisions.

  Args:
    models: student and teacher.
    tolerance: ρ in nats.
    max_length: most tokens of an output.
    readout_chunk: positions whose logits are in memory at once, when outputs are scored; 0: all.
    log_mu: False if the teacher need not score them, because G will be in points.

  Returns:
    `(params, teacher_params, batches) -> Decisions`, compiled once per shape of a batch.
  """
  student, teacher = models
  rounds = decoding.make_rounds(
      student.decoder_fns,
      teacher.decoder_fns,
      decoding.make_policy("route_gap", math.inf, tolerance=tolerance, advised=True),
      max_length=max_length,
  )
  encode = jax.jit(teacher.encode)
  score = jax.jit(functools.partial(_log_mu, teacher, readout_chunk))

  def collect(params: Params, teacher_params: Params, batches: Iterable[Batch]) -> Decisions:
    found, rollouts = [], 0
    for batch in batches:
      made, result = _roll_out(rounds, params, teacher_params, batch)
      part = _joined(made, result, processes.whole(batch.example_id))
      if log_mu:
        encoded = encode(teacher_params, batch.teacher_source)
        scored = functools.partial(score, teacher_params, encoded)
        part = part._replace(gain=_in_nats(part, np.asarray(result.tokens), scored))
      found.append(part._replace(rollout=part.rollout + rollouts))
      rollouts += len(batch.example_id)
    return Decisions(*(np.concatenate(parts) for parts in zip(*found, strict=True)))

  return collect


def in_points(
    found: Decisions, source: Source, decode: Callable[[np.ndarray], str], *, metric: str
) -> Decisions:
  """Returns decisions with another gain: what the reader of the output gets.

      G = max(0, score(final output) − score(this draft)), points of 0..100

  log μ counts most where the student is lost, in outputs that many calls mend little.

  Args:
    found: decisions.
    source: their split.
    decode: makes text of token ids.
    metric: as for `evaluation.metrics.each_score`, which scores each output by itself.
  """
  references = [source[int(i)].references for i in found.example_id]
  texts = [decode(row) for rows in (found.draft, found.final) for row in rows]
  each = list(zip(texts, 2 * references, strict=True))
  unlike = list(dict.fromkeys(each))  # most decisions share their final output with others
  scores = metrics.each_score(*map(list, zip(*unlike, strict=True)), metric=metric)
  known = dict(zip(unlike, scores, strict=True))
  before, after = np.split(np.array([known[pair] for pair in each]), 2)
  return found._replace(gain=np.maximum(after - before, 0.0).astype(np.float32))


def _roll_out(
    rounds: decoding.Rounds, params: Params, teacher_params: Params, batch: Batch
) -> tuple[list[decoding.Decision], decoding.DecodeResult]:
  """Helps a batch until all its outputs are clean."""
  state, made = rounds.start(params, teacher_params, batch), []
  while not np.all(processes.whole(state.done)):
    state, decision = rounds.play(params, teacher_params, batch, state)
    made.append(processes.whole(decision))
  return made, processes.whole(rounds.finish(state))


def _joined(
    made: list[decoding.Decision], result: decoding.DecodeResult, example_id: Int[np.ndarray, " B"]
) -> Decisions:
  """Joins the decisions of a batch's rounds, and the calls that followed them; G is 0.

  Args:
    made: the decisions of each round.
    result: the final outputs.
    example_id: as in `Batch`.
  """

  def joined(part: Callable[[decoding.Decision], ArrayLike]) -> np.ndarray:
    return np.concatenate([np.asarray(part(each))[np.asarray(each.made)] for each in made])

  rows = np.concatenate([np.flatnonzero(each.made) for each in made])
  return Decisions(
      hidden=joined(lambda each: each.hidden),
      hidden_mean=joined(lambda each: each.hidden_mean),
      signals=joined(lambda each: each.signals),
      gain=np.zeros(len(rows), np.float32),
      calls=np.asarray(result.teacher_calls)[rows] - joined(lambda each: each.calls),
      example_id=example_id[rows],
      draft=joined(lambda each: each.tokens),
      final=np.asarray(result.tokens)[rows],
      rollout=rows,
  )


def _in_nats(
    found: Decisions,
    final: Int[np.ndarray, "B T"],
    score: Callable[[np.ndarray, np.ndarray], Array],
) -> Float[np.ndarray, " N"]:
  """Returns G = max(0, log μ(final output) − log μ(this draft)) of the decisions of a batch.

  Args:
    found: the decisions; `rollout` is the row of the batch.
    final: the batch's outputs.
    score: `(rows, tokens) -> log μ` of outputs that belong to these rows.
  """
  scores = _in_widths(
      score,
      np.concatenate([found.rollout, np.arange(len(final))]),
      np.concatenate([found.draft, final]),
      size=len(final),
  )
  before, after = scores[: len(found.rollout)], scores[len(found.rollout) :]
  return np.maximum(after[found.rollout] - before, 0.0)


def _log_mu(
    teacher: Model,
    readout_chunk: int,
    params: Params,
    encoded: Encoded,
    rows: Int[Array, " n"],
    tokens: Int[Array, "n T"],
) -> Float[Array, " n"]:
  """Computes log μ of outputs, of which each belongs to a row of the encoded sources."""
  encoded = jax.tree.map(lambda part: part[rows], encoded)
  hidden = teacher.hidden(params, encoded, shift_right(tokens))

  def per_token(hidden, tokens):
    return losses.taken_log_probs(teacher.logits(params, hidden), tokens)

  found = losses.over_sequence_chunks(per_token, hidden, tokens, chunk_size=readout_chunk)
  return jnp.sum(found * (tokens != PAD_ID), axis=1)


def _in_widths(
    score: Callable[[np.ndarray, np.ndarray], Array],
    rows: Int[np.ndarray, " N"],
    tokens: Int[np.ndarray, "N T"],
    *,
    size: int,
) -> Float[np.ndarray, " N"]:
  """Scores outputs of similar lengths together, `size` at a time, as narrow as they allow."""
  lengths = np.sum(tokens != PAD_ID, axis=1)
  order, scores = np.argsort(lengths, kind="stable"), np.zeros(len(rows), np.float32)
  for start in range(0, len(order), size):
    part = order[start : start + size]
    width = min(-(-max(lengths[part].max(), 1) // _WIDTH) * _WIDTH, tokens.shape[1])
    filled = np.resize(part, size)  # the last batch repeats some
    scores[filled] = processes.whole(score(rows[filled], tokens[filled, :width]))
  return scores
