"""Mistakes on the command line and in a config file end in one line, before JAX is loaded."""

import os
from pathlib import Path
import subprocess
import sys

import pytest

from kdtw_jax.config import command_line

ROOT = Path(__file__).parent.parent

OVERRIDES = [
    ("wheels.alfa=1", "config.wheels.alfa=1: unknown field; did you mean 'alpha'?"),
    ("whels.alpha=1", "config.whels.alpha=1: unknown field; did you mean 'wheels'?"),
    ("qqq=1", "config.qqq=1: unknown field; known: budgets, "),
    ("sft.steps=many", "config.sft.steps=many: must be a whole number"),
    ("sft.steps=1.5", "config.sft.steps=1.5: must be a whole number"),
    ("sft.steps=", "config.sft.steps=: must be a whole number"),
    ("sft.steps", "config.sft.steps: needs a value"),
    ("sft.learning_rate=fast", "config.sft.learning_rate=fast: must be a number"),
    ("sft=3", "config.sft=3: is a section, with the fields "),
    ("seed.x=3", "config.seed.x=3: config.seed has no fields"),
    ("student.model.value_heads=maybe", "value_heads=maybe: must be true or false"),
    ("budgets.seen=(0.1, 0.2", "config.budgets.seen=(0.1, 0.2: must be a tuple"),
    ("evaluation.dials.foo=(1,)", "--config.evaluation.dials=\"{'foo': (0.1, 0.3)}\""),
]


@pytest.mark.parametrize("override, said", OVERRIDES)
def test_an_override_that_cannot_be(override, said):
  argv = ["main", "--config", str(ROOT / "configs/multi30k.py"), f"--config.{override}"]
  assert said in command_line.explain(argv, ValueError("not this"))


FILES = [
    ("def get_config(:\n", ", line 1: invalid syntax: no Python"),
    ("x = 1\n", "defines no get_config(arg=None): write one"),
    ("def get_config(arg=None):\n  return {}\n", "get_config() gives a dict"),
    ("def get_config(arg=None):\n  pass\n", "get_config() gives a NoneType"),
    ("def get_config(arg=None):\n  raise ValueError('no such task')\n", ".py: no such task"),
    ("def get_config(arg=None):\n  return undefined\n", ", line 2: NameError: name 'undefined'"),
    ("import no_such_module\n", ", line 1: ModuleNotFoundError"),
    ("def get_config(arg=None):\n  return {}['a']\n", ", line 2: KeyError: 'a'"),
    (
        "from kdtw_jax.config import defaults\n\ndef get_config(arg=None):\n"
        "  defaults().sft.stepz = 3\n",
        ", line 4: AttributeError: ",
    ),
]


@pytest.mark.parametrize("content, said", FILES)
def test_a_config_file_that_cannot_be_read(tmp_path, content, said):
  path = tmp_path / "mine.py"
  path.write_text(content, "utf-8")
  message = command_line.explain(["main", f"--config={path}"], None)
  assert said in message and str(path) in message and "\n" not in message


# Lines of main's command line; without JAX, as all of these are refused before it is loaded.
DEMO = "--config=configs/demo.py:smoke"
COMMANDS = [
    ((DEMO, "--config.wheels.alfa=1", "--workdir=x"), "config.wheels.alfa=1: unknown field"),
    ((DEMO, "--config.sft.learning_rate=inf", "--workdir=x"), "config.sft.learning_rate=inf: must"),
    ((DEMO, "--workdir="), "--workdir=: is missing: name a folder"),
    ((DEMO,), "--workdir=: is missing: name a folder"),
    ((DEMO, "--wrkdir=x"), "Did you mean: workdir"),
    ((DEMO, "foo", "--workdir=x"), "'foo' is no flag"),
    (("--config=nowhere.py", "--workdir=x"), "nowhere.py is no file: name a config file"),
    (("--config=configs", "--workdir=x"), "configs is a folder: name a config file"),
    (("--workdir=x",), "--config: is missing: name a config file"),
    (("--config.seed=1", DEMO, "--workdir=x"), "--config.seed: must stand after --config=FILE"),
    (("--config=configs/demo.py:tiny", "--workdir=x"), "'tiny' is unknown or said twice"),
]


def command(*flags):
  return subprocess.run(
      [sys.executable, "-m", "kdtw_jax.main", *flags],
      cwd=ROOT,
      env={**os.environ, "PYTHONPATH": str(ROOT)},
      text=True,
      capture_output=True,
      timeout=60,
      check=False,
  )


@pytest.mark.parametrize("flags, said", COMMANDS)
def test_a_command_line_that_cannot_be(flags, said):
  done = command(*flags)
  assert done.returncode in (1, 2)
  line = done.stderr.strip()
  assert line.startswith("error: ") and said in line and "\n" not in line


def test_debug_shows_where_and_help_helps():
  shown = command(DEMO, "--config.wheels.alfa=1", "--workdir=x", "--debug")
  assert "Traceback" in shown.stderr and "alfa" in shown.stderr
  told = command("--help")
  assert "--workdir: Folder of the run" in told.stdout and "Traceback" not in told.stderr
