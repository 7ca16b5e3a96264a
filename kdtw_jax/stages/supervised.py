"""Cross-entropy on references, the objective of `teacher` and `sft`."""

import jax
import ml_collections

from kdtw_jax import losses
from kdtw_jax.base import PAD_ID, Batch, Params
from kdtw_jax.models import Model, shift_right
from kdtw_jax.training.step import Objective


def cross_entropy(model: Model, stage: ml_collections.ConfigDict) -> Objective:
  """Makes the objective of a model that reads the teacher's source and writes the reference.

  Args:
    model: the model to train.
    stage: `label_smoothing`, `readout_chunk`.

  Returns:
    The objective; its data is a `Batch`.
  """

  def objective(params: Params, frozen, batch: Batch, key, duals):
    encode_key, decode_key = jax.random.split(key)
    encoded = model.encode(params, batch.teacher_source, dropout_key=encode_key)
    hidden = model.hidden(params, encoded, shift_right(batch.target), dropout_key=decode_key)

    def per_token(hidden, target):
      logits = model.logits(params, hidden)
      return losses.cross_entropy(logits, target, label_smoothing=stage.label_smoothing)

    values = losses.over_sequence_chunks(
        per_token, hidden, batch.target, chunk_size=stage.readout_chunk
    )
    return {"cross_entropy": losses.token_mean(values, batch.target != PAD_ID)}, {}

  return objective
