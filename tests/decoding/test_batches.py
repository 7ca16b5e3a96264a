"""A batch whose parts do not go together is refused before anything is compiled."""

import jax
import jaxtyping
import numpy as np
import pytest

from kdtw_jax import decoding
from tests import tiny


@pytest.fixture
def unchecked_shapes():
  """Without the annotations' own checks, as users run."""
  jaxtyping.config.update("jaxtyping_disable", True)
  yield
  jaxtyping.config.update("jaxtyping_disable", False)


def sources(rows, width=5):
  return np.full((rows, width), 5, np.int32)


@pytest.mark.parametrize(
    "student, teacher, budget, message",
    [
        (sources(4), sources(4), np.zeros(3, np.float32), r"student_source: of shape \(4, 5\)"),
        (sources(4), sources(4), np.float32(0.2), r"budget: of shape \(\), must be \[B\]"),
        (sources(4), sources(1), np.zeros(4), r"teacher_source: of shape \(1, 5\), must be \[4, S"),
        (sources(1)[0], sources(1), np.zeros(1), r"student_source: of shape \(5,\)"),
        (sources(2) * 1.0, sources(2), np.zeros(2), "student_source: of dtype float.*token ids"),
    ],
)
def test_parts_of_other_sizes_are_refused(unchecked_shapes, student, teacher, budget, message):
  models = tiny.models()
  decode = decoding.make_decoder(*(model.decoder_fns for model in models), max_length=4)
  with pytest.raises(ValueError, match=message):
    decode(*tiny.params(), student, teacher, budget, jax.random.key(0), decoding.Handover())


def test_a_source_that_nobody_reads_is_not_looked_at(unchecked_shapes):
  student = tiny.models()[0]
  decode = decoding.make_decoder(student.decoder_fns, None, max_length=4)
  result = decode(
      tiny.params()[0],
      None,
      sources(2),
      sources(7),
      np.zeros(2),
      jax.random.key(0),
      decoding.StudentAlone(),
  )
  assert result.tokens.shape == (2, 4)
