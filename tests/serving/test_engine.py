"""The engine writes for each request what `Pair.write` does, whoever else is served."""

import queue
import threading

import pytest

from kdtw_jax import decoding
from kdtw_jax.pair import load_pair
from kdtw_jax.serving.engine import BusyError, Engine, Settings
from kdtw_jax.serving.lane import End, Lane, StoppedError
from tests import tiny_pair

ORDERS = [
    (0.2, "share", None),
    (0.1, "hard", None),
    (2, "calls", None),
    (None, "share", decoding.make_policy("speculative", 3)),
    (None, "share", decoding.make_policy("route_length", 9.0)),
    (None, "share", decoding.make_policy("route_length", 100.0)),
]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
  return load_pair(tiny_pair.save(tmp_path_factory.mktemp("pair")))


@pytest.fixture(scope="module")
def engine(pair):
  engine = Engine(pair, Settings(slots=4, waiting=200, kinds=5, passes=3))
  engine.start()
  yield engine
  engine.close()
  assert not engine.alive


def ask(engine, text, order, **settings):
  told = queue.SimpleQueue()
  (ticket,) = engine.submit(
      [text], engine.order(*order), lambda _, event: told.put(event), **settings
  )
  return ticket, told


def rest(told):
  """The text of all pieces, and the last event."""
  text = ""
  while isinstance(event := told.get(timeout=120), list):
    text += "".join(piece.text for piece in event)
  return text, event


def test_everybody_gets_what_write_returns(engine, pair):
  asked = [
      (text, order, ask(engine, text, order)[1]) for text in tiny_pair.TEXTS for order in ORDERS
  ]
  assert engine.unfinished > 4  # more than there are slots
  for text, (budget, form, policy), told in asked:
    pieces, end = rest(told)
    assert end.written == pair.write(text, budget, form=form, policy=policy)
    assert pieces == end.written.text
    assert end.cut == (end.written.tokens[-1] != "</s>")
  assert engine.unfinished == 0 and engine.alive


def test_an_output_may_be_cut(engine, pair):
  text, order = tiny_pair.TEXTS[7], ORDERS[0]
  whole = pair.write(text, order[0])
  pieces, end = rest(ask(engine, text, order, most=5)[1])
  assert end.written.tokens == whole.tokens[:5] and end.cut and whole.text.startswith(pieces)
  for form in ("hard", "prefix", "ledger"):
    with pytest.raises(ValueError, match=f"max_tokens=5: form='{form}' promises about the whole"):
      ask(engine, text, (0.1, form, None), most=5)


def test_who_gives_up_leaves_the_slot_and_nobody_waits_longer(engine):
  gone = [ask(engine, tiny_pair.TEXTS[7], ORDERS[0]) for _ in range(12)]
  for ticket, _ in gone[:11]:
    engine.give_up(ticket)
  assert engine.unfinished <= 1
  assert isinstance(rest(gone[11][1])[1], End)


def test_who_gives_up_before_its_turn_is_never_begun(pair):
  engine = Engine(pair, Settings(slots=1))  # not started: all of them wait
  asked = [ask(engine, text, ORDERS[0]) for text in tiny_pair.TEXTS[:4]]
  for ticket, _ in asked[:3]:
    engine.give_up(ticket)
  engine.start()
  assert isinstance(rest(asked[3][1])[1], End)
  engine.close()
  assert all(told.empty() for _, told in asked[:3])


@pytest.mark.parametrize(
    "text,order,error",
    [
        ("", ORDERS[0], "has nothing to read"),
        ("1 " * 99, ORDERS[0], "this pair reads at most 23"),
        ("a", (0.9, "share", None), "budget=0.9"),
        ("a", (0.2, "soft", None), "form='soft'"),
        ("a", (None, "share", decoding.make_policy("random", 0.5)), "would depend on the other"),
        ("a", (0.1, "share", "worth"), "has not learned what help is worth"),
    ],
)
def test_what_cannot_be_served_is_refused(engine, text, order, error):
  with pytest.raises(ValueError, match=error):
    ask(engine, text, order)
  assert engine.unfinished == 0


def test_a_full_queue_and_a_kind_too_many_are_refused(pair):
  engine = Engine(pair, Settings(slots=1, waiting=2, kinds=1))  # not started: nothing moves
  for _ in range(3):
    ask(engine, "a", ORDERS[0])
  with pytest.raises(BusyError, match="3 requests are served or wait: try again later"):
    ask(engine, "a", ORDERS[0])
  engine = Engine(pair, Settings(kinds=1))
  ask(engine, "a", ORDERS[0])
  with pytest.raises(BusyError, match="1 kinds of requests are served"):
    ask(engine, "a", ORDERS[1])


def test_a_kind_that_is_idle_makes_room_and_comes_back(pair):
  engine = Engine(pair, Settings(slots=2, kinds=2))
  engine.start()
  for order in (*ORDERS[:3], ORDERS[0]):
    _, told = ask(engine, "a", order)
    budget, form, policy = order
    assert rest(told)[1].written == pair.write("a", budget, form=form, policy=policy)
    assert len(engine._kinds) <= 2 and len(engine._lanes._programs) <= 2
  engine.close()


def test_all_texts_are_taken_or_none(pair):
  engine = Engine(pair, Settings(slots=1, waiting=2))  # not started: nothing moves
  order = engine.order(*ORDERS[0])
  with pytest.raises(ValueError, match=r"texts\[2\]"):
    engine.submit(["a", "b", ""], order, print)
  with pytest.raises(BusyError, match="0 requests are served or wait"):
    engine.submit(["a"] * 4, order, print)
  assert engine.unfinished == 0 and engine._inbox.empty()


def test_closing_finishes_what_has_begun(pair):
  engine = Engine(pair, Settings(slots=2))
  engine.start()
  told = [ask(engine, text, ORDERS[0])[1] for text in tiny_pair.TEXTS[:5]]
  engine.close()
  assert all(isinstance(rest(each)[1], End) for each in told)
  with pytest.raises(StoppedError, match="the server is closing"):
    ask(engine, "a", ORDERS[0])


def test_a_failure_is_told_to_all(pair, monkeypatch):
  engine = Engine(pair, Settings(slots=2))
  engine.start()
  engine.warm(engine.order(*ORDERS[0]))

  def broken(self, passes):
    raise MemoryError

  monkeypatch.setattr(Lane, "turn", broken)
  _, told = ask(engine, "a", ORDERS[0])
  assert str(rest(told)[1]) == "the engine has failed: MemoryError"
  engine._thread.join(10)
  assert not engine.alive and engine.unfinished == 0
  with pytest.raises(StoppedError, match="the engine has failed"):
    ask(engine, "a", ORDERS[0])


def test_a_kind_that_cannot_be_opened_fails_alone(pair, monkeypatch):
  engine = Engine(pair, Settings(slots=2))
  engine.start()
  engine.warm(engine.order(*ORDERS[0]))
  open_lane = pair.lanes(1).__class__.open

  def refusing(self, order, width):
    if order.form == "hard":
      raise RuntimeError("no memory")
    return open_lane(self, order, width)

  monkeypatch.setattr(pair.lanes(1).__class__, "open", refusing)
  _, failing = ask(engine, "a", ORDERS[1])
  assert str(rest(failing)[1]) == "requests of this kind cannot be served: RuntimeError"
  assert isinstance(rest(ask(engine, "a", ORDERS[0])[1])[1], End)
  engine.close()


def test_requests_of_many_threads_are_kept_apart(engine, pair):
  expected = {text: pair.write(text, 0.2).text for text in tiny_pair.TEXTS}
  wrong = []

  def client(number):
    for i in range(6):
      text = tiny_pair.TEXTS[(number + 5 * i) % len(tiny_pair.TEXTS)]
      if rest(ask(engine, text, ORDERS[0])[1])[0] != expected[text]:
        wrong.append(text)

  threads = [threading.Thread(target=client, args=(number,)) for number in range(10)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert not wrong
