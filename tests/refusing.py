"""How a user's mistake is answered: in one line that says what is wrong."""

import pytest


def refused(call, *said):
  """Asserts that a call raises a user's error of one line that says all of it."""
  with pytest.raises((ValueError, OSError)) as caught:
    call()
  message = str(caught.value)
  assert "\n" not in message and len(message) < 1000
  for part in said:
    assert part in message
