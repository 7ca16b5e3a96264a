"""`kdtw serve`: a pair behind HTTP, in the format of OpenAI's completions."""

import argparse
import ipaddress
import os
import socket

from rich.console import Console

from kdtw_jax.commands import spending

SUMMARY = "serve a pair over HTTP, as OpenAI's completions, to many clients at a time"
EXAMPLES = """\
  kdtw serve --pair=runs/demo --budget=0.2
  curl localhost:8000/v1/completions -H 'content-type: application/json' \\
      -d '{"prompt": "Thank you.", "budget": "at most 2 calls", "stream": true}'
Pages: /v1/completions, /v1/models, /health, /metrics (Prometheus). A request may have a budget, a
form and a policy of its own, as in pair.write. If the environment has KDTW_TOKEN, clients must show
it as a bearer token; if not, only this machine is served. Needs pip install 'kdtw_jax[serve]'."""
_TOKEN = "KDTW_TOKEN"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Adds the command's arguments."""
  parser.add_argument("--pair", required=True, metavar="DIR", help="workdir of a run, or its pair/")
  parser.add_argument("--host", default="127.0.0.1", help="address to listen on (this machine)")
  parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (8000)")
  parser.add_argument(
      "--budget", type=spending.read_budget, help="of requests that state none: 0.2, words, calls"
  )
  parser.add_argument("--model", help="name of the pair in answers (its config's)")
  parser.add_argument("--slots", type=int, default=16, help="texts written at a time (16)")
  parser.add_argument("--waiting", type=int, default=256, help="texts that may wait (256)")
  parser.add_argument(
      "--kinds", type=int, default=12, help="kinds of policies and forms at a time (12)"
  )
  parser.add_argument("--body", type=int, default=64, help="largest body in KiB (64)")


def run(args: argparse.Namespace) -> None:
  """Serves until it is told to stop, then finishes what it has."""
  for field in ("slots", "waiting", "kinds", "body"):
    if getattr(args, field) < 1:
      raise ValueError(f"--{field}={getattr(args, field)}: must be >= 1")
  token = os.environ.get(_TOKEN) or None
  if token is None and not _is_loopback(args.host):
    raise ValueError(
        f"--host={args.host}: others could use this server: set {_TOKEN} to a secret that clients "
        "must show, or leave out --host"
    )
  try:
    import uvicorn

    from kdtw_jax.serving import app, engine, guard
  except ImportError as error:
    raise ValueError(f"{error.name} is missing: pip install 'kdtw_jax[serve]'") from error
  from kdtw_jax import devices, pair

  spending.quiet()
  devices.keep_programs()
  console = Console(stderr=True)
  with _listen(args.host, args.port) as listening:  # before what takes long, if it is taken
    trained = pair.load_pair(args.pair)
    settings = engine.Settings(slots=args.slots, waiting=args.waiting, kinds=args.kinds)
    writing = engine.Engine(trained, settings)
    usual = writing.order(0 if args.budget is None else args.budget, "share", None)
    model = args.model or trained.config["name"]
    pages = app.make_app(
        writing,
        model=model,
        budget=args.budget,
        limits=guard.Limits(body=1024 * args.body),
        token=token,
    )
    writing.start()
    try:
      with console.status("compiling"):
        writing.warm(usual)
      host, port = listening.getsockname()[:2]
      console.print(f"{model} on http://{host}:{port}/v1/completions; Ctrl-C ends", highlight=False)
      config = uvicorn.Config(
          pages, log_level="warning", timeout_keep_alive=30, timeout_graceful_shutdown=30
      )
      uvicorn.Server(config).run(sockets=[listening])
    finally:
      writing.close()


def _is_loopback(host: str) -> bool:
  if host == "localhost":
    return True
  try:
    return ipaddress.ip_address(host).is_loopback
  except ValueError:
    return False


def _listen(host: str, port: int) -> socket.socket:
  """Opens the port; raises ValueError if it is taken."""
  family = socket.AF_INET6 if ":" in host else socket.AF_INET
  listening = socket.socket(family)
  listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
  try:
    listening.bind((host, port))
  except (OSError, OverflowError) as error:
    listening.close()
    raise ValueError(f"--port={port}: cannot listen on {host} ({error}): give another") from error
  return listening
