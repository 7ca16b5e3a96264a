"""The code on the card of an exported student, run as a reader of the card runs it."""

import contextlib
import io
import re

from kdtw_jax.commands import cli


def output(pair_folder, out, text):
  """Exports the pair's student to `out`, and gives what the card's code prints for a text."""
  with contextlib.redirect_stdout(io.StringIO()):
    cli.main(["export", f"--pair={pair_folder}", f"--out={out}"])
  return run(code((out / "README.md").read_text(encoding="utf-8")), out, text)


def code(card):
  """The first block of Python on a card."""
  return re.search(r"^```python\n(.*?)^```", card, re.DOTALL | re.MULTILINE)[1]


def run(code, out, text):
  """Runs a card's code on a text; gives what it prints, without space around it."""
  said = io.StringIO()
  with contextlib.redirect_stdout(said):
    exec(code.replace("FOLDER", str(out)).replace("YOUR TEXT", text), {})
  return said.getvalue().strip()
