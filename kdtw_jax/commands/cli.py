"""Parses `kdtw COMMAND ...` and runs the command; an error of a user ends in one line.

A command is a module with SUMMARY, EXAMPLES, `add_arguments(parser)` and `run(args)`. Only `run`
imports jax, so that help and typos are quick.
"""

import argparse
from collections.abc import Sequence
import signal
import sys

from kdtw_jax import main as training
from kdtw_jax.commands import demo, evaluate, export, report, serve, write
from kdtw_jax.config import command_line
from kdtw_jax.files import flush_or_drop

COMMANDS = {
    "write": write,
    "evaluate": evaluate,
    "report": report,
    "export": export,
    "serve": serve,
    "demo": demo,
}
_TRAIN = "train and evaluate a pair: python -m kdtw_jax.main"


def make_parser() -> argparse.ArgumentParser:
  """Makes the parser of all commands."""
  parser = argparse.ArgumentParser(prog="kdtw", description="Students that ask their teacher.")
  parser.add_argument("--debug", action="store_true", help="show the traceback of a user error")
  commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
  commands.add_parser("train", help=_TRAIN, add_help=False)
  for name, command in COMMANDS.items():
    commands.add_parser(
        name,
        help=command.SUMMARY,
        description=command.SUMMARY,
        epilog=f"examples:\n{command.EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_arguments(commands.choices[name])
  return parser


def main(argv: Sequence[str] | None = None) -> None:
  """Runs one command; exits with a status other than 0 if it fails."""
  argv = list(sys.argv[1:] if argv is None else argv)
  if argv[:1] == ["train"]:
    sys.argv = ["kdtw train", *argv[1:]]
    training.cli()
  args = make_parser().parse_args(argv)
  try:
    COMMANDS[args.command].run(args)
  except BrokenPipeError:  # as `| head` ends
    flush_or_drop(sys.stdout)
    sys.exit(128 + signal.SIGPIPE)
  except KeyboardInterrupt:
    sys.exit(128 + signal.SIGINT)
  except (ValueError, OSError) as error:
    if args.debug:
      raise
    flush_or_drop(sys.stdout)
    sys.exit(f"error: {command_line.one_line(error)}")
