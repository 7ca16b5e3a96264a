"""Decodes a split with one policy and keeps, per sentence, what was written and what it cost."""

import dataclasses

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from kdtw_jax import data, decoding
from kdtw_jax.base import Params
from kdtw_jax.evaluation import metrics
from kdtw_jax.evaluation.tradeoff import Point
from kdtw_jax.models import Model
from kdtw_jax.training import sharding


@dataclasses.dataclass(frozen=True)
class Outputs:
  """One row per sentence, in the order of the split.

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


COUNTS = ("length", "asks", "teacher_calls", "teacher_row_passes", "teacher_tokens",
          "student_row_steps")


class Runner:
  """Runs policies over splits; compiled once per kind of policy and batch shape."""

  def __init__(self, config: ml_collections.ConfigDict, models: tuple[Model, Model], mesh,
               tokenizer: data.Tokenizer, teacher_params: Params, *,
               sources: dict[str, data.Source], tokenised: dict[str, data.TokenisedSplit]):
    """Args: the run's parts; `sources` and `tokenised` by split."""
    self._config, self._mesh, self._tokenizer = config, mesh, tokenizer
    self._teacher_params, self._tokenised = teacher_params, tokenised
    self.references = {split: [source[i].references for i in range(len(source))]
                       for split, source in sources.items() if split in tokenised}
    student, teacher = models
    self._decoders = {
        cap: decoding.make_decoder(student.decoder_fns, teacher.decoder_fns, cap=cap,
                                   max_length=config.decode.max_length, chunk=config.decode.chunk)
        for cap in ("none", "hard")}

  def batches(self, split: str, *, budget: float, template: str | None, batch_size: int):
    """A split's batches in order; without a template the student reads the bare source."""
    for batch in data.eval_batches(
        self._tokenised[split], self._tokenizer, batch_size=batch_size, budget=budget,
        template=template or data.TRAIN_TEMPLATES[0],
        prompt_length=self._config.data.prompt_length):
      yield batch if template else batch._replace(student_source=batch.teacher_source)

  def decode(self, policy: decoding.Policy, params: Params | None, batch, *, cap: str = "none"):
    """Decodes one batch; the result is on the devices."""
    return self._decoders[cap](params, self._teacher_params, batch.student_source,
                               batch.teacher_source, batch.budget, jax.random.key(0), policy)

  def run(self, split: str, policy: decoding.Policy, params: Params | None, *, budget: float = 0.0,
          template: str | None = data.TRAIN_TEMPLATES[0], cap: str = "none") -> Outputs:
    """Decodes a whole split.

    Args:
      split: its name.
      policy: who writes.
      params: the student's parameters; None for the teacher alone.
      budget: stated in the student's instruction, and enforced by the cap `hard`.
      template: wording of the instruction; None for a student that knows none.
      cap: `none` or `hard`.

    Returns:
      The outputs in the split's order.
    """
    results = []
    size = self._config.evaluation.batch_size
    for batch in self.batches(split, budget=budget, template=template, batch_size=size):
      result = self.decode(policy, params, sharding.shard_batch(self._mesh, batch), cap=cap)
      results.append((batch.example_id >= 0, result))  # fetched later: the device goes on
    rows = {name: np.concatenate([np.asarray(getattr(r, name))[real] for real, r in results])
            for name in (*COUNTS, "tokens", "written_by_teacher")}
    ids = [row[:n].tolist() for row, n in zip(rows["tokens"], rows["length"], strict=True)]
    return Outputs(
        texts=[self._tokenizer.decode(row) for row in ids], ids=ids,
        by_teacher=[row[:n] for row, n in zip(rows["written_by_teacher"], rows["length"],
                                              strict=True)],
        counts={name: rows[name] for name in COUNTS})

  def scores(self, split: str, outputs: Outputs) -> dict[str, float]:
    """Corpus scores against all references."""
    return metrics.corpus_scores(outputs.texts, self.references[split],
                                 metric=self._config.evaluation.metric)

  def point(self, split: str, outputs: Outputs, *, dial: float, label: str) -> Point:
    """The outputs as a point of a trade-off curve; its sequential cost is added later."""
    counts = outputs.counts
    tokens = max(int(counts["length"].sum()), 1)
    written = np.array([row.sum() for row in outputs.by_teacher])
    shares = metrics.teacher_shares(counts["asks"], written, counts["length"])
    return Point(
        dial=float(dial), label=label, scores=self.scores(split, outputs), **shares,
        teacher_calls=counts["teacher_calls"].sum() / tokens,
        teacher_passes=counts["teacher_row_passes"].sum() / tokens,
        teacher_tokens=counts["teacher_tokens"].sum() / tokens,
        student_steps=counts["student_row_steps"].sum() / tokens)


def written(outputs: Outputs) -> np.ndarray:
  """`[N]` how many tokens of each output the teacher wrote."""
  return np.array([int(row.sum()) for row in outputs.by_teacher])


def predicted_share(model: Model, params: Params, batches, tokens: int) -> float:
  """V_C of the first states summed over a split, per output token: the share the student expects.

  Args:
    model: the student.
    params: its parameters.
    batches: the split's batches, budget instruction included.
    tokens: output tokens of the split.
  """
  @jax.jit
  def first_cost_value(params: Params, source):
    start = jnp.zeros((source.shape[0], 1), jnp.int32)
    hidden = model.decode(params, model.encode(params, source), start)
    return model.values(params, hidden)[1][:, 0]
  total = sum(float(np.asarray(first_cost_value(params, b.student_source))[b.example_id >= 0].sum())
              for b in batches)
  return total / max(tokens, 1)
