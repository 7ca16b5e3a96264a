"""Decoding of a whole split with one policy: per sentence, what was written and what it cost."""

from collections.abc import Iterator, Mapping
import dataclasses
import functools

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from kdtw_jax import data, decoding, devices, processes
from kdtw_jax.base import ArrayLike, Batch, Params
from kdtw_jax.evaluation import metrics
from kdtw_jax.models import Model


@dataclasses.dataclass(frozen=True)
class Outputs:
  """The outputs of a split, one row per sentence, in the split's order.

  Attributes:
    texts: N detokenised outputs.
    ids: N lists of token ids, EOS included.
    by_teacher: N boolean arrays, True where the teacher wrote the token.
    counts: `[N]` int arrays by name: `length`, `asks`, `teacher_calls`, `teacher_row_passes`,
      `teacher_tokens`, `student_row_steps`.
  """

  texts: list[str]
  ids: list[list[int]]
  by_teacher: list[np.ndarray]
  counts: dict[str, np.ndarray]

  @property
  def num_tokens(self) -> int:
    """Number of output tokens, EOS included; at least 1, so that shares are defined."""
    return max(int(self.counts["length"].sum()), 1)

  @property
  def written(self) -> np.ndarray:
    """Number of tokens of each output that the teacher wrote, `[N]`."""
    return np.array([int(row.sum()) for row in self.by_teacher])

  @property
  def teacher_share(self) -> float:
    """Σ written / Σ length: a budget bounds this ratio of sums, not a mean of ratios."""
    return float(self.written.sum() / self.num_tokens)

  def per_token(self, count: str) -> float:
    """Returns one of `counts` per output token, both summed over all sentences."""
    return float(self.counts[count].sum() / self.num_tokens)


COUNTS = (
    "length",
    "asks",
    "teacher_calls",
    "teacher_row_passes",
    "teacher_tokens",
    "student_row_steps",
)


class Runner:
  """A decoder of splits that compiles once per kind of policy and batch shape."""

  def __init__(
      self,
      config: ml_collections.ConfigDict,
      models: tuple[Model, Model],
      mesh: jax.sharding.Mesh,
      tokenizer: data.AnyTokenizer,
      teacher_params: Params,
      *,
      sources: Mapping[str, data.Source],
      tokenised: Mapping[str, data.TokenisedSplit],
  ):
    """Takes the parts of a run; `sources` and `tokenised` are by split."""
    self._config, self._mesh, self._tokenizer = config, mesh, tokenizer
    self._teacher_params, self._tokenised = teacher_params, tokenised
    self.examples = {
        split: [sources[split][i] for i in kept.example_id.tolist()]
        for split, kept in tokenised.items()
    }  # tokenising drops empty examples
    self.references = {
        split: [example.references for example in examples]
        for split, examples in self.examples.items()
    }
    self._prompt_length = data.instruction_length(tokenizer, config)
    student, teacher = models
    chunk = config.decode.chunk
    if not chunk:
      source = np.ones((1, max(length for length, _ in config.data.buckets)), np.int32)
      seconds = decoding.pass_seconds(
          teacher.decoder_fns, teacher_params, source, max_length=config.decode.max_length
      )
      chunk = decoding.best_chunk(dict(processes.of_first([*seconds.items()])), 0.2)

    def decode(eager, student_params, teacher_params, batch, budget, policy):
      key = jax.random.fold_in(jax.random.key(config.seed), batch.example_id[0])
      return decoding.decode(
          student.decoder_fns,
          teacher.decoder_fns,
          student_params,
          teacher_params,
          batch.student_source,
          batch.teacher_source,
          budget,
          key,
          policy,
          eager=eager,
          max_length=config.decode.max_length,
          chunk=chunk,
          wait=config.decode.wait,
          pass_rows=config.decode.pass_rows or None,
      )

    def first_cost_values(params, batch, price):
      encoded = student.encode(params, batch.student_source)
      price = student.price_or(params, encoded, price)
      hidden = student.hidden(params, encoded, jnp.zeros((price.shape[0], 1), jnp.int32))
      values = student.values(params, hidden, price)[1][:, 0]
      return jnp.sum(jnp.where(batch.example_id >= 0, values, 0.0))

    self._decode = jax.jit(decode, static_argnums=0)
    self._first_cost_values = jax.jit(first_cost_values)

  @functools.cached_property
  def shortest(self) -> tuple[float, float]:
    """What a hard budget counts on: see `data.shortest_output`; of the validation split."""
    return data.shortest_output(
        self._tokenised["validation"], self._tokenizer, self._config.decode.shortest_quantile
    )

  def batches(
      self,
      split: str,
      *,
      budget: float,
      wording: data.Wording | None,
      batch_size: int,
      by_length: bool = False,
  ) -> Iterator[Batch]:
    """Iterates over a split; without a wording, the student reads the teacher's source."""
    for batch in data.eval_batches(
        self._tokenised[split],
        self._tokenizer,
        batch_size=batch_size,
        budget=budget,
        wording=wording or data.TRAIN_WORDINGS[0],
        prompt_length=self._prompt_length,
        by_length=by_length,
    ):
      yield batch if wording else batch._replace(student_source=batch.teacher_source)

  def placed(self, batch: Batch) -> Batch:
    """Puts a batch on the devices, its rows over them if they divide."""
    if len(batch.budget) % devices.batch_parts(self._mesh):
      return devices.replicated(self._mesh, batch)
    return devices.shard_batch(self._mesh, batch)

  def decode(
      self,
      policy: decoding.Policy,
      params: Params | None,
      batch: Batch,
      *,
      form: str = "share",
      calls: int = 0,
      pace: float = 0.0,
      credit: ArrayLike | int = 0,
      eager: bool = False,
  ) -> decoding.DecodeResult:
    """Decodes one batch, leaving the result on the devices."""
    budget = decoding.Budget(
        share=batch.budget,
        pace=np.float32(pace),
        shortest=self.shortest if form == "hard" else (0.0, 0.0),
        calls=np.full(len(batch.budget), calls, np.int32),
        credit=(
            credit
            if isinstance(credit, jax.Array)
            else devices.replicated(self._mesh, np.array(credit, np.int32))
        ),
        form=form,
    )
    return self._decode(eager, params, self._teacher_params, batch, budget, policy)

  def run(
      self,
      split: str,
      policy: decoding.Policy,
      params: Params | None,
      *,
      budget: float = 0.0,
      wording: data.Wording | None = data.TRAIN_WORDINGS[0],
      form: str = "share",
      calls: int = 0,
      pace: float = 0.0,
  ) -> Outputs:
    """Decodes a whole split.

    Args:
      split: name of the split.
      policy: who writes which token.
      params: the student's parameters; None for the teacher alone.
      budget: stated in the student's instruction, and what the form holds to.
      wording: how the instruction states the budget; None for a student trained without
        instructions.
      form: what the budget promises; a ledger is kept over the whole split.
      calls: most calls of an output, for the form `calls`.
      pace: κ of the budget.

    Returns:
      The outputs in the split's order.
    """
    results, credit = [], 0
    for batch in self.batches(
        split,
        budget=budget,
        wording=wording,
        by_length=True,
        batch_size=self._config.evaluation.batch_size,
    ):
      result = self.decode(
          policy, params, self.placed(batch), form=form, calls=calls, pace=pace, credit=credit
      )
      credit = result.credit
      results.append((batch.example_id, result))  # fetched later, to keep the device busy
    example_id = np.concatenate([ids for ids, _ in results])
    order = np.argsort(example_id, kind="stable")[np.sum(example_id < 0) :]
    names = (*COUNTS, "tokens", "written_by_teacher")
    found = processes.whole([[getattr(result, name) for name in names] for _, result in results])
    rows = {
        name: np.concatenate(parts)[order]
        for name, parts in zip(names, zip(*found, strict=True), strict=True)
    }
    ids = [row[:n].tolist() for row, n in zip(rows["tokens"], rows["length"], strict=True)]
    return Outputs(
        texts=[self._tokenizer.decode(row) for row in ids],
        ids=ids,
        by_teacher=[
            row[:n] for row, n in zip(rows["written_by_teacher"], rows["length"], strict=True)
        ],
        counts={name: rows[name] for name in COUNTS},
    )

  def scores(self, split: str, outputs: Outputs) -> dict[str, float]:
    """Scores outputs against all references of a split."""
    return metrics.corpus_scores(
        outputs.texts, self.references[split], metric=self._config.evaluation.metric
    )

  def predicted_share(
      self,
      split: str,
      params: Params,
      *,
      budget: float,
      wording: data.Wording,
      price: float,
      num_tokens: int,
  ) -> float:
    """Returns the share that V_C predicts: its sum over a split's first states, per output token.

    Args:
      split: name of the split.
      params: the student's parameters.
      budget: stated in the instruction.
      wording: how the instruction states the budget.
      price: λ of the budget, nats per ask, for a gate that reads no price of its own.
      num_tokens: number of output tokens of the split.
    """
    size = self._config.evaluation.batch_size
    prices = np.full(size, price, np.float32)
    batches = self.batches(split, budget=budget, wording=wording, batch_size=size)
    total = sum(float(self._first_cost_values(params, batch, prices)) for batch in batches)
    return total / num_tokens
