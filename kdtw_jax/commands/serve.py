"""`kdtw serve`: a pair behind HTTP, in the format of OpenAI's completions."""

import argparse
from typing import TYPE_CHECKING

from kdtw_jax.commands import listening, spending

if TYPE_CHECKING:  # both load jax
  from kdtw_jax.pair import Pair
  from kdtw_jax.serving.engine import Engine

SUMMARY = "serve a pair over HTTP, as OpenAI's completions, to many clients at a time"
EXAMPLES = """\
  kdtw serve --pair=runs/demo --budget=0.2
  curl localhost:8000/v1/completions -H 'content-type: application/json' \\
      -d '{"prompt": "Thank you.", "budget": "at most 2 calls", "stream": true}'
Pages: /v1/completions, /v1/models, /health, /metrics (Prometheus). A request may have a budget, a
form and a policy of its own, as in pair.write. If the environment has KDTW_TOKEN, clients must show
it as a bearer token; if not, only this machine is served. Needs pip install 'kdtw_jax[serve]'."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Adds the command's arguments."""
  listening.add_arguments(parser, port=8000, kinds=12)
  parser.add_argument(
      "--budget", type=spending.read_budget, help="of requests that state none: 0.2, words, calls"
  )
  parser.add_argument("--model", help="name of the pair in answers (its config's)")
  parser.add_argument("--body", type=int, default=64, help="largest body in KiB (64)")


def run(args: argparse.Namespace) -> None:
  """Serves until it is told to stop, then finishes what it has."""
  listening.check(args, "slots", "waiting", "kinds", "body")
  token = listening.secret(args.host)
  with listening.extra("serve"):
    from kdtw_jax.serving import app, guard

  def pages(trained: "Pair", engine: "Engine") -> listening.Pages:
    usual = engine.order(0 if args.budget is None else args.budget, "share", None)
    made = app.make_app(
        engine,
        model=args.model or trained.config["name"],
        budget=args.budget,
        limits=guard.Limits(body=1024 * args.body),
        token=token,
    )
    return listening.Pages(made, [usual], "/v1/completions")

  listening.serve(args, pages)
