"""The server's pages: completions, models, health, figures.

Not here: writing (engine.py, job.py), the format of bodies (protocol.py), who comes in (guard.py).
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
import contextlib
import json
import time
from typing import Any
import uuid

import fastapi
from fastapi import responses
import pydantic

from kdtw_jax.live import Piece
from kdtw_jax.orders import Order, read_policy
from kdtw_jax.serving import protocol
from kdtw_jax.serving.engine import BusyError, Engine
from kdtw_jax.serving.figures import Figures
from kdtw_jax.serving.guard import Guard, Limits
from kdtw_jax.serving.job import Job
from kdtw_jax.serving.lane import End, StoppedError

_EVENTS = {"cache-control": "no-cache", "x-accel-buffering": "no"}  # not kept back by proxies


class Desk:
  """Takes requests to the engine and brings back what it writes."""

  def __init__(self, engine: Engine, model: str, budget: int | float | str | None):
    """Takes the engine, the pair's name, and the budget of requests that have none."""
    self.engine, self.model, self._budget = engine, model, budget
    self.figures = Figures(engine)

  def order(self, body: protocol.CompletionRequest) -> Order:
    """Reads what a request asks for; raises ValueError if that is not served."""
    policy = read_policy(body.policy)
    budget = body.budget
    if budget is None and policy in (None, "worth"):
      budget = self._budget
    return self.engine.order(budget, body.form, policy)

  def submit(self, body: protocol.CompletionRequest) -> Job:
    """Gives all texts of a request to the engine, or none; errors as in `Engine.submit`."""
    texts = body.texts()
    try:
      return Job(self.engine, texts, self.order(body), most=body.max_tokens)
    except (ValueError, BusyError, StoppedError):
      self.figures.ended("refused", len(texts))
      raise

  async def events(self, job: Job) -> AsyncGenerator[tuple[int, list[Piece] | End], None]:
    """Iterates over what is written, and counts it.

    Raises:
      StoppedError: if the engine has stopped.
    """
    begun, how = set(), "gone"
    try:
      async with contextlib.aclosing(job.events()) as events:
        async for number, event in events:
          seconds = job.seconds
          if number not in begun:
            begun.add(number)
            self.figures.began(seconds)
          if isinstance(event, End):
            self.figures.finished(event, seconds)
          yield number, event
    except StoppedError:
      how = "failed"
      raise
    finally:
      if job.left:
        self.figures.ended(how, job.left)


def make_app(
    engine: Engine,
    *,
    model: str,
    budget: int | float | str | None = None,
    limits: Limits | None = None,
    token: str | None = None,
) -> fastapi.FastAPI:
  """Makes the server's pages.

  Args:
    engine: writes; is started and closed by others.
    model: the name of the pair.
    budget: of requests that state none; None refuses them.
    limits: of bodies.
    token: what clients must show; None lets everybody in.
  """
  desk, started = Desk(engine, model, budget), int(time.time())
  app = fastapi.FastAPI(title="kdtw_jax", docs_url=None, redoc_url=None, openapi_url=None)
  app.add_middleware(Guard, limits=limits or Limits(), token=token)
  _answer_errors(app)

  @app.get("/health")
  def health() -> responses.JSONResponse:
    state = "ok" if engine.alive else "stopped"
    return responses.JSONResponse({"status": state}, 200 if engine.alive else 503)

  @app.get("/metrics")
  def metrics() -> responses.Response:
    page, kind = desk.figures.page()
    return responses.Response(page, media_type=kind)

  @app.get("/v1/models")
  def models() -> dict[str, Any]:
    entry = {"id": model, "object": "model", "created": started, "owned_by": "kdtw_jax"}
    return {"object": "list", "data": [entry]}

  @app.post("/v1/completions")
  async def completions(request: fastapi.Request) -> responses.Response:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # which pages of other origins may not send unasked
      message = f"content-type={kind[:80]!r}: must be application/json"
      return responses.JSONResponse(protocol.problem(message, "invalid_request_error"), 415)
    body = protocol.CompletionRequest.model_validate_json(await request.body())
    if body.model not in (None, model):
      message = f"model={body.model[:80]!r}: this server has {model!r}"
      desk.figures.ended("refused", len(body.texts()))
      found = protocol.problem(message, "invalid_request_error", field="model")
      return responses.JSONResponse(found, 404)
    job = desk.submit(body)
    answer = {
        "id": f"cmpl-{uuid.uuid4().hex}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": model,
    }
    if body.stream:
      events = _stream(desk, job, answer, body.stream_options)
      return responses.StreamingResponse(events, media_type="text/event-stream", headers=_EVENTS)
    return await _whole(desk, job, answer, request)

  return app


async def _whole(
    desk: Desk, job: Job, answer: dict[str, Any], request: fastapi.Request
) -> responses.Response:
  """Waits for all outputs of a request, unless its client goes."""

  async def collect() -> dict[int, End]:
    found = {}
    async with contextlib.aclosing(desk.events(job)) as events:
      async for number, event in events:
        if isinstance(event, End):
          found[number] = event
    return found

  async def gone() -> None:
    while (await request.receive())["type"] != "http.disconnect":
      pass

  writing, leaving = asyncio.create_task(collect()), asyncio.create_task(gone())
  try:
    await asyncio.wait({writing, leaving}, return_when=asyncio.FIRST_COMPLETED)
  finally:
    leaving.cancel()
    if not writing.done():
      writing.cancel()
  if writing.cancelled() or not writing.done():
    return responses.Response(status_code=499)  # nobody reads it
  ends = writing.result()
  choices = [
      protocol.choice(number, ends[number].written.text, end=ends[number])
      for number in sorted(ends)
  ]
  return responses.JSONResponse(
      answer | {"choices": choices, "usage": protocol.usage(ends.values(), job.seconds)}
  )


async def _stream(
    desk: Desk, job: Job, answer: dict[str, Any], options: protocol.StreamOptions | None
) -> AsyncIterator[str]:
  """Sends the pieces of all outputs of a request as server-sent events."""
  ends: list[End] = []
  try:
    async with contextlib.aclosing(desk.events(job)) as events:
      async for number, event in events:
        if isinstance(event, End):
          ends.append(event)
          yield _event(answer | {"choices": [protocol.choice(number, "", end=event)]})
          continue
        for piece in event:
          found = protocol.choice(number, piece.text, by_teacher=piece.by_teacher)
          yield _event(answer | {"choices": [found]})
    if options and options.include_usage:
      yield _event(answer | {"choices": [], "usage": protocol.usage(ends, job.seconds)})
    yield "data: [DONE]\n\n"
  except StoppedError as error:
    yield _event(protocol.problem(str(error), "server_error"))


def _event(data: dict[str, Any]) -> str:
  return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"


def _answer_errors(app: fastapi.FastAPI) -> None:
  """Turns errors into answers that say what to do."""

  def answering(kind: type[Exception], status: int, name: str, headers: dict | None = None) -> None:
    def answer(request: fastapi.Request, error: Exception) -> responses.JSONResponse:
      return responses.JSONResponse(
          protocol.problem(_said(error), name, field=_field(error)), status, headers=headers
      )

    app.add_exception_handler(kind, answer)

  answering(ValueError, 400, "invalid_request_error")
  answering(pydantic.ValidationError, 400, "invalid_request_error")
  answering(BusyError, 429, "rate_limit_error", {"retry-after": "1"})
  answering(StoppedError, 503, "server_error")


def _said(error: Exception) -> str:
  """Returns what an error says, the first fault alone for a body."""
  if not isinstance(error, pydantic.ValidationError):
    return str(error)
  first = error.errors(include_url=False, include_context=False)[0]
  return f"{_field(error) or 'body'}: {first['msg']}"


def _field(error: Exception) -> str | None:
  """Returns the field of a body that is at fault."""
  if not isinstance(error, pydantic.ValidationError):
    return None
  return ".".join(map(str, error.errors(include_url=False)[0]["loc"])) or None
