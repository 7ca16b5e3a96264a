"""Signals that ask a run to end: training saves its step first, anything else ends at once.

    SIGTERM, SIGHUP   from a scheduler or a closed terminal: status 0 once the step is saved
    SIGINT            Ctrl-C: status 130 once the step is saved
    any               outside of training: status 128 + n
    SIGINT            a second signal, while the step is being saved: status 130

"At once" is when the call in progress returns to Python, such as a compilation. Schedulers and
terminals send their signals twice, so of second signals only Ctrl-C counts. Only the command line
installs handlers; who calls the package keeps their own.
"""

import contextlib
import os
import signal
import sys
from typing import NoReturn

from kdtw_jax.files import flush_or_drop

_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


class Deferred:
  """While entered, keeps the first signal for a training loop to read; does not nest.

  Attributes:
    received: the signal, or None.
  """

  _entered: "Deferred | None" = None

  def __init__(self):
    self.received: int | None = None

  def __enter__(self) -> "Deferred":
    Deferred._entered = self
    return self

  def __exit__(self, *unused: object) -> None:
    Deferred._entered = None


def install() -> None:
  """Installs the handlers, except where the parent ignores a signal, as `nohup` does."""
  for number in _SIGNALS:
    if signal.getsignal(number) is not signal.SIG_IGN:
      signal.signal(number, _handle)


def leave(received: int, *, stage: str, step: int) -> NoReturn:
  """Says that a stage is saved, and exits.

  Args:
    received: the signal.
    stage: name of the stage.
    step: number of the step that is saved.

  Raises:
    SystemExit: always.
  """
  saved = f"stage {stage} is saved at step {step}"
  with contextlib.suppress(OSError):  # the terminal may be gone
    print(f"{_name(received)}: {saved}; the same command goes on from there", file=sys.stderr)
  flush_or_drop(sys.stdout, sys.stderr)
  sys.exit(128 + received if received == signal.SIGINT else 0)


def _handle(number: int, frame: object) -> None:
  deferred = Deferred._entered
  if deferred is not None and deferred.received is None:
    deferred.received = number
    return
  if deferred is not None and number != signal.SIGINT:
    return
  # Not `sys.exit`: a library may catch it, and threads that save would be waited for.
  line = f"{_name(number)}: ended at once; the same command goes on from what is saved\n"
  with contextlib.suppress(OSError):
    os.write(2, line.encode())  # `print` may be what the signal interrupted
  os._exit(128 + number)


def _name(number: int) -> str:
  return signal.Signals(number).name
