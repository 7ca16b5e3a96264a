"""`kdtw write`: files of any size, line by line, and what is said when something is wrong."""

import itertools
import json
import os
import re
import subprocess
import sys

import pytest

from kdtw_jax import decoding, devices, reader
from kdtw_jax.commands import cli
from kdtw_jax.pair import load_pair
from tests import tiny_pair
from tests.tiny_pair import TEXTS

LONG = "1 " * 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return tiny_pair.save(tmp_path_factory.mktemp("run") / "pair")


@pytest.fixture(scope="module")
def pair(folder):
  return load_pair(folder)


# A stream of texts --------------------------------------------------------------------------------


def test_a_stream_is_written_as_the_list_of_its_texts(pair):
  expected = pair.write(TEXTS, 0.2)
  assert list(pair.write_stream(iter(TEXTS), 0.2)) == expected
  assert list(pair.write_stream(TEXTS, 0.2, batch=2, window=5)) == expected
  assert list(pair.write_stream([], 0.2)) == []


def test_a_stream_reads_no_further_than_its_window(pair):
  read = []
  texts = (read.append(i) or TEXTS[i % 18] for i in itertools.count())
  written = pair.write_stream(texts, 0.2, batch=2, window=4)
  assert read == []
  assert [next(written) for _ in range(4)] == pair.write(TEXTS[:4], 0.2) and read == [*range(4)]
  next(written)
  assert read == [*range(8)]


@pytest.mark.parametrize("blank", ["", "  ", "\t", "\u200b"])
def test_a_blank_text_stays_blank_without_a_call(pair, blank):
  texts = [blank, TEXTS[5], blank, TEXTS[6]]
  written = list(pair.write_stream(texts, 0.2, window=3))
  assert written[0] == written[2] == reader.Written("", (), (), 0, 0.0)
  assert written[1::2] == pair.write(TEXTS[5:7], 0.2)


def test_a_text_that_is_too_long_stops_the_stream_or_is_cut(pair):
  texts = [*TEXTS[:3], "", LONG]
  written = pair.write_stream(texts, 0.2, window=2)
  assert [next(written) for _ in range(4)][3].text == ""
  with pytest.raises(reader.TextError, match=r"^texts\[4\]='1 1 .*at most 23: split") as stopped:
    next(written)
  assert stopped.value.number == 4
  *_, cut = pair.write_stream(texts, 0.2, cut=True)
  ids = pair.tokenizer.encode(LONG)[:23]
  assert cut == pair.write(pair.tokenizer.decode(ids), 0.2)


def test_a_ledger_is_kept_over_the_windows_of_a_stream(pair):
  def calls_and_tokens(written):
    return sum(out.calls for out in written), sum(len(out.tokens) for out in written)

  texts = 4 * TEXTS
  calls, tokens = calls_and_tokens(
      [*pair.write_stream(texts, 0.2, form="ledger", batch=1, window=1)]
  )
  alone, _ = calls_and_tokens([pair.write(text, 0.2, form="ledger") for text in texts])
  assert alone < calls <= 0.2 * tokens


def test_a_stream_that_cannot_be_is_refused_before_a_text_is_read(pair):
  for given, said in (
      ({"batch": 0}, "batch=0: must be >= 1"),
      ({"window": 0}, "window=0: must be >= 1"),
      ({"form": "soft"}, "form='soft'"),
  ):
    with pytest.raises(ValueError, match=said):
      pair.write_stream(TEXTS, 0.2, **given)


# The command --------------------------------------------------------------------------------------


@pytest.fixture
def kdtw(folder, monkeypatch, capsysbinary, tmp_path):
  monkeypatch.setattr(devices, "keep_programs", lambda: None)

  def run(*flags, given):
    (tmp_path / "in.txt").write_bytes(given)
    failure = None
    with open(tmp_path / "in.txt", encoding="utf-8") as file:
      monkeypatch.setattr(sys, "stdin", file)
      try:
        cli.main(["write", f"--pair={folder}", *flags])
      except SystemExit as exit_:
        failure = exit_.code
    out, err = capsysbinary.readouterr()
    return out.decode().split("\n"), err.decode(), failure

  return run


def test_every_line_gets_a_line(kdtw, pair, tmp_path):
  costs = tmp_path / "costs.jsonl"
  given = "\ufeff" + "\r\n".join(["", *TEXTS])  # of an editor on Windows, with no last line end
  lines, summary, failure = kdtw(
      "--budget=0.2", f"--costs={costs}", "--policy=margin:0.5", "--form=hard", given=given.encode()
  )
  expected = pair.write(TEXTS, 0.2, form="hard", policy=decoding.make_policy("margin", 0.5))
  assert failure is None and lines == ["", *(out.text for out in expected), ""]
  blank, *records = [json.loads(line) for line in costs.read_text("utf-8").splitlines()]
  assert blank == {
      "line": 1,
      "calls": 0,
      "share": 0.0,
      "seconds": 0.0,
      "tokens": [],
      "by_teacher": [],
  }
  for record, out in zip(records, expected, strict=True):
    assert tuple(record["tokens"]) == out.tokens and record["calls"] == out.calls
    assert tuple(map(bool, record["by_teacher"])) == out.by_teacher and record["seconds"] > 0
  tokens, calls = sum(len(out.tokens) for out in expected), sum(out.calls for out in expected)
  assert summary.startswith(f"19 texts, {tokens} tokens in ")
  assert f", {100 * calls / tokens:.1f} calls per 100 tokens\n" in summary


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--budget=0.2"], {"budget": 0.2}),
        (["--budget=20%"], {"budget": 0.2}),
        (["--budget=2", "--form=calls"], {"budget": 2, "form": "calls"}),
        (["--budget=at most twice"], {"budget": "at most twice"}),
    ],
)
def test_a_budget_in_any_form(kdtw, pair, flags, words):
  lines, _, failure = kdtw(*flags, given="\n".join(TEXTS[:3]).encode())
  assert failure is None and lines[:3] == [out.text for out in pair.write(TEXTS[:3], **words)]


@pytest.mark.parametrize(
    "flags, given, said",
    [
        (["--budget=0.9"], b"a\n", "error: budget=0.9: states 90%; this pair was trained for"),
        ([], b"a\n", "error: budget=None: "),
        (["--policy=maargin:0.1"], b"a\n", "error: policy='maargin': unknown; choose one of "),
        (["--policy=margin:x"], b"a\n", "error: policy margin:x: 'x' is no number: give a dial"),
        (["--budget=0.2", "--batch=0"], b"a\n", "error: batch=0: must be >= 1"),
        (["--budget=0.2"], b"a\n\xff\n", "error: standard input, line 2: not valid UTF-8 "),
        (["--budget=0.2"], b"\xff\xfea\0", "error: standard input: is UTF-16: convert the file"),
        (["--budget=0.2", "--costs=/no/such/place"], b"a\n", "error: [Errno 2] No such file or"),
    ],
)
def test_a_mistake_ends_in_one_line(kdtw, flags, given, said):
  lines, _, failure = kdtw(*flags, given=given)
  assert str(failure).startswith(said) and "\n" not in failure and lines == [""]


def test_a_bad_line_keeps_what_is_written_and_says_where_to_go_on(kdtw, pair):
  given = "\n".join([*TEXTS[:3], LONG, "a"]).encode()
  lines, _, failure = kdtw("--budget=0.2", "--window=1", given=given)
  assert lines == [*(out.text for out in pair.write(TEXTS[:3], 0.2)), ""]
  assert failure.startswith("error: line 4: ") and ", or give --cut. 3 lines are " in failure
  assert failure.endswith("written: go on with tail -n +4")
  lines, _, failure = kdtw("--budget=0.2", "--cut", given=given)
  assert failure is None and len(lines) == 6


@pytest.mark.slow
def test_the_command_in_a_process_of_its_own(folder, tmp_path):
  command = [sys.executable, "-m", "kdtw_jax", "write", f"--pair={folder}", "--policy=student"]
  env = {
      **os.environ,
      "XDG_CACHE_HOME": str(tmp_path),
      "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
  }
  for name in ("JAX_COMPILATION_CACHE_DIR", "PYTHONUNBUFFERED"):
    env.pop(name, None)
  given = "".join(f"{text}\n" for text in TEXTS)
  done = subprocess.run(
      command, input=given, capture_output=True, text=True, encoding="utf-8", env=env, check=True
  )
  assert done.stdout.count("\n") == len(TEXTS) and done.stderr.startswith("18 texts, ")
  assert list((tmp_path / "kdtw_jax/programs").iterdir())  # for the next run
  with open("/dev/full", "wb") as full:
    failed = subprocess.run(
        command, input=given, stdout=full, stderr=subprocess.PIPE, text=True, env=env, check=False
    )
  assert failed.returncode == 1 and failed.stderr == "error: [Errno 28] No space left on device\n"


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_is_quick_and_has_examples(command):
  done = subprocess.run(
      [sys.executable, "-X", "importtime", "-m", "kdtw_jax", command, "--help"],
      capture_output=True,
      text=True,
      check=True,
  )
  assert re.search(rf"^  kdtw {command} (--pair=)?runs/demo\b", done.stdout, re.MULTILINE)
  assert " jax\n" not in done.stderr and " flax\n" not in done.stderr
