"""An app of the server or the demo page, on a free port of this machine."""

from collections.abc import Iterator
import contextlib
import socket
import threading

import uvicorn


@contextlib.contextmanager
def served(app, engine) -> Iterator[str]:
  """Serves an app with its engine, and gives its address; both have ended after it."""
  engine.start()
  listening = socket.create_server(("127.0.0.1", 0))
  server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
  thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
  thread.start()
  try:
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
  finally:
    server.should_exit = True
    thread.join(30)
    engine.close()
    listening.close()
