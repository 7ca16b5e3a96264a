"""The doorway of the page: a browser may load from this server alone, and only what the page needs.

Gradio has pages for files, other servers and other apps, too; they are not reached.
"""

from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_PAGES = {"/", "/config", "/favicon.ico", "/login", "/manifest.json", "/robots.txt", "/theme.css"}
_FOLDERS = ("/assets/", "/static/", "/gradio_api/queue/")  # no heartbeat: it would not end
_CALLS = {f"/gradio_api/{name}" for name in ("app_id", "cancel", "info", "login_check", "reset")}
_CALLS |= {"/gradio_api/startup-events"}
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)


class Doorway:
  """Hides the pages that are not needed, and forbids browsers to fetch from elsewhere."""

  def __init__(self, app: ASGIApp):
    """Takes the pages."""
    self._app = app

  async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
    """Serves a request."""
    if scope["type"] != "http":
      await self._app(scope, receive, send)
      return
    path = scope["path"]
    if not (path in _PAGES or path in _CALLS or path.startswith(_FOLDERS)):
      await PlainTextResponse("there is no such page", 404)(scope, receive, send)
      return

    async def guarded(message: Message) -> None:
      if message["type"] == "http.response.start":
        headers = MutableHeaders(scope=message)
        headers["content-security-policy"] = _POLICY
        headers["referrer-policy"] = "no-referrer"
        headers["x-content-type-options"] = "nosniff"
      await send(message)

    await self._app(scope, receive, guarded)
