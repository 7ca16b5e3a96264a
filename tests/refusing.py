"""How a user's mistake is answered: in one line that says what is wrong."""

import ml_collections
import pytest

from kdtw_jax import config as config_lib


def config_with(changes):
  """The default config with fields set past its own checks of types."""
  fields = config_lib.defaults().to_dict()
  for field, value in changes.items():
    *sections, name = field.split(".")
    section = fields
    for part in sections:
      section = section[part]
    section[name] = value
  return ml_collections.ConfigDict(fields)


def refused(call, *said):
  """Asserts that a call raises a user's error of one line that says all of it."""
  with pytest.raises((ValueError, OSError)) as caught:
    call()
  message = str(caught.value)
  assert "\n" not in message and len(message) < 1000
  for part in said:
    assert part in message
