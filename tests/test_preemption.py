"""Signals outside of training end a process at once, in one line; what is ignored stays ignored."""

import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.usefixtures("heard_signals")
SLEEP = "print('ready', flush=True); time.sleep(60)"
TRAIN = """
with preemption.Deferred() as signals:
  print('ready', flush=True)
  while signals.received is None:
    time.sleep(0.01)
  print('saving', flush=True)
  time.sleep(60)
"""


def received(script, *numbers):
  """Sends signals to a process, one at each line that it prints; gives (status, stderr)."""
  with subprocess.Popen(
      [sys.executable, "-c", f"import time\nfrom kdtw_jax import preemption\n{script}"],
      cwd=ROOT,
      text=True,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
  ) as process:
    started = time.monotonic()
    for number in numbers:
      process.stdout.readline()
      process.send_signal(number)
    error = process.stderr.read()
    assert process.wait() is not None and time.monotonic() - started < 30
    return process.returncode, error


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_a_signal_outside_training_ends_at_once_with_the_status_of_shells(number):
  status, error = received(f"preemption.install(); {SLEEP}", number)
  assert status == 128 + number
  assert error == (f"{number.name}: ended at once; the same command goes on from what is saved\n")


def test_ctrl_c_ends_at_once_what_is_being_saved():
  status, error = received(f"preemption.install(){TRAIN}", signal.SIGTERM, signal.SIGINT)
  assert status == 130 and error.startswith("SIGINT: ended at once") and error.count("\n") == 1


def test_a_terminal_that_closes_sends_its_signal_twice_and_takes_no_output():
  script = f"import os; preemption.install(){TRAIN.replace('60', '1')}os.close(2)\n"
  script += "preemption.leave(signals.received, stage='toy', step=3)"
  status, error = received(script, signal.SIGHUP, signal.SIGHUP)
  assert (status, error) == (0, "")


def test_a_signal_that_the_parent_ignores_stays_ignored():
  script = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); preemption.install(); "
  script += "import os; os.kill(os.getpid(), signal.SIGHUP); "
  status, error = received(script + SLEEP, signal.SIGTERM)
  assert status == 143 and error.startswith("SIGTERM: ")
