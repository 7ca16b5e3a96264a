"""What a user sees of a run: one line that is redrawn on a terminal, lines of a log elsewhere."""

import io
import re

import pytest
from rich.console import Console

from kdtw_jax import terminal
from kdtw_jax.terminal import Bar, StageProgress


@pytest.fixture
def clock(monkeypatch):
  """A clock that the test sets, in seconds."""
  now = [100.0]
  monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
  return now


def console(*, is_terminal):
  return Console(file=io.StringIO(), force_terminal=is_terminal, width=120, _environ={})


def shown(found):
  """The lines that stay on a terminal, as text."""
  lines = found.file.getvalue().split("\n")
  last = [re.split(r"\r\x1b\[2K", line)[-1] for line in lines]
  return [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "", line).rstrip() for line in last]


def test_a_terminal_has_one_line_that_ends_with_the_last_state():
  found = console(is_terminal=True)
  with Bar("evaluation", console=found) as bar:
    bar.expect(4)
    for note in ("one", "two", "three"):
      bar.say(note)
      bar.advance()
    bar.advance()
  lines = [line for line in shown(found) if line]
  assert len(lines) == 1
  assert re.fullmatch(r"evaluation +━+ 4/4 ETA 0:00:00 three", lines[0])


def test_elsewhere_each_note_is_a_line_with_the_time_that_is_left(clock):
  found = console(is_terminal=False)
  with Bar("evaluation", total=8, done=2, console=found) as bar:
    bar.say("alone")
    clock[0] += 40.0
    bar.advance(2)
    bar.say("Handover, [paced]")
    clock[0] += 50.0
    bar.advance()
    bar.advance()
  assert found.file.getvalue().splitlines() == [
      "evaluation    2/8  ETA -:--  alone",
      "evaluation    4/8  ETA 1:20  Handover, [paced]",  # 4 more at 20 s each
  ]


def test_log_points_that_are_minutes_apart_have_an_eta_on_a_terminal(clock):
  found = console(is_terminal=True)
  found.get_time = lambda: clock[0]
  with Bar("teacher", total=10, console=found) as bar:
    for _ in range(3):
      clock[0] += 120.0
      bar.advance(2)
    bar.say("so far")
  assert re.fullmatch(r"teacher +━+\S* *6/10 ETA 0:04:00 so far", shown(found)[0])


@pytest.mark.parametrize("is_terminal", [True, False])
def test_steps_come_as_they_are(is_terminal, monkeypatch):
  found = console(is_terminal=is_terminal)
  monkeypatch.setattr(terminal, "Console", lambda quiet: found)
  assert list(terminal.tracked(range(3, 9, 2), "paces")) == [3, 5, 7]
  assert list(terminal.tracked(range(1), "alone")) == [0]
  (line,) = [line for line in shown(found) if line]
  assert re.fullmatch(r"paces +(━+ 3/3 ETA 0:00:00|3 steps)", line) and "alone" not in line


def test_a_stage_shows_its_loss_and_its_speed_since_it_began_anew(clock, tmp_path):
  found = console(is_terminal=False)
  with StageProgress("sft", first_step=4, steps=8, folder=tmp_path, console=found) as progress:
    clock[0] += 2.0
    progress.log(6, {"loss": 1.5}, tokens=100)
    clock[0] += 2.0
    progress.log(8, {"loss": 1.25}, tokens=300)
  assert found.file.getvalue().splitlines() == [
      "sft           6/8  ETA 0:02  50 tok/s  loss 1.500",
      "sft           8/8  ETA 0:00  100 tok/s  loss 1.250",
  ]


class Gone(io.StringIO):
  """A terminal that has been closed."""

  def write(self, text):
    raise OSError(5, "Input/output error")


def test_a_terminal_that_is_gone_stops_nothing(tmp_path):
  for is_terminal in (True, False):
    found = Console(file=Gone(), force_terminal=is_terminal, width=80, _environ={})
    progress = StageProgress("sft", first_step=0, steps=2, folder=tmp_path, console=found)
    progress.log(1, {"loss": 1.0}, tokens=3)
    progress.log(2, {"loss": 1.0}, tokens=3)
    progress.__exit__()
  assert terminal.read_log(tmp_path)["step"] == (1.0, 2.0)


def test_of_several_processes_the_first_speaks(monkeypatch, capsys):
  terminal.print_line("stage", "said")
  monkeypatch.setattr(terminal.processes, "is_first", lambda: False)
  terminal.print_line("stage", "not said")
  assert capsys.readouterr().out == "stage         said\n"
