"""Batches of a tokenised split: an endless shuffled stream, or padded rows in order.

The training stream is a pure function of the batch number, read through grain. Its iterator state
is one number, so a run resumes at the next batch. An epoch is made in four steps:

  1. a seeded permutation of all examples, new in every epoch;
  2. each bucket, shortest first, is cut into full batches; its remaining examples (fewer than a
     batch) move to the front of the next larger bucket's queue, whose shape holds them too;
  3. the remaining examples of the last bucket are skipped in this epoch;
  4. the batches are shuffled.

Every epoch has the same number of batches. The budget and wording of an example are a pure function
of (seed, epoch, example id), whatever its batch. Shape letters: B, S, T.
"""

from collections.abc import Iterator, Sequence
import functools
import itertools
import operator
import sys
from typing import NamedTuple, SupportsIndex

import grain
from jaxtyping import Int
from ml_collections import ConfigDict
import numpy as np

from kdtw_jax.base import Batch
from kdtw_jax.data import prompts as prompts_lib
from kdtw_jax.data.hashing import hash_ids
from kdtw_jax.data.prompts import Wording
from kdtw_jax.data.published_tokenizer import AnyTokenizer
from kdtw_jax.data.tokenised import TokenisedSplit, lay_out

_ORDER, _BUDGET, _WORDING = range(3)  # purposes of random numbers
_ENDLESS = 2**62


class _Epoch(NamedTuple):
  """The batches of an epoch: a few bytes per example, whatever their number.

  Attributes:
    rows: rows of the split that make each of the N batches, made bucket by bucket.
    bucket: number of the bucket of each batch.
    order: which batch comes first, second, ...
  """

  rows: Int[np.ndarray, "N B"]
  bucket: Int[np.ndarray, " N"]
  order: Int[np.ndarray, " N"]


class TrainingPlan:
  """A map from the number of a batch to the batch.

  Attributes:
    batches_per_epoch: number of batches in one epoch.
    shapes: the `(S_student, S_teacher, T)` that batches can have.
  """

  def __init__(
      self,
      split: TokenisedSplit,
      tokenizer: AnyTokenizer,
      *,
      batch_size: int,
      budgets: Sequence[float | int],
      prompt_length: int,
      seed: int,
      wordings: Sequence[Wording] = prompts_lib.TRAIN_WORDINGS,
  ):
    """Makes the plan; see `train_batches` for the arguments."""
    _check_batch(split, batch_size)
    if budgets and not wordings:
      raise ValueError("wordings=(): budgets need at least one wording to be stated in")
    self._split = split
    self._budgets = np.array(budgets, np.float32)
    self._num_wordings = len(wordings) if budgets else 0
    self._task = encode_task(tokenizer, split.task)
    self._prompts = [
        [
            encode_prompt(tokenizer, budget, wording, split.task, prompt_length)
            for wording in wordings
        ]
        for budget in budgets
    ]
    self._batch_size = batch_size
    self._prompt_length = prompt_length
    self._seed = seed
    self.batches_per_epoch = len(self._epoch(0).order)
    self.shapes = tuple((s + prompt_length, s + len(self._task), t) for s, t in split.buckets)

  def __len__(self) -> int:
    return _ENDLESS

  def __getitem__(self, index: SupportsIndex) -> Batch:
    number, place = divmod(operator.index(index), self.batches_per_epoch)
    epoch = self._epoch(number)
    batch = epoch.order[place]
    rows = epoch.rows[batch]
    budgets, prompts = self._instructions(number, self._split.example_id[rows])
    return lay_out(
        self._split,
        rows,
        prompts,
        budgets,
        task=self._task,
        bucket=int(epoch.bucket[batch]),
        prompt_length=self._prompt_length,
    )

  def _instructions(self, epoch: int, example_id: np.ndarray) -> tuple[np.ndarray, list[list[int]]]:
    if not self._prompts:
      return np.zeros(len(example_id), np.float32), [self._task] * len(example_id)
    budget = hash_ids(example_id, self._seed, _BUDGET, epoch) % np.uint64(len(self._prompts))
    wording = hash_ids(example_id, self._seed, _WORDING, epoch) % np.uint64(self._num_wordings)
    prompts = [self._prompts[int(i)][int(j)] for i, j in zip(budget, wording, strict=True)]
    return self._budgets[budget.astype(np.int64)], prompts

  @functools.lru_cache(maxsize=2)  # noqa: B019  a plan lives as long as its run
  def _epoch(self, epoch: int) -> _Epoch:
    """Returns the batches of an epoch."""
    rng = np.random.default_rng((self._seed, _ORDER, epoch))
    order = rng.permutation(len(self._split.example_id)).astype(np.int32)
    buckets = self._split.bucket[order]
    rows, counts = [], []
    waiting = np.zeros(0, order.dtype)
    for bucket in range(len(self._split.buckets)):
      waiting = np.concatenate([waiting, order[buckets == bucket]])
      full = len(waiting) // self._batch_size
      rows.append(waiting[: full * self._batch_size])
      counts.append(full)
      waiting = waiting[full * self._batch_size :]
    return _Epoch(
        rows=np.concatenate(rows).reshape(-1, self._batch_size),
        bucket=np.repeat(np.arange(len(counts), dtype=np.int32), counts),
        order=rng.permutation(sum(counts)),
    )


def train_batches(
    split: TokenisedSplit,
    tokenizer: AnyTokenizer,
    *,
    batch_size: int,
    budgets: Sequence[float | int],
    prompt_length: int,
    seed: int,
    wordings: Sequence[Wording] = prompts_lib.TRAIN_WORDINGS,
    num_prefetch: int = 4,
) -> grain.DatasetIterator:
  """Opens the endless stream of training batches at its first batch.

  Args:
    split: the tokenised training split.
    tokenizer: encodes the instructions.
    batch_size: rows of a batch.
    budgets: budgets to draw from, uniformly per example and epoch; () gives budget 0 and an
      instruction with the task only, in the same shapes.
    prompt_length: tokens reserved for the instruction.
    seed: seed of the order, budgets and wordings.
    wordings: wordings of a budget to draw from, uniformly per example and epoch.
    num_prefetch: number of batches that a thread makes ahead; 0 for none.

  Returns:
    An iterator of `Batch` with numpy arrays; `get_state()` returns a small JSON-able dict for
    `set_state`.

  Raises:
    ValueError: if there are fewer examples than a batch has, or an instruction is longer than
      `prompt_length`.
  """
  plan = TrainingPlan(
      split,
      tokenizer,
      batch_size=batch_size,
      budgets=budgets,
      prompt_length=prompt_length,
      seed=seed,
      wordings=wordings,
  )
  options = grain.ReadOptions(num_threads=min(num_prefetch, 1), prefetch_buffer_size=num_prefetch)
  return iter(grain.MapDataset.source(plan).to_iter_dataset(options))


def eval_batches(
    split: TokenisedSplit,
    tokenizer: AnyTokenizer,
    *,
    batch_size: int,
    budget: float | int,
    wording: Wording,
    prompt_length: int,
    by_length: bool = False,
) -> Iterator[Batch]:
  """Iterates over a split once, with one budget in one wording.

  A batch has the shape of the smallest bucket that holds all its rows. The last batch is filled up
  with padding rows, whose `example_id` is -1. Tokenise an evaluation split with
  `over_long="truncate"`, so that no example is missing.

  Args:
    split: the tokenised split.
    tokenizer: encodes the instruction.
    batch_size: rows of every batch.
    budget: allowed share of teacher tokens, 0..1.
    wording: how the instruction states it.
    prompt_length: tokens reserved for the instruction.
    by_length: False keeps the split's order; True sorts by source length, so that the outputs of a
      batch end at about the same time.

  Returns:
    An iterator of batches of numpy arrays.

  Raises:
    ValueError: if the instruction is longer than `prompt_length`, or batch_size is below 1.
  """
  if batch_size < 1:
    raise ValueError(f"batch_size={batch_size}: must be at least 1")
  prompt = encode_prompt(tokenizer, budget, wording, split.task, prompt_length)
  task = encode_task(tokenizer, split.task)
  order = np.arange(len(split.example_id))
  if by_length:
    order = np.argsort(np.diff(split.source.starts), kind="stable")
  return _in_order(split, order, prompt, task, float(budget), batch_size, prompt_length)


def _in_order(
    split: TokenisedSplit,
    order: np.ndarray,
    prompt: list[int],
    task: list[int],
    budget: float,
    batch_size: int,
    prompt_length: int,
) -> Iterator[Batch]:
  for start in range(0, len(order), batch_size):
    rows = order[start : start + batch_size]
    bucket = int(split.bucket[rows].max())
    rows = np.pad(rows, (0, batch_size - len(rows)), constant_values=-1)
    budgets = np.full(batch_size, budget, np.float32)
    yield lay_out(
        split,
        rows,
        [prompt] * batch_size,
        budgets,
        task=task,
        bucket=bucket,
        prompt_length=prompt_length,
    )


def encode_prompt(
    tokenizer: AnyTokenizer, budget: float | int, wording: Wording, task: str, prompt_length: int
) -> list[int]:
  """Encodes the student's instruction.

  Args:
    tokenizer: encodes the instruction.
    budget: allowed share of teacher tokens, 0..1.
    wording: how to state it.
    task: what to do with the input; "" for an instruction without a task.
    prompt_length: largest number of ids.

  Returns:
    The ids, without EOS.

  Raises:
    ValueError: if there are more than `prompt_length` ids.
  """
  text = prompts_lib.render(budget, wording, task)
  ids = tokenizer.encode_instruction(text)
  if len(ids) > prompt_length:
    raise ValueError(
        f"config.data.prompt_length={prompt_length}: the instruction {text!r} takes {len(ids)} "
        "tokens: raise it, set it to 0 for as much as is needed, or shorten config.data.task"
    )
  return ids


def instruction_length(tokenizer: AnyTokenizer, config: ConfigDict) -> int:
  """Returns the length reserved for the student's instruction.

  Args:
    tokenizer: encodes the instructions.
    config: the run's config, of which `data`, `budgets` and `evaluation.compare_at` are read.

  Returns:
    `data.prompt_length` in tokens, or if that is 0, the length of the run's longest instruction.

  Raises:
    ValueError: if `data.prompt_length` is too small for an instruction of the run.
  """
  length, task = config.data.prompt_length, config.data.task
  trained = itertools.product(tuple(config.budgets.train), prompts_lib.TRAIN_WORDINGS)
  stated = itertools.product(
      sorted({*config.budgets.seen, *config.budgets.held_out, *config.evaluation.compare_at}),
      prompts_lib.TRAIN_WORDINGS + prompts_lib.HELD_OUT_WORDINGS,
  )
  lengths = [
      len(encode_prompt(tokenizer, budget, wording, task, length or sys.maxsize))
      for budget, wording in itertools.chain(trained, stated)
  ]
  return length or max(*lengths, len(encode_task(tokenizer, task)))


def encode_task(tokenizer: AnyTokenizer, task: str) -> list[int]:
  """Encodes the teacher's instruction; `[]` without a task."""
  return tokenizer.encode_instruction(prompts_lib.task_instruction(task)) if task else []


def _check_batch(split: TokenisedSplit, batch_size: int) -> None:
  num_examples = len(split.example_id)
  if not 1 <= batch_size <= num_examples:
    raise ValueError(
        f"batch_size={batch_size}: must be between 1 and the {num_examples} examples of the "
        "training split: lower it or give more examples"
    )
