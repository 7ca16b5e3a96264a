"""Fixtures of the tests of the models."""

import numpy as np
import pytest
from tiny_models import cached_model


@pytest.fixture
def tiny_model():
  """`tiny_model(**changes of TINY) -> TinyModel`, made once per set of changes."""
  return cached_model


@pytest.fixture
def text():
  """A padded source `[4, 7]` and a target `[4, 8]` without padding."""
  rng = np.random.default_rng(0)
  source = rng.integers(4, 30, (4, 7)).astype(np.int32)
  source[1, 4:] = 0
  source[2, 1:] = 0
  return source, rng.integers(4, 30, (4, 8)).astype(np.int32)
