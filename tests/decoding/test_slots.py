"""Slots: requests come, go and are interrupted, and write what they would alone."""

import jax
import numpy as np
from prefix_models import FNS
import pytest
from test_continuous import REQUESTS, STUDENT, TEACHER, T

from kdtw_jax.decoding import Budget, SlotPrograms, Slots, make_decoder, make_policy

B = 6
OWN = [REQUESTS[i] for i in (4, 6, 8, 9, 13, 17)]  # whose outputs are long
POLICIES = [
    ("student", None),
    ("teacher", None),
    ("handover", -0.3),
    ("oracle", 0.5),
    ("speculative", 3),
    ("verify", -0.3),
    ("worth", 0.5),
    ("prompt_lookup", 3),
]


def alone(policy):
  """The requests in one batch that nothing interrupts."""
  student, teacher, share, _ = map(np.stack, zip(*OWN, strict=True))
  decoder = make_decoder(FNS, FNS, max_length=T, chunk=3)
  args = (STUDENT, TEACHER, student, teacher, share.astype(np.float32), jax.random.key(0), policy)
  return jax.tree.map(np.asarray, decoder(*args))


def open_slots(policy, **settings):
  programs = SlotPrograms(FNS, FNS, batch=B, max_length=T, refill=2, chunk=3, **settings)
  return Slots(programs, (STUDENT, TEACHER), REQUESTS[0], jax.random.key(0), policy)


def assert_written(results, row, expected, number):
  for field in ("tokens", "length", "asks", "teacher_calls", "written_by_teacher"):
    np.testing.assert_array_equal(
        getattr(results, field)[row], getattr(expected, field)[number], err_msg=field
    )


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("name,dial", POLICIES)
def test_a_pause_changes_nothing_and_what_was_seen_stays(name, dial, steps):
  policy = make_policy(name, dial)
  slots = open_slots(policy)
  slots.admit({row: (OWN[row], policy) for row in range(B)})
  pauses, before = 0, slots.results()
  while not slots.done().all():
    slots.advance(B, steps)
    now = slots.results()
    for row, length in enumerate(before.length):  # nothing that was seen is taken back
      np.testing.assert_array_equal(now.tokens[row, :length], before.tokens[row, :length])
    before, pauses = now, pauses + 1
  assert pauses > 2
  expected = alone(policy)
  for row in range(B):
    assert_written(before, row, expected, row)


@pytest.mark.parametrize("steps", [3, None])
def test_slots_that_have_been_open_for_long_go_on(steps):
  """Counts of passes wrap around after a few days."""
  policy = make_policy("handover", -0.3)
  slots, expected = open_slots(policy), alone(policy)
  slots.admit({row: (OWN[row], policy) for row in range(B)})
  state = slots._rows.state._replace(student_steps=np.int32(2**31 - 4))
  slots._rows = slots._rows._replace(state=state)
  for _ in range(100 if steps else 1):
    slots.advance(B, *[steps] * bool(steps))
  assert slots.done().all()
  for row in range(B):
    assert_written(slots.results(), row, expected, row)


def test_a_request_starts_while_others_are_written():
  policy = make_policy("handover", -0.3)
  slots, expected = open_slots(policy), alone(policy)
  first = int(np.argmax(expected.length[:3]))
  slots.admit({4: (OWN[first], policy)})
  slots.advance(B, 2)
  assert 0 < slots.results().length[4] < expected.length[first]
  slots.admit({0: (OWN[3], policy), 5: (OWN[5], policy)})
  slots.advance(B)
  results = slots.results()
  for row, number in ((4, first), (0, 3), (5, 5)):
    assert_written(results, row, expected, number)


def test_rows_have_dials_of_their_own():
  dials = [-1.0, -0.3, 0.0, 0.4]
  slots = open_slots(make_policy("handover", 9.0))
  slots.admit({row: (OWN[2], make_policy("handover", dial)) for row, dial in enumerate(dials)})
  slots.advance(B)
  results = slots.results()
  for row, dial in enumerate(dials):
    assert_written(results, row, alone(make_policy("handover", dial)), 2)
  assert len(set(results.asks[: len(dials)].tolist())) > 2


def test_a_request_that_is_stopped_leaves_its_slot():
  policy = make_policy("handover", -0.3)
  slots, expected = open_slots(policy), alone(policy)
  slots.admit({row: (OWN[row], policy) for row in range(3)})
  slots.advance(B, 1)
  longest = int(np.argmax(expected.length[:3]))
  slots.stop([longest])
  assert slots.done()[longest] and not slots.done()[:3].all()
  at_stop = slots.results().length[longest]
  assert not slots._rows.state.waiting[longest]  # for a pass that nobody needs
  slots.admit({longest: (OWN[4], policy)})
  slots.advance(B)
  results = slots.results()
  assert at_stop < expected.length[longest]
  for row in range(3):
    assert_written(results, row, expected, 4 if row == longest else row)


@pytest.mark.parametrize("form", ["hard", "ledger"])
def test_promises_hold_across_pauses(form):
  policy = make_policy("handover", 9.0)  # asks wherever it may
  slots = open_slots(policy, terms=Budget((), form=form))
  slots.admit({row: (OWN[row], policy) for row in range(B)})
  while not slots.done().all():
    slots.advance(B, 2)
  results = slots.results()
  share = np.array([OWN[row].budget for row in range(B)])
  assert 0 < results.asks.sum() <= (share * results.length).sum() + 1e-4
  if form == "hard":
    assert (results.asks <= share * results.length + 1e-4).all()
