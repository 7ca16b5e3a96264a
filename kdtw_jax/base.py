"""The code's vocabulary: shape letters, special ids, and the records that several folders share.

Shape letters, the same in every annotation, comment and einsum:

    B batch          T target length      S source length     V vocabulary
    D width          N heads              H head size         L layers
    C chunk of new tokens in one decoder call                 K knots of the dual function
    F hidden width of a feed-forward block

Nothing here computes anything, and every other module may import it.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Bool, Float, Int, Key
import numpy as np

PAD_ID = 0  # also the decoder's start token, as in T5
EOS_ID = 1
UNK_ID = 2
TAU = "<τ>"  # the student's "ask the teacher" token; the tokenizer decides its id

# Stands for log(0) at masked vocabulary entries; finite, so that 0 * log 0 is 0 and not NaN.
MASKED_LOGIT = -1e9

ArrayLike = Array | np.ndarray
Params = Any  # a pytree of arrays: the nnx.State of a model
PRNGKey = Key[Array, ""]


class TeacherScores(NamedTuple):
  """What the teacher gave to the tokens of a target, computed before training.

  Attributes:
    log_probs: log μ of each token, nats; 0 at padding.
    top_ids: its most likely tokens at each position.
    top_log_probs: their log μ, nats.
  """

  log_probs: Float[ArrayLike, "B T"]
  top_ids: Int[ArrayLike, "B T top"]
  top_log_probs: Float[ArrayLike, "B T top"]


class Batch(NamedTuple):
  """One training or evaluation batch, padded to a bucket's shape with PAD_ID.

  Attributes:
    student_source: budget instruction + source + EOS.
    teacher_source: source + EOS; the teacher never sees the budget.
    target: reference + EOS.
    budget: share of teacher tokens that the instruction allows, 0..1.
    example_id: index of the example in its source; -1 marks a row that is all padding.
    teacher_scores: of the target; None if the teacher is to be run.
  """

  student_source: Int[ArrayLike, "B S_student"]
  teacher_source: Int[ArrayLike, "B S_teacher"]
  target: Int[ArrayLike, "B T"]
  budget: Float[ArrayLike, " B"]
  example_id: Int[ArrayLike, " B"]
  teacher_scores: TeacherScores | None = None


@runtime_checkable
class BatchIterator(Iterator[Batch], Protocol):
  """An iterator over batches whose position can be saved and restored."""

  def get_state(self) -> dict[str, Any]:
    """Returns the position of the iterator, as a small JSON-able dict."""
    ...

  def set_state(self, state: dict[str, Any]) -> None:
    """Continues from a saved position."""
    ...


class StepOutput(NamedTuple):
  """A model's predictions of the next token at each of C positions.

  Attributes:
    logits: float32; the entry of `<τ>` holds MASKED_LOGIT.
    gate_logits: log-odds of asking, float32; zeros for a model without a gate.
    gap: the gate's prediction of log max μ − log μ(argmax π), nats; None if it predicts none.
  """

  logits: Float[Array, "B C V"]
  gate_logits: Float[Array, "B C"]
  gap: Float[Array, "B C"] | None = None


class Worth(NamedTuple):
  """What a student expects of help with its draft: calls until a check finds nothing to mend.

  Attributes:
    gain: G, by how much the output would gain, in the unit that the head has learned.
    calls: number of calls that it would take.
  """

  gain: Float[Array, " B"]
  calls: Float[Array, " B"]


class DecoderFns(NamedTuple):
  """A sequence-to-sequence model as the decoding loop sees it: pure functions.

  Attributes:
    start: `(params, source [B, S], max_length) -> cache`. Encodes the source, computes the
      cross-attention keys and values, and allocates a self-attention cache for `max_length`
      decoder inputs.
    extend: `(params, cache, tokens [B, C], positions [B]) -> (hidden [B, C, D], cache)`. Row b's
      tokens are the decoder inputs at positions[b] .. positions[b] + C - 1. Their keys and values
      overwrite what the cache held there, and each token attends to all inputs up to itself.
      Writes past the end of the cache are dropped.
    readout: `(params, cache, hidden [B, C, D]) -> StepOutput`.
    worth: `(params, hidden [B, D], hidden_mean [B, D], signals [B, F + 2]) -> Worth` of a draft;
      None for a model without that head. The two last signals are the output's tokens and the calls
      so far.
    take: `(cache, places [R]) -> cache` of these rows alone. Arrays that have no rows are passed on
      as they are. None for a model that only runs whole batches.
  """

  start: Callable[..., Any]
  extend: Callable[..., Any]
  readout: Callable[..., StepOutput]
  worth: Callable[..., Worth] | None = None
  take: Callable[..., Any] | None = None


class Trajectory(NamedTuple):
  """Sequences written by a policy or a person, with what path consistency needs to know about them.

  Attributes:
    student_source: as in `Batch`.
    teacher_source: as in `Batch`.
    tokens: emitted tokens y_t including EOS, then PAD_ID; `<τ>` never occurs.
    asked: True where the action was `<τ>` and the teacher wrote y_t.
    ended: True where the state after the sequence is terminal: it has its EOS, or the decoder cuts
      there; False if it was cut to fit the batch.
    on_policy: True where the student wrote the sequence, with the teacher's help.
    own_gate: True where the student's gate alone decided when to ask; the dual step measures the
      use of the teacher on these rows.
    budget: allowed share of teacher tokens, 0..1.
    example_id: as in `Batch`; -1 marks padding rows.
    teacher_scores: as in `Batch`, of `tokens`.
  """

  student_source: Int[ArrayLike, "B S_student"]
  teacher_source: Int[ArrayLike, "B S_teacher"]
  tokens: Int[ArrayLike, "B T"]
  asked: Bool[ArrayLike, "B T"]
  ended: Bool[ArrayLike, " B"]
  on_policy: Bool[ArrayLike, " B"]
  own_gate: Bool[ArrayLike, " B"]
  budget: Float[ArrayLike, " B"]
  example_id: Int[ArrayLike, " B"]
  teacher_scores: TeacherScores | None = None
