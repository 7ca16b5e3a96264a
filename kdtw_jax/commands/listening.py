"""What the commands that serve share: address, secret, engine, and the server's life."""

import argparse
from collections.abc import Callable, Iterator
import contextlib
import ipaddress
import os
import socket
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console

from kdtw_jax.commands import spending

if TYPE_CHECKING:  # these load jax
  from kdtw_jax.orders import Order
  from kdtw_jax.pair import Pair
  from kdtw_jax.serving.engine import Engine

_TOKEN = "KDTW_TOKEN"
# Without a secret, pages of other sites in a browser here may not pass for pages of ours.
_LOOPBACK = ["localhost", "127.0.0.1", "[::1]"]


class Pages(NamedTuple):
  """What a command serves.

  Attributes:
    app: the ASGI application.
    orders: one of each kind that is compiled before anybody comes.
    path: the page to begin with.
    patience: seconds in which open connections may end.
  """

  app: Any
  orders: list["Order"]
  path: str
  patience: int = 30


def add_arguments(parser: argparse.ArgumentParser, *, port: int, kinds: int) -> None:
  """Adds the arguments of all commands that serve."""
  parser.add_argument("--pair", required=True, metavar="DIR", help=spending.PAIR_HELP)
  parser.add_argument("--host", default="127.0.0.1", help="address to listen on (this machine)")
  parser.add_argument("--port", type=int, default=port, help=f"0 takes a free one ({port})")
  parser.add_argument("--slots", type=int, default=16, help="texts written at a time (16)")
  parser.add_argument("--waiting", type=int, default=256, help="texts that may wait (256)")
  parser.add_argument(
      "--kinds", type=int, default=kinds, help=f"kinds of policies and forms at a time ({kinds})"
  )


@contextlib.contextmanager
def extra(name: str) -> Iterator[None]:
  """Names the extra that has a library which cannot be imported."""
  try:
    yield
  except ImportError as error:
    raise ValueError(f"{error.name} is missing: pip install 'kdtw_jax[{name}]'") from error


def secret(host: str) -> str | None:
  """Returns what clients must show; raises ValueError if that is nothing and others could come."""
  found = os.environ.get(_TOKEN) or None
  if found is None and not _is_loopback(host):
    raise ValueError(
        f"--host={host}: others could use this server: set {_TOKEN} to a secret that clients "
        "must show, or leave out --host"
    )
  return found


def check(args: argparse.Namespace, *fields: str) -> None:
  """Raises ValueError if a number is below 1."""
  for field in fields:
    if getattr(args, field) < 1:
      raise ValueError(f"--{field}={getattr(args, field)}: must be >= 1")


def serve(args: argparse.Namespace, make_pages: Callable[["Pair", "Engine"], Pages]) -> None:
  """Serves until it is told to stop, then finishes what it has."""
  with extra(args.command):
    from starlette.middleware import trustedhost
    import uvicorn
  from kdtw_jax import devices, pair
  from kdtw_jax.serving import engine

  spending.quiet()
  devices.keep_programs()
  hosts = _LOOPBACK if secret(args.host) is None else ["*"]
  console = Console(stderr=True)
  with _listen(args.host, args.port) as listening:  # before what takes long, if it is taken
    trained = pair.load_pair(args.pair)
    settings = engine.Settings(slots=args.slots, waiting=args.waiting, kinds=args.kinds)
    writing = engine.Engine(trained, settings)
    pages = make_pages(trained, writing)
    writing.start()
    try:
      with console.status("compiling"):
        for order in pages.orders:
          writing.warm(order)
      host, port = listening.getsockname()[:2]
      host = f"[{host}]" if ":" in host else host
      name = trained.config["name"]
      console.print(f"{name} on http://{host}:{port}{pages.path}; Ctrl-C ends", highlight=False)
      config = uvicorn.Config(
          trustedhost.TrustedHostMiddleware(pages.app, hosts, www_redirect=False),
          log_level="warning",
          timeout_keep_alive=30,
          timeout_graceful_shutdown=pages.patience,
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
