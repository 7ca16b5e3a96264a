"""The page over HTTP: people get their own outputs while they are written, and clear refusals."""

import asyncio
import contextlib
import dataclasses
import itertools
import json
import re
import time
import uuid

import gradio_client
import httpx
import jax
import pytest

from kdtw_jax import decoding
from kdtw_jax.demo import methods
from kdtw_jax.demo.page import make_app
from kdtw_jax.pair import load_pair
from kdtw_jax.serving.engine import Engine, Settings
from tests import tiny_pair
from tests.demo.test_markup import Reading
from tests.served import served

TEXT = tiny_pair.TEXTS[7]
COMPARED = ["student", "speculative", "teacher"]


@contextlib.contextmanager
def serving(pair, **options):
  """The page on a free port of this machine, as its address."""
  engine = Engine(pair, Settings(kinds=16))

  async def make():  # Gradio's locks take a loop that runs, or leave one behind
    return make_app(pair, engine, **options)

  with served(asyncio.run(make()), engine) as address:
    yield address, engine


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
  return load_pair(tiny_pair.save(tmp_path_factory.mktemp("pair")))


@pytest.fixture(scope="module")
def server(pair):
  with serving(pair) as (address, engine):
    yield address, engine


@pytest.fixture(scope="module")
def client(server):
  with httpx.Client(base_url=server[0], timeout=120) as client:
    yield client


def asked(text=TEXT, method="gate", percent=20, words="", form="share", beside=()):
  return [text, method, percent, words, form, [*beside]]


async def answer(client, **fields):
  """The last page that a browser shows for a request, as it speaks with Gradio."""
  async for message in messages(client, **fields):
    if message["msg"] == "process_completed":
      return message["output"]["data"][0] if message["success"] else None
  return None


async def messages(client, **fields):
  session = uuid.uuid4().hex
  body = json.dumps({"data": asked(**fields), "fn_index": 0, "session_hash": session})
  headers = {"content-type": "application/json"}  # \ud800 is valid JSON
  joined = await client.post("/gradio_api/queue/join", content=body, headers=headers)
  joined.raise_for_status()
  where = f"/gradio_api/queue/data?session_hash={session}"
  async with client.stream("GET", where) as stream:
    async for line in stream.aiter_lines():
      if line:
        yield json.loads(line.removeprefix("data: "))


def ask(address, **fields):
  async def once():
    async with httpx.AsyncClient(base_url=address, timeout=120) as client:
      return await answer(client, **fields)

  return asyncio.run(once())


def outputs(page):
  """[(text, by_teacher)] of a page, parts of one writer together."""
  return [(text, writer == "teacher") for text, writer in Reading(page).parts]


def test_outputs_come_while_they_are_written_and_are_those_of_write(server, pair):
  with contextlib.closing(gradio_client.Client(server[0], verbose=False)) as client:
    pages = [*client.submit(*asked(beside=COMPARED), api_name="/write")]
  assert len(pages) > 8
  texts = ["".join(text for text, _ in outputs(page)) for page in pages]
  for before, after in itertools.pairwise(texts):
    assert after.startswith(before)
  orders = [
      {"budget": 0.2},
      {"policy": decoding.make_policy("speculative", 4)},
      {"budget": 0},
      {"policy": decoding.make_policy("teacher")},
  ]
  written = [pair.write(TEXT, **order) for order in orders]
  assert texts[-1] == "".join(out.text for out in written)
  for out in written:
    per_100 = 100 * out.calls / len(out.tokens)
    assert f"<td>{out.calls}</td><td>{per_100:.1f}</td><td>{out.share:.0%}</td>" in pages[-1]


def test_a_budget_is_the_slider_unless_there_are_words(server, pair):
  words = "use the teacher for at most 10% of the tokens"
  found = [
      ask(server[0], **fields) for fields in ({"percent": 10}, {"percent": 30, "words": words})
  ]
  expected = pair.write(TEXT, 0.1).text
  assert ["".join(text for text, _ in outputs(page)) for page in found] == [expected] * 2


@pytest.mark.parametrize(
    "name,budget,form,same",
    [
        ("gate", 0.3, "hard", (0.3, "hard", None)),
        ("gate", "at most 2 calls", "share", (2, "calls", None)),
        ("speculative", 0.3, "hard", (None, "share", decoding.make_policy("speculative", 4))),
        ("student", "no limit", "hard", (0, "share", None)),
        ("teacher", 0.3, "share", (None, "share", decoding.make_policy("teacher"))),
    ],
)
def test_a_method_is_an_order(pair, name, budget, form, same):
  engine = Engine(pair)
  found, expected = methods.order(engine, name, budget, form), engine.order(*same)
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  assert jax.tree.leaves(found) == jax.tree.leaves(expected)


def test_a_pair_without_the_stage_worth_does_not_offer_it(pair):
  assert "worth" not in methods.offered(pair)
  learned = dataclasses.replace(pair, prices=((0.1, 0.2), (2.0, 1.0)))
  assert [*methods.offered(learned)] == [*methods.METHODS]


@pytest.mark.parametrize(
    "fields,said",
    [
        ({"text": ""}, "There is no text"),
        ({"text": " \n\t"}, "There is no text"),
        ({"text": "1 " * 99}, "198 tokens, this pair reads at most 23"),
        ({"text": "x" * 1_000_000}, "has 1,000,000 characters, this page reads at most 20,000"),
        ({"text": "\ud800"}, "holds half a character"),
        ({"words": "a <b>lot</b> ${1}"}, "budget='a <b>lot</b> ${1}': states no share"),
        ({"words": "at most 90%"}, "90%"),
        ({"words": "at most 2 calls", "form": "hard"}, "form='hard'"),
    ],
)
def test_what_cannot_be_is_said_on_the_page(server, fields, said):
  page = ask(server[0], **fields)
  assert 'role="alert"' in page and said in Reading(page).text
  assert not outputs(page) and server[1].unfinished == 0


@pytest.mark.parametrize("fields", [{"method": "genius"}, {"form": "soft"}, {"beside": ["genius"]}])
def test_what_no_browser_sends_is_refused(server, fields):
  assert ask(server[0], **fields) is None and server[1].unfinished == 0


def test_fifty_people_at_once_get_their_own_outputs(server, pair):
  texts = [tiny_pair.TEXTS[3 * (number % 5)] for number in range(50)]
  expected = {text: pair.write(text, 0.2).text for text in texts}

  async def all_of_them():
    limits = httpx.Limits(max_connections=100)
    async with httpx.AsyncClient(base_url=server[0], timeout=120, limits=limits) as client:
      return await asyncio.gather(*(answer(client, text=t, beside=["student"]) for t in texts))

  pages = asyncio.run(all_of_them())
  for text, page in zip(texts, pages, strict=True):
    first = page.partition("</tbody>")[0]
    assert "".join(part for part, _ in outputs(first)) == expected[text]
  assert server[1].unfinished == 0


def test_who_leaves_frees_the_slot(server, monkeypatch):
  left, give_up = [], Engine.give_up
  monkeypatch.setattr(Engine, "give_up", lambda *args: (left.append(args[1]), give_up(*args)))

  async def leave():
    async with httpx.AsyncClient(base_url=server[0], timeout=120) as client:
      async for message in messages(client, beside=COMPARED):
        if message["msg"] == "process_generating":
          return

  for _ in range(5):
    asyncio.run(leave())
  ends = time.monotonic() + 10
  while server[1].unfinished and time.monotonic() < ends:
    time.sleep(0.01)
  assert server[1].unfinished == 0 and left


def test_nothing_is_fetched_from_elsewhere(client):
  page = client.get("/")
  assert page.is_success and "default-src 'self'" in page.headers["content-security-policy"]
  config = client.get("/config").json()
  assert not config["analytics_enabled"]
  assert not config["stylesheets"]
  assert not re.search(r"@import|url\(\W?(?!data:)\w", client.get("/theme.css").text)


def test_only_what_the_page_needs_is_reached(client):
  for path in ("upload", "file=/etc/passwd", "proxy=http://127.0.0.1/", "run/write", "call/write"):
    assert client.get(f"/gradio_api/{path}").status_code == 404
    assert client.post(f"/gradio_api/{path}", content=b"{}").status_code == 404
  assert client.get("/monitoring").status_code == 404
  body = b'{"data": ["' + b"x" * (5 << 20)
  assert client.post("/gradio_api/queue/join", content=body).status_code == 413


def test_people_log_in_where_there_is_a_secret(pair):
  with serving(pair, token="sécret") as (address, _), httpx.Client(base_url=address) as client:
    body = {"data": asked(), "fn_index": 0, "session_hash": "a"}
    assert client.post("/gradio_api/queue/join", json=body).status_code == 401
    assert client.get("/config").status_code == 401 and "auth_required" in client.get("/").text
    for password in ("", "secret", "<b>"):
      login = client.post("/login", data={"username": "me", "password": password})
      assert login.status_code in (400, 422)
    assert client.post("/login", data={"username": "me", "password": "sécret"}).is_success
    assert client.get("/config").is_success
