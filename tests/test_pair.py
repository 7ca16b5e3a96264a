"""What users write with: texts of any length, budgets that are kept."""

import dataclasses
import re
import types

import numpy as np
import pytest

from kdtw_jax import decoding, writer
from kdtw_jax.pair import load_pair
from tests import tiny_pair
from tests.tiny_pair import TEXTS

ALWAYS = decoding.make_policy("handover", 1e6)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
  return tiny_pair.save(tmp_path_factory.mktemp("run") / "pair")


@pytest.fixture(scope="module")
def pair(saved):
  return load_pair(saved)


# Writing ------------------------------------------------------------------------------------------


def test_one_text_gives_one_record_that_adds_up(pair):
  out = pair.write("The flight takes 5 hours.", 0.2, policy=ALWAYS)
  assert len(out.tokens) == len(out.by_teacher) and all(out.by_teacher)
  assert out.share == 1.0 and out.calls == len(out.tokens)
  ids = [pair.tokenizer.pieces(range(300)).index(piece) for piece in out.tokens]
  assert out.text == pair.tokenizer.decode(ids) != ""


def test_many_texts_come_back_in_order_as_if_each_came_alone(pair):
  assert len(TEXTS) > writer.BATCH and len({*map(len, TEXTS)}) == len(TEXTS)
  together = pair.write(TEXTS, 0.2)
  assert together == [pair.write(text, 0.2) for text in TEXTS]
  assert pair.write(tuple(TEXTS[:2]), 0.2) == together[:2] and pair.write([], 0.2) == []


def test_texts_have_the_seconds_of_their_batch(pair, monkeypatch):
  """Batches are begun one after the other, and decoded so; clocks are of the test."""
  times = iter([10.0, 11.0, 15.0, 18.0, 20.0, 20.5])  # two begin, two are back; one begins, is back
  monkeypatch.setattr(writer, "time", types.SimpleNamespace(monotonic=lambda: next(times)))
  together = pair.write(TEXTS, 0.2)
  shortest = sorted(TEXTS, key=lambda text: len(pair.tokenizer.encode(text)))[: writer.BATCH]
  expected = {text: 5.0 if text in shortest else 3.0 for text in TEXTS}
  assert [out.seconds for out in together] == [*expected.values()] and 3.0 in expected.values()
  alone = pair.write(TEXTS[0], 0.2)
  assert alone.seconds == 0.5 and alone == together[0] and hash(alone) == hash(together[0])


def test_no_text_compiles_a_program_of_its_own(pair, monkeypatch):
  traces = []
  decode = decoding.decode

  def counting(*args, **kwargs):
    traces.append(1)
    return decode(*args, **kwargs)

  monkeypatch.setattr(decoding, "decode", counting)
  fresh = dataclasses.replace(pair)
  for text in TEXTS:
    for budget in (0.1, 0.2, "at most 30% of the output"):
      fresh.write(text, budget)
  widths = fresh.reader.widths
  assert len(traces) <= len(widths) == 3
  before = len(traces)
  for number in (2, 3, writer.BATCH + 1):  # texts at once
    fresh.write(TEXTS[-number:], 0.2)
  assert len(traces) - before <= len(widths)


def test_a_budget_of_zero_asks_never(pair):
  for budget in (0, 0.0, "at most 0% of the tokens"):
    out = pair.write(TEXTS[:3], budget, policy=ALWAYS)
    assert not any(any(one.by_teacher) or one.calls for one in out)
  assert pair.write(TEXTS[0], 0) == pair.write(TEXTS[0], policy=decoding.StudentAlone())


class NothingDecodedError(Exception):
  """What the models were about to read."""


def what_is_read(pair, text, budget):
  """(student's text, teacher's text, budget) of a fresh copy of the pair, which decodes nothing."""

  def decode(_, __, student_source, teacher_source, budget, *rest):
    texts = (
        pair.tokenizer.decode(source[0].tolist()) for source in (student_source, teacher_source)
    )
    raise NothingDecodedError(*texts, float(budget.share[0]))

  fresh = dataclasses.replace(pair)
  fresh._writer.decode = decode
  with pytest.raises(NothingDecodedError) as read:
    fresh.write(text, budget)
  return read.value.args


def test_a_budget_in_words_is_read_as_it_is_said(pair):
  said = "use the teacher for at most 20% of the tokens"
  assert pair.write(TEXTS[:3], said) == pair.write(TEXTS[:3], 0.2)
  text = "The flight takes 5 hours."
  assert what_is_read(pair, text, 0.2) == (f"{said}: {text}", text, pytest.approx(0.2))
  words = "let the teacher write 10% of it"
  assert what_is_read(pair, text, words) == (f"{words}: {text}", text, pytest.approx(0.1))


def test_a_task_is_said_to_both(tmp_path):
  pair = load_pair(tiny_pair.save(tmp_path / "pair", task="translate to German"))
  text = "Our shop is closed."
  assert what_is_read(pair, text, "with at most 10% help from the teacher") == (
      f"translate to German, with at most 10% help from the teacher: {text}",
      f"translate to German: {text}",
      pytest.approx(0.1),
  )


# The pair's student has not learned what help is worth; tests/stages has that refusal.
@pytest.mark.parametrize("name", sorted(decoding.POLICIES.keys() - {"worth"}))
def test_a_policy_takes_a_budget_if_and_only_if_the_gate_decides(pair, name):
  policy = decoding.make_policy(name, 1 if decoding.POLICIES[name].dial_name else None)
  given = {True: {"budget": 0.2}, False: {}}
  by_gate = name in {"handover", "handover_checked", "span", "verify"}  # the latter by their rule
  with pytest.raises(ValueError, match=r"budget=None: neither|does not keep to a budget"):
    pair.write(TEXTS[0], policy=policy, **given[not by_gate])
  assert pair.reader.order(given[by_gate].get("budget"), "share", policy).policy is policy


def test_other_policies_write_what_they_say(pair):
  teacher = pair.write(TEXTS, policy=decoding.make_policy("teacher"))
  assert all(all(out.by_teacher) for out in teacher)
  speculative = pair.write(TEXTS, policy=decoding.make_policy("speculative", 2))
  assert [out.text for out in speculative] == [out.text for out in teacher]


@pytest.mark.parametrize(
    "texts, message",
    [
        ("", "texts[0]='': has nothing to read; leave it out"),
        (["a", " \n"], "texts[1]=' \\n': has nothing to read"),
        (["a", "\u200b"], "texts[1]='\\u200b': has nothing to read"),
        ("1 " * 30, "tokens, this pair reads at most 23: split the text"),
        (3, "texts=3: must be a text or a list of texts"),
        (b"a", "texts=b'a': must be a text or a list of texts"),
        ({"a": 1}, "texts={'a': 1}: must be a text or a list of texts"),
        (None, "texts=None: must be a text or a list of texts"),
        (["a", 7], "texts[1]=7: must be a str, not int"),
        ([["a"]], "texts[0]=['a']: must be a str, not list"),
        ("a\ud800", "texts[0]='a\\ud800': holds half a character at 1"),
    ],
)
def test_a_text_that_cannot_be_read_is_refused(pair, texts, message):
  with pytest.raises(ValueError, match=re.escape(message)) as refused:
    pair._writer.write(texts, 0.2)
  assert "\n" not in str(refused.value)


def test_a_budget_that_cannot_be_kept_is_refused(pair):
  for budget in (0.31, 1, -0.1, float("nan"), "", "no limit", "at most 100% of the tokens", None):
    with pytest.raises(ValueError, match=r"trained for shares from 0 to 0\.3: give one"):
      pair.write("a", budget)
  with pytest.raises(
      ValueError, match=r"takes 6\d tokens, this pair has room for 16: say it shorter"
  ):
    pair.write("a", "at most 20% of " + "it " * 30)


# Forms --------------------------------------------------------------------------------------------


def outputs(pair, budget, form, *, policy=ALWAYS, texts=TEXTS):
  return pair.write(texts, budget, form=form, policy=policy)


def test_without_a_promise_an_eager_gate_asks_always(pair):
  assert all(out.share == 1.0 for out in outputs(pair, 0.2, "share"))


def test_no_output_ends_above_a_hard_budget(pair):
  for form in ("hard", "prefix"):
    found = outputs(pair, 0.2, form)
    assert all(out.calls <= 0.2 * len(out.tokens) + 1e-6 for out in found)
    assert sum(out.calls for out in found) > len(TEXTS)
  by_prefix = (np.cumsum(out.by_teacher) / (1 + np.arange(len(out.tokens))) for out in found)
  assert all((shares <= 0.2 + 1e-6).all() for shares in by_prefix)


@pytest.mark.parametrize("shortest, first", [((20.0, 0.0), 0), ((0.0, 0.0), 4)])
def test_a_hard_budget_counts_on_the_shortest_output_of_the_pair(
    pair, monkeypatch, shortest, first
):
  monkeypatch.setattr(pair.reader, "_shortest", tuple(map(np.float32, shortest)))
  assert outputs(pair, 0.2, "hard", texts=TEXTS[0]).by_teacher.index(True) == first


def test_a_ledger_lets_one_text_spend_what_another_has_saved(pair):
  found = outputs(pair, 0.2, "ledger")
  assert len(found) > writer.BATCH  # the credit passes from batch to batch
  calls, tokens = sum(out.calls for out in found), sum(len(out.tokens) for out in found)
  assert 0.2 * tokens - 1 - writer.BATCH < calls <= 0.2 * tokens
  assert any(out.calls > 0.2 * len(out.tokens) for out in found)


def test_a_ledger_passes_its_credit_on_to_the_next_batch(pair, monkeypatch):
  given, decode = [], pair._writer.decode

  def noting(*args):
    found = decode(*args)
    given.append((int(args[4].credit), int(found.credit)))
    return found

  monkeypatch.setattr(pair._writer, "decode", noting)
  outputs(pair, 0.3, "ledger", policy=decoding.make_policy("handover", -1e6))
  (first, left), (second, _) = given
  assert first == 0 and second == left > 0


def test_calls_bound_every_output_however_they_are_said(pair):
  found = outputs(pair, 2, "calls")
  assert {out.calls for out in found} == {2}
  assert outputs(pair, "at most two calls", "share") == found == outputs(pair, "twice", "calls")
  assert all(out.share == 1.0 for out in outputs(pair, 10**12, "calls"))


def test_of_calls_the_student_reads_a_share_that_it_was_trained_for(pair):
  source = len(pair.tokenizer.encode_batch(["The flight takes 5 hours."])[0]) + 1
  shortest = tiny_pair.SHORTEST[0] + tiny_pair.SHORTEST[1] * source
  said = "use the teacher for at most {}% of the tokens: The flight takes 5 hours."
  for calls, percent in ((1, round(100 / shortest)), (9, 30)):
    read, _, share = what_is_read(pair, "The flight takes 5 hours.", f"at most {calls} times")
    assert read == said.format(percent) and share == pytest.approx(percent / 100)
  smallest = min(filter(None, pair.config["budgets"]["train"]))
  long = dataclasses.replace(pair, shortest=(1e4, 0.0))
  assert what_is_read(long, "a", "once")[2] == pytest.approx(smallest)


@pytest.mark.parametrize("form", decoding.FORMS)
def test_nothing_is_asked_for_nothing_in_any_form(pair, form):
  for policy in (ALWAYS, None, decoding.make_policy("margin", 2.0)):
    if form != "share" or (policy is not None and policy.name == "handover"):
      assert not any(out.calls for out in outputs(pair, 0, form, policy=policy, texts=TEXTS[:2]))
  assert pair.write("a", 0, form=form) == pair.write("a", policy=decoding.StudentAlone())


def test_any_policy_that_can_write_alone_is_held_to_a_form(pair):
  margin = decoding.make_policy("margin", 2.0)  # asks always
  assert all(out.share == 1.0 for out in pair.write(TEXTS, policy=margin))
  for form in ("paced", "hard"):
    found = outputs(pair, 0.2, form, policy=margin, texts=TEXTS * 8)
    calls, tokens = (sum(n) for n in zip(*[(o.calls, len(o.tokens)) for o in found], strict=True))
    # Pacing stops one that asks always at a debt of score / (unit of κ), 10 calls, in each slot.
    assert 0.05 * tokens < calls <= 0.2 * tokens + 12 * writer.BATCH < 0.8 * tokens, form


@pytest.mark.parametrize(
    "budget, form, policy, message",
    [
        (0.2, "soft", None, "form='soft': must be one of share, paced, hard"),
        (0.2, ["hard"], None, "form=['hard']: must be one of share, paced, hard"),
        (None, "hard", None, "budget=None: form='hard' needs one: give a budget"),
        (0.2, "calls", None, "budget=0.2: form='calls' takes a whole number of calls from 0"),
        (-1, "calls", None, "budget=-1: form='calls' takes a whole number of calls from 0"),
        ("at most twice", "hard", None, "states calls, and form='hard' takes a share"),
        (3, "share", None, "states 300%; this pair was trained for shares from 0 to 0.3"),
        (0.2, "share", "margin", "policy 'margin' does not keep to a budget: leave out the budget"),
        (
            0.2,
            "hard",
            "teacher",
            "form='hard': policy 'teacher' cannot write on without the teacher",
        ),
        (3, "calls", "prompt_lookup", "form='calls': policy 'prompt_lookup' cannot write on"),
    ],
)
def test_a_form_that_cannot_be_kept_is_refused(pair, budget, form, policy, message):
  dials = {"margin": 0.2, "prompt_lookup": 2}
  policy = policy and decoding.make_policy(policy, dials.get(policy))
  with pytest.raises(ValueError, match=re.escape(message)) as refused:
    pair._writer.write("a", budget, form, policy)
  assert "\n" not in str(refused.value)
