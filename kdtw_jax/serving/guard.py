"""Who may come in, and how much they may bring: a middleware around all pages."""

import asyncio
import dataclasses
import hmac
from typing import Any

from fastapi import responses
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kdtw_jax.serving import protocol

_OPEN = ("/health",)  # pages for which nobody needs a token


@dataclasses.dataclass(frozen=True)
class Limits:
  """What a body may take.

  Attributes:
    body: most bytes.
    seconds: most time until all of it has come.
  """

  body: int = 64 * 1024
  seconds: float = 20.0


class _RefusedError(Exception):
  """A body that is too large or too slow."""

  def __init__(self, status: int, message: str):
    super().__init__(message)
    self.status = status


class Guard:
  """Refuses clients without the token, and bodies that are too large or too slow."""

  def __init__(self, app: ASGIApp, *, limits: Limits, token: str | None):
    """Takes the pages, the limits, and the token; None lets everybody in."""
    self._app, self._limits = app, limits
    self._expected = None if token is None else f"Bearer {token}".encode()

  async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
    """Serves a request, or refuses it."""
    if scope["type"] != "http":
      await self._app(scope, receive, send)
      return
    if not self._knows(scope):
      answer = _refusal(401, "a token is needed: send the header Authorization: Bearer TOKEN")
      await answer(scope, receive, send)
      return
    try:
      body = await self._body(scope, receive)
    except _RefusedError as error:
      await _refusal(error.status, str(error))(scope, receive, send)
      return
    if body is None:
      return  # the client has gone
    await self._app(scope, _replayed(body, receive), send)

  def _knows(self, scope: Scope) -> bool:
    if self._expected is None or scope["path"] in _OPEN:
      return True
    shown = [value for name, value in scope["headers"] if name == b"authorization"]
    return len(shown) == 1 and hmac.compare_digest(shown[0], self._expected)

  async def _body(self, scope: Scope, receive: Receive) -> bytes | None:
    """Reads the whole body before any page sees it; None if the client goes meanwhile.

    Raises:
      _RefusedError: if it is too large or too slow.
    """
    limits, body, more = self._limits, b"", True
    message = f"the body has more than {limits.body:,} bytes: send fewer or shorter texts"
    stated = dict(scope["headers"]).get(b"content-length", b"0")
    if not stated.isdigit() or int(stated) > limits.body:
      raise _RefusedError(413, message)
    try:
      async with asyncio.timeout(limits.seconds):
        while more:
          part = await receive()
          if part["type"] == "http.disconnect":
            return None
          body, more = body + part.get("body", b""), part.get("more_body", False)
          if len(body) > limits.body:
            raise _RefusedError(413, message)
    except TimeoutError:
      said = f"the body took more than {limits.seconds:g} seconds to come: send it again"
      raise _RefusedError(408, said) from None
    return body


def _replayed(body: bytes, receive: Receive) -> Receive:
  """Returns what gives a body that was read already, then what comes after it."""
  given: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

  async def replay() -> Message:
    return given.pop() if given else await receive()

  return replay


def _refusal(status: int, message: str) -> responses.JSONResponse:
  headers: dict[str, Any] = {"connection": "close"}
  if status == 401:
    headers["www-authenticate"] = "Bearer"
  return responses.JSONResponse(
      protocol.problem(message, "invalid_request_error"), status, headers=headers
  )
