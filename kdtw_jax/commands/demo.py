"""`kdtw demo`: a page on which people write with a pair, and see what help costs."""

import argparse
import os
from typing import TYPE_CHECKING

from kdtw_jax.commands import listening

if TYPE_CHECKING:  # both load jax
  from kdtw_jax.pair import Pair
  from kdtw_jax.serving.engine import Engine

SUMMARY = "open a page on which people write with a pair, within a budget, and compare methods"
EXAMPLES = """\
  kdtw demo --pair=runs/demo
  kdtw demo --pair=runs/demo --port=0 --slots=50
  KDTW_TOKEN=secret kdtw demo --pair=runs/demo --host=0.0.0.0
All people share one engine, and each text has a slot of its own; --slots=1 gives the times of one
text at a time. If the environment has KDTW_TOKEN, people log in with any name and it as password;
if not, only this machine is served. Nothing is fetched from elsewhere, nor sent there. Needs
pip install 'kdtw_jax[demo]'."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Adds the command's arguments."""
  listening.add_arguments(parser, port=7860, kinds=16)


def run(args: argparse.Namespace) -> None:
  """Serves the page until it is told to stop."""
  listening.check(args, "slots", "waiting", "kinds")
  token = listening.secret(args.host)
  os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when it is imported
  with listening.extra("demo"):
    from kdtw_jax.demo import methods, page

  def pages(trained: "Pair", engine: "Engine") -> listening.Pages:
    share = methods.largest(trained)
    first = [methods.order(engine, name, share, "share") for name in methods.offered(trained)]
    return listening.Pages(page.make_app(trained, engine, token=token), first, "/", patience=3)

  listening.serve(args, pages)
