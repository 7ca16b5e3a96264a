"""Latency and throughput of a running server under load: many clients against one at a time.

    kdtw serve --pair=runs/demo --budget=0.2 &
    python -m benchmarks.serve --address=http://127.0.0.1:8000 --texts=in.txt --out=FILE.json

Each client sends one text after another, as a stream, and notes when the first piece and the end of
its output came. `same` says whether every output is that of the first number of clients, usually
one alone. The server and the clients share the machine.
"""

import asyncio
import json
import logging
import platform
import time

from absl import app, flags
import httpx
import numpy as np
from rich.console import Console
from rich.table import Table

from kdtw_jax.data.lines import read_lines
from kdtw_jax.files import write_json

_ADDRESS = flags.DEFINE_string("address", "http://127.0.0.1:8000", "The server")
_TEXTS = flags.DEFINE_string("texts", None, "File of texts, one per line", required=True)
_CLIENTS = flags.DEFINE_list("clients", ["1", "8", "32", "200"], "Numbers of clients at a time")
_REQUESTS = flags.DEFINE_integer("requests", 400, "Requests of each measurement")
_LINES = flags.DEFINE_integer("lines", 200, "Texts that are sent")
_BODY = flags.DEFINE_string("body", "{}", "Fields of every request, as JSON")
_OUT = flags.DEFINE_string("out", None, "JSON file for the figures")


async def ask(client: httpx.AsyncClient, text: str) -> tuple[float, float, str, dict]:
  """Sends a text; returns seconds to the first piece and to the end, the output and the usage."""
  body = {"prompt": text, "stream": True, "stream_options": {"include_usage": True}}
  body |= json.loads(_BODY.value)
  started, first, output, usage = time.perf_counter(), 0.0, "", {}
  async with client.stream("POST", "/v1/completions", json=body) as answer:
    answer.raise_for_status()
    async for line in answer.aiter_lines():
      if not line or line == "data: [DONE]":
        continue
      event = json.loads(line.removeprefix("data: "))
      first = first or time.perf_counter() - started
      usage = event.get("usage", usage)
      output += "".join(choice["text"] for choice in event["choices"])
  return first, time.perf_counter() - started, output, usage


async def load(texts: list[str], clients: int) -> tuple[float, list[tuple]]:
  """Sends all texts, from so many clients at a time; returns seconds and what each client saw."""
  left, found = list(enumerate(texts)), [()] * len(texts)
  limits = httpx.Limits(max_connections=clients)
  async with httpx.AsyncClient(base_url=_ADDRESS.value, timeout=600, limits=limits) as client:

    async def work() -> None:
      while left:
        number, text = left.pop()
        found[number] = await ask(client, text)

    started = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(clients)))
    return time.perf_counter() - started, found


def figures(clients: int, seconds: float, found: list[tuple]) -> dict[str, float]:
  """Returns one row of the table."""
  first, whole, _, usage = zip(*found, strict=True)
  tokens = sum(each["completion_tokens"] for each in usage)
  return {
      "clients": clients,
      "requests": len(found),
      "requests_per_second": len(found) / seconds,
      "tokens_per_second": tokens / seconds,
      "teacher_share": sum(each["teacher_tokens"] for each in usage) / tokens,
      **{f"first_p{p}_ms": 1000 * float(np.percentile(first, p)) for p in (50, 95)},
      **{f"whole_p{p}_ms": 1000 * float(np.percentile(whole, p)) for p in (50, 95)},
  }


def main(argv):
  """Measures, prints and writes the figures."""
  del argv
  logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs every request
  lines = read_lines(_TEXTS.value, expected="--texts names it")[: _LINES.value]
  texts = [lines[i % len(lines)] for i in range(_REQUESTS.value)]
  asyncio.run(load(texts[:20], 1))  # compiles what it needs
  expected: list[str] | None = None
  rows = []
  for clients in map(int, _CLIENTS.value):
    seconds, found = asyncio.run(load(texts, clients))
    outputs = [output for _, _, output, _ in found]
    expected = expected or outputs
    rows.append(figures(clients, seconds, found) | {"same": outputs == expected})
  table = Table(*rows[0])
  for row in rows:
    table.add_row(*(f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()))
  Console(width=200).print(table)
  if _OUT.value:
    write_json(_OUT.value, {"hardware": platform.machine(), "body": _BODY.value, "rows": rows})


if __name__ == "__main__":
  app.run(main)
