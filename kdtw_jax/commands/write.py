"""`kdtw write`: texts from the standard input, one per line, to outputs on the standard output."""

import argparse
from collections.abc import Iterator
import contextlib
import os
import stat
import sys
from typing import BinaryIO, TextIO

from rich.console import Console
from rich.progress import track

from kdtw_jax.commands import spending

SUMMARY = "write an output for every line of the standard input, within a budget"
EXAMPLES = """\
  kdtw write --pair=runs/demo --budget=0.2 < in.txt > out.txt
  kdtw write --pair=runs/demo --budget="at most 3 calls" --costs=costs.jsonl < in.txt > out.txt
  kdtw write --pair=runs/demo --budget=0.1 --policy=worth --form=ledger < in.txt > out.txt
  kdtw write --pair=runs/demo --policy=speculative:4 < in.txt > out.txt
A blank line stays blank. --costs has a JSON line for each text: its calls, the seconds of its
batch, and who wrote which token. Compiled programs are kept in ~/.cache/kdtw_jax (or in
JAX_COMPILATION_CACHE_DIR), so that the next run starts sooner."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Adds the command's arguments."""
  parser.add_argument("--pair", required=True, metavar="DIR", help=spending.PAIR_HELP)
  parser.add_argument(
      "--budget",
      type=spending.read_budget,
      help="0.2, '20%%', an instruction, calls in words; see pair.write",
  )
  parser.add_argument(
      "--form", default="share", help="what the budget promises: share, paced, hard, prefix, ..."
  )
  parser.add_argument(
      "--policy", metavar="NAME[:DIAL]", help="who decides: 'worth', or any policy with its dial"
  )
  parser.add_argument("--costs", metavar="FILE", help="JSON lines, one per text")
  parser.add_argument("--batch", type=int, default=16, help="texts that decode together (16)")
  parser.add_argument(
      "--window", type=int, help="texts read ahead and sorted by length (64 batches; terminal: 1)"
  )
  parser.add_argument(
      "--cut", action="store_true", help="read the beginning of texts that are too long"
  )


def run(args: argparse.Namespace) -> None:
  """Writes all outputs; a ValueError says how many lines are written before it."""
  from kdtw_jax import data, devices, orders, pair, reader  # only now, so that help is quick

  spending.quiet()
  devices.keep_programs()
  console, by_hand = Console(stderr=True), sys.stdin.isatty()
  policy = orders.read_policy(args.policy)
  trained = pair.load_pair(args.pair)
  written = trained.write_stream(
      data.lines_of(sys.stdin.buffer, "standard input"),
      args.budget,
      form=args.form,
      policy=policy,
      batch=args.batch,
      window=1 if by_hand and args.window is None else args.window,
      cut=args.cut,
  )
  if by_hand:
    console.print("one text on each line; Ctrl-D ends")
  hidden = by_hand or not console.is_terminal
  total = None if hidden else _count_lines(sys.stdin.buffer)
  tally = spending.Tally()
  try:
    with _opened(args.costs) as costs:
      for out in track(written, "write", total=total, console=console, disable=hidden):
        tally.add(out)
        sys.stdout.buffer.write(spending.line_of(out).encode())
        if by_hand:
          sys.stdout.flush()
        if costs:
          costs.write(spending.cost_line(tally.texts, out))
  except reader.TextError as error:
    raise tally.stopped(f"line {error.number + 1}: {error.problem}, or give --cut") from error
  except ValueError as error:
    raise tally.stopped(str(error)) from error
  finally:
    sys.stdout.flush()
  console.print(tally.summary(), highlight=False, soft_wrap=True)


@contextlib.contextmanager
def _opened(path: str | None) -> Iterator[TextIO | None]:
  """Opens the file of costs, if one is wanted."""
  if path is None:
    yield None
    return
  with open(path, "w", encoding="utf-8") as file:
    yield file


def _count_lines(file: BinaryIO) -> int | None:
  """Counts the lines of a regular file for the progress bar; None for a pipe."""
  if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
    return None
  start = file.tell()
  count = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
  file.seek(start)
  return count
