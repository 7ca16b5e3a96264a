"""The server's pages, over HTTP: what clients get, and what they are refused."""

import asyncio
import contextlib
import json
import re
import socket
import time

import httpx
import openai
import pytest

from kdtw_jax import decoding
from kdtw_jax.pair import load_pair
from kdtw_jax.serving.app import make_app
from kdtw_jax.serving.engine import Engine, Settings
from kdtw_jax.serving.guard import Limits
from kdtw_jax.serving.job import Job
from tests import tiny_pair
from tests.served import served

TEXT = tiny_pair.TEXTS[7]


@contextlib.contextmanager
def serving(pair, settings=None, **options):
  """A server on a free port of this machine, as its address."""
  engine = Engine(pair, settings or Settings(slots=4, passes=2))
  with served(make_app(engine, model="tiny", **options), engine) as address:
    yield address, engine


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
  return load_pair(tiny_pair.save(tmp_path_factory.mktemp("pair")))


@pytest.fixture(scope="module")
def server(pair):
  with serving(pair, budget=0.2, limits=Limits(body=4000, seconds=120.0)) as (address, engine):
    yield address, engine


@pytest.fixture(scope="module")
def client(server):
  with httpx.Client(base_url=server[0], timeout=120) as client:
    yield client


def complete(client, **body):
  return client.post("/v1/completions", json=body)


# What clients get ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body,order",
    [
        ({}, {"budget": 0.2}),
        ({"budget": 0.1, "form": "hard"}, {"budget": 0.1, "form": "hard"}),
        ({"budget": "at most 2 calls"}, {"budget": "at most 2 calls"}),
        ({"policy": "teacher"}, {"policy": decoding.make_policy("teacher")}),
        ({"policy": "speculative:3"}, {"policy": decoding.make_policy("speculative", 3)}),
        ({"model": "tiny", "temperature": 0, "n": 1, "seed": 5, "user": "me"}, {"budget": 0.2}),
    ],
)
def test_a_completion_is_what_write_returns(client, pair, body, order, monkeypatch):
  monkeypatch.setattr(Job, "seconds", 1.23456)
  answer = complete(client, prompt=TEXT, **body)
  assert answer.status_code == 200
  found, out = answer.json(), pair.write(TEXT, **order)
  (choice,) = found["choices"]
  assert choice["text"] == out.text and tuple(choice["tokens"]) == out.tokens
  assert tuple(map(bool, choice["by_teacher"])) == out.by_teacher
  assert choice["finish_reason"] == ("stop" if out.tokens[-1] == "</s>" else "length")
  usage = found["usage"]
  assert usage["completion_tokens"] == len(out.tokens) and usage["teacher_calls"] == out.calls
  assert usage["teacher_tokens"] == sum(out.by_teacher)
  assert usage["teacher_share"] == pytest.approx(out.share, abs=1e-4)
  assert usage["seconds"] == 1.2346


def test_several_prompts_are_answered_in_their_order(client, pair):
  found = complete(client, prompt=tiny_pair.TEXTS).json()["choices"]
  assert [choice["index"] for choice in found] == list(range(len(tiny_pair.TEXTS)))
  assert [c["text"] for c in found] == [out.text for out in pair.write(tiny_pair.TEXTS, 0.2)]


def test_openais_client_talks_to_it(server, pair):
  expected = pair.write(TEXT, 0.2)
  with openai.OpenAI(base_url=f"{server[0]}/v1", api_key="none") as client:
    assert [model.id for model in client.models.list()] == ["tiny"]
    whole = client.completions.create(model="tiny", prompt=TEXT, extra_body={"budget": 0.2})
    assert whole.choices[0].text == expected.text and whole.usage.model_extra["teacher_calls"] >= 0
    chunks = list(
        client.completions.create(
            model="tiny", prompt=TEXT, stream=True, stream_options={"include_usage": True}
        )
    )
    with pytest.raises(openai.BadRequestError, match="budget=0.9"):
      client.completions.create(model="tiny", prompt=TEXT, extra_body={"budget": 0.9})
    with pytest.raises(openai.NotFoundError, match="model='gpt': this server has 'tiny'"):
      client.completions.create(model="gpt", prompt=TEXT)
  pieces = [choice.text for chunk in chunks for choice in chunk.choices]
  assert "".join(pieces) == expected.text and len(pieces) > 3
  assert chunks[-2].choices[0].finish_reason and chunks[-1].usage.completion_tokens == 24


def test_a_stream_says_who_wrote_each_piece(client, pair):
  lines = complete(client, prompt=[TEXT, "a"], stream=True).text.split("\n\n")
  assert lines[-2:] == ["data: [DONE]", ""]
  events = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
  texts, ends = {0: "", 1: ""}, {}
  for event in events:
    (choice,) = event["choices"]
    texts[choice["index"]] += choice["text"]
    if choice["finish_reason"]:
      ends[choice["index"]] = choice
    else:
      assert choice["by_teacher"] in (True, False)
  expected = pair.write([TEXT, "a"], 0.2)
  assert [texts[0], texts[1]] == [out.text for out in expected]
  assert tuple(map(bool, ends[0]["by_teacher"])) == expected[0].by_teacher


def test_an_output_may_be_cut(client, pair):
  found = complete(client, prompt=TEXT, max_tokens=5).json()
  assert found["usage"]["completion_tokens"] == 5
  assert found["choices"][0]["finish_reason"] == "length"
  assert pair.write(TEXT, 0.2).text.startswith(found["choices"][0]["text"])


def test_health_and_figures(client):
  assert client.get("/health").json() == {"status": "ok"}
  before = figures(client)
  out = complete(client, prompt=TEXT).json()["usage"]
  complete(client, prompt="")
  after = figures(client)
  grown = {name: after[name] - before.get(name, 0.0) for name in after}
  assert grown['kdtw_requests_total{end="finished"}'] == 1
  assert grown['kdtw_requests_total{end="refused"}'] == 1
  assert grown['kdtw_tokens_total{by="teacher"}'] == out["teacher_tokens"]
  assert grown["kdtw_teacher_calls_total"] == out["teacher_calls"]
  assert grown["kdtw_output_seconds_count"] == 1 and after["kdtw_unfinished_requests"] == 0


def figures(client):
  lines = client.get("/metrics").text.splitlines()
  return {
      name: float(value)
      for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
  }


# What they are refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body,said",
    [
        ({"prompt": ""}, "has nothing to read"),
        ({"prompt": "1 " * 99}, "this pair reads at most 23"),
        ({"prompt": []}, "prompt: 0 texts: give 1 to 64"),
        ({"prompt": ["a"] * 65}, "prompt: 65 texts"),
        ({"prompt": "\ud800"}, "body: Invalid JSON"),
        ({"prompt": 5}, "prompt.str: Input should be a valid string"),
        ({"prompt": [[5, 6]]}, "prompt.str: Input should be a valid string"),
        ({}, "prompt: Field required"),
        ({"prompt": "a", "budget": 0.9}, "budget=0.9"),
        ({"prompt": "a", "budget": -1}, "budget=-1"),
        ({"prompt": "a", "budget": "a lot"}, "budget='a lot'"),
        ({"prompt": "a", "form": "soft"}, "form='soft'"),
        ({"prompt": "a", "policy": "genius"}, "genius"),
        ({"prompt": "a", "policy": "speculative:x"}, "'x' is no number"),
        ({"prompt": "a", "policy": "random:0.5"}, "would depend on the other requests"),
        ({"prompt": "a", "temperature": 0.7}, "temperature: Input should be 0"),
        ({"prompt": "a", "max_tokens": 0}, "max_tokens: Input should be greater"),
        ({"prompt": "a", "form": "hard", "max_tokens": 3}, "promises about the whole output"),
        ({"prompt": "a", "stop": ["."]}, "stop: Extra inputs are not permitted"),
        ({"prompt": "a", "logprobs": 5}, "logprobs: Extra inputs are not permitted"),
    ],
)
def test_a_bad_request_says_what_to_do(client, server, body, said):
  content = json.dumps(body)  # \ud800 is valid JSON
  headers = {"content-type": "application/json"}
  answer = client.post("/v1/completions", content=content, headers=headers)
  assert answer.status_code == 400, answer.text
  error = answer.json()["error"]
  assert said in error["message"] and error["type"] == "invalid_request_error"
  assert server[1].unfinished == 0


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"prompt": "\xff"}', b"\x00\x01", b"null"])
def test_what_is_no_json_object_is_refused(client, content):
  json_type = {"content-type": "application/json"}
  answer = client.post("/v1/completions", content=content, headers=json_type)
  assert answer.status_code == 400 and answer.json()["error"]["message"]


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_what_a_page_of_another_site_may_send_unasked_is_refused(client, kind):
  headers = {} if kind is None else {"content-type": kind}
  answer = client.post("/v1/completions", content=b'{"prompt": "a"}', headers=headers)
  assert answer.status_code == 415 and "application/json" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "text", ["\x00\x1b[31m\x07 a", "<script>alert(1)</script>", "a\r\n\r\ndata: [DONE]", "🙂" * 3]
)
def test_odd_texts_are_texts(client, pair, text):
  assert complete(client, prompt=text).json()["choices"][0]["text"] == pair.write(text, 0.2).text
  streamed = complete(client, prompt=text, stream=True).text
  assert streamed.count("data: [DONE]") == 1 and streamed.endswith("data: [DONE]\n\n")


def test_large_bodies_are_refused(client):
  answer = client.post("/v1/completions", content=b"x" * 1_000_000)
  assert answer.status_code == 413 and "more than 4,000 bytes" in answer.json()["error"]["message"]

  def unstated():  # no content-length
    yield from [b"x" * 1000] * 20

  assert client.post("/v1/completions", content=unstated()).status_code == 413
  assert client.get("/health").status_code == 200


def test_slow_bodies_are_refused(pair):
  with serving(pair, budget=0.2, limits=Limits(seconds=1.0)) as (address, _):
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=120) as slow:
      slow.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
      started = time.monotonic()
      assert slow.recv(1000).startswith(b"HTTP/1.1 408")
      assert time.monotonic() - started > 0.5
    assert httpx.get(f"{address}/health").status_code == 200


def test_a_client_that_goes_frees_its_slot(server):
  address, engine = server
  body = {"prompt": [TEXT] * 40, "stream": True}
  with httpx.Client(timeout=60) as leaving:
    with leaving.stream("POST", f"{address}/v1/completions", json=body) as answer:
      next(answer.iter_lines())
  assert until(lambda: engine.unfinished == 0, seconds=60)
  streamed = gone(address)
  assert streamed
  with contextlib.suppress(httpx.ReadTimeout):
    httpx.post(f"{address}/v1/completions", json={"prompt": [TEXT] * 60}, timeout=0.05)
  assert until(lambda: engine.unfinished == 0, seconds=60)
  assert until(lambda: gone(address) > streamed, seconds=60)


def gone(address):
  """Texts whose client had gone before they were written."""
  found = re.search(r'end="gone"} (\d+)', httpx.get(f"{address}/metrics").text)
  return int(found[1]) if found else 0


def until(true, *, seconds):
  ends = time.monotonic() + seconds
  while not true() and time.monotonic() < ends:
    time.sleep(0.01)
  return true()


def test_a_full_queue_says_when_to_come_again(pair):
  with serving(pair, Settings(slots=1, waiting=1), budget=0.2) as (address, _):
    answer = httpx.post(f"{address}/v1/completions", json={"prompt": ["a"] * 3}, timeout=60)
    assert answer.status_code == 429 and answer.headers["retry-after"] == "1"
    assert answer.json()["error"]["type"] == "rate_limit_error"
    assert httpx.post(f"{address}/v1/completions", json={"prompt": "a"}, timeout=60).is_success


def test_a_token_is_needed_where_there_is_one(pair):
  with serving(pair, budget=0.2, token="secret") as (address, _):
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "secret"}):
      for page in ("/v1/models", "/metrics"):
        answer = httpx.get(address + page, headers=headers)
        assert answer.status_code == 401 and "Bearer TOKEN" in answer.json()["error"]["message"]
    assert httpx.get(f"{address}/health").is_success
    with openai.OpenAI(base_url=f"{address}/v1", api_key="secret") as client:
      assert [model.id for model in client.models.list()] == ["tiny"]


def test_without_a_budget_of_its_own_a_request_must_state_one(pair):
  with serving(pair) as (address, _):
    answer = httpx.post(f"{address}/v1/completions", json={"prompt": "a"}, timeout=60)
    assert answer.status_code == 400 and "budget=None" in answer.json()["error"]["message"]


def test_a_stopped_engine_is_told(pair):
  with serving(pair, budget=0.2) as (address, engine):
    engine.close()
    assert httpx.get(f"{address}/health").status_code == 503
    answer = httpx.post(f"{address}/v1/completions", json={"prompt": "a"})
    assert answer.status_code == 503 and answer.json()["error"]["type"] == "server_error"


def test_many_clients_at_once_get_their_own_outputs(server, pair):
  expected = {text: pair.write(text, 0.2).text for text in tiny_pair.TEXTS}

  async def one(client, number):
    text = tiny_pair.TEXTS[number % len(tiny_pair.TEXTS)]
    answer = await client.post("/v1/completions", json={"prompt": text})
    return answer.status_code, answer.json()["choices"][0]["text"] == expected[text]

  async def all_of_them():
    limits = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(base_url=server[0], timeout=120, limits=limits) as client:
      return await asyncio.gather(*(one(client, number) for number in range(200)))

  assert set(asyncio.run(all_of_them())) == {(200, True)}
