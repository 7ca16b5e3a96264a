"""Vocabulary of the code: shape letters, special ids, and the records that cross folders.

Shape letters, the same in every annotation, comment and einsum:

    B batch          T target length      S source length     V vocabulary
    D width          N heads              H head size         L layers
    C chunk of new tokens in one decoder call                 K knots of the dual function
    F hidden width of a feed-forward block

Nothing here computes; everything here may be imported by every other module.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Bool, Float, Int, Key
import numpy as np

PAD_ID = 0  # also the decoder's start token, as in T5
EOS_ID = 1
UNK_ID = 2
TAU = "<τ>"  # the student's "ask the teacher" token; its id is a property of the tokenizer

# log(0) of masked vocabulary entries: finite, so that 0 * log 0 stays 0 and never NaN.
MASKED_LOGIT = -1e9

ArrayLike = Array | np.ndarray
Params = Any  # a pytree of arrays, the nnx.State of a model
PRNGKey = Key[Array, ""]


class Batch(NamedTuple):
  """One training or evaluation batch, padded to a bucket's shape with PAD_ID.

  Attributes:
    student_source: `[B, S_student]` int32: budget instruction + source + EOS.
    teacher_source: `[B, S_teacher]` int32: source + EOS; the teacher never sees the budget.
    target: `[B, T]` int32: reference + EOS.
    budget: `[B]` float32: allowed share of teacher tokens that the instruction states, 0..1.
    example_id: `[B]` int32: index of the example in its source; -1 marks a row of pure padding.
  """

  student_source: Int[ArrayLike, "B S_student"]
  teacher_source: Int[ArrayLike, "B S_teacher"]
  target: Int[ArrayLike, "B T"]
  budget: Float[ArrayLike, " B"]
  example_id: Int[ArrayLike, " B"]


@runtime_checkable
class BatchIterator(Iterator[Batch], Protocol):
  """Batches in an order that can be left and taken up again."""

  def get_state(self) -> dict[str, Any]:
    """Where the iterator stands, as a small JSON-able dict."""
    ...

  def set_state(self, state: dict[str, Any]) -> None:
    """Goes on from where another stood."""
    ...


class StepOutput(NamedTuple):
  """What a model says about the next token at each of C positions.

  Attributes:
    logits: `[B, C, V]` float32; the row of `<τ>` holds MASKED_LOGIT.
    gate_logits: `[B, C]` float32, the log-odds of asking; zeros for a model without a gate.
  """

  logits: Float[Array, "B C V"]
  gate_logits: Float[Array, "B C"]


class DecoderFns(NamedTuple):
  """A sequence-to-sequence model as the decoding loop sees it: three pure functions.

  Attributes:
    start: `(params, source [B, S], max_length) -> cache`. Encodes the source, computes the
      cross-attention keys and values once and allocates a self-attention cache for `max_length`
      decoder inputs.
    extend: `(params, cache, tokens [B, C], positions [B]) -> (hidden [B, C, D], cache)`. Row b's
      tokens are decoder inputs number positions[b] .. positions[b] + C - 1; their keys and values
      are written there, whatever was there before, and each attends to all inputs up to itself.
      Writes past the end of the cache are dropped.
    readout: `(params, cache, hidden [B, C, D]) -> StepOutput`.
  """

  start: Callable[..., Any]
  extend: Callable[..., Any]
  readout: Callable[..., StepOutput]


class Trajectory(NamedTuple):
  """Sequences that a policy (or a person) wrote, with what path consistency needs to know of them.

  Attributes:
    student_source: `[B, S_student]` int32.
    teacher_source: `[B, S_teacher]` int32.
    tokens: `[B, T]` int32: emitted tokens y_t incl. EOS, PAD_ID after it; `<τ>` never occurs.
    asked: `[B, T]` bool: True where the action was `<τ>` and the teacher wrote y_t.
    ended: `[B]` bool: True where the sequence holds its EOS, i.e. the state after it is terminal.
    on_policy: `[B]` bool: True where the student (with the teacher's help) wrote the sequence.
    own_gate: `[B]` bool: True where the student's gate alone decided when to ask; such rows measure
      the use of the teacher for the dual step.
    budget: `[B]` float32: allowed share of teacher tokens.
    example_id: `[B]` int32; -1 marks padding rows.
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
