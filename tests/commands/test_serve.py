"""`kdtw serve` as a process: it starts, is killed, starts again, and ends in order."""

import contextlib
import os
from pathlib import Path
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest

from kdtw_jax.commands import cli
from tests import tiny_pair

SECRET = "Zanzibar 7"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return tiny_pair.save(tmp_path_factory.mktemp("pair"))


@contextlib.contextmanager
def served(folder, cache, port):
  """A server process on a port, once it answers, with what it prints."""
  process = subprocess.Popen(
      [sys.executable, "-m", "kdtw_jax", "serve", f"--pair={folder}", f"--port={port}"]
      + ["--budget=0.2", "--slots=4"],
      env={**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache), "KDTW_TOKEN": ""},
      cwd=Path(__file__).parent.parent.parent,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
  )
  try:
    address, ends = f"http://127.0.0.1:{port}", time.monotonic() + 300
    while time.monotonic() < ends and process.poll() is None:
      with contextlib.suppress(httpx.TransportError):
        if httpx.get(f"{address}/health").is_success:
          break
      time.sleep(0.1)
    yield process, address
  finally:
    process.kill()
    process.communicate()


def free_port():
  with socket.create_server(("127.0.0.1", 0)) as found:
    return found.getsockname()[1]


def ask(address, **body):
  body = {"prompt": f"{SECRET} a", **body}
  return httpx.post(f"{address}/v1/completions", json=body, timeout=300)


def test_it_is_killed_starts_again_and_ends_in_order(folder, tmp_path):
  port = free_port()
  with served(folder, tmp_path, port) as (process, address):
    first = ask(address).json()["choices"][0]["text"]
    process.kill()
    with pytest.raises(httpx.TransportError):
      ask(address)
  with served(folder, tmp_path, port) as (process, address):  # the port is free at once
    assert ask(address).json()["choices"][0]["text"] == first
    for host in ("evil.example", f"evil.example:{port}"):  # that a page let point to this machine
      assert httpx.get(f"{address}/health", headers={"host": host}).status_code == 400
    assert httpx.get(f"http://localhost:{port}/health").is_success
    assert ask(address, budget="nonsense").status_code == 400
    answers = []
    asking = threading.Thread(
        target=lambda: answers.append(ask(address, prompt=[f"{SECRET} {i}" for i in range(60)]))
    )
    asking.start()
    while not answers and "kdtw_unfinished_requests 0" in httpx.get(f"{address}/metrics").text:
      time.sleep(0.001)
    process.send_signal(signal.SIGTERM)
    asking.join()
    assert len(answers[0].json()["choices"]) == 60  # what had come is finished
    said, _ = process.communicate(timeout=60)
    assert process.returncode in (0, -signal.SIGTERM)
  assert f"http://127.0.0.1:{port}/v1/completions" in said
  assert SECRET not in said and "Traceback" not in said


@pytest.mark.parametrize(
    "flags,said",
    [
        (["--host=0.0.0.0"], "--host=0.0.0.0: others could use this server: set KDTW_TOKEN"),
        (["--host=example.com"], "--host=example.com: others could use this server"),
        (["--slots=0"], "--slots=0: must be >= 1"),
        (["--port=99999"], "--port=99999: cannot listen on 127.0.0.1"),
        (["--port=0", "--budget=0.9"], "budget=0.9"),
        (["--port=0", "--pair=nowhere"], "nowhere: no trained pair"),
    ],
)
def test_a_mistake_ends_in_one_line(folder, monkeypatch, flags, said):
  monkeypatch.delenv("KDTW_TOKEN", raising=False)
  monkeypatch.setattr("kdtw_jax.devices.keep_programs", lambda: None)
  with pytest.raises(SystemExit) as stopped:
    cli.main(["serve", f"--pair={folder}", *flags])
  assert str(stopped.value).startswith("error: ") and said in str(stopped.value)
  assert "\n" not in str(stopped.value)


def test_a_port_that_is_taken_is_named(folder, monkeypatch):
  monkeypatch.delenv("KDTW_TOKEN", raising=False)
  with socket.create_server(("127.0.0.1", 0)) as taken:
    port = taken.getsockname()[1]
    with pytest.raises(SystemExit, match=f"--port={port}: cannot listen.*give another"):
      cli.main(["serve", f"--pair={folder}", f"--port={port}"])
