"""Continuous batching writes what each request would get alone, in fixed shapes."""

import functools

import jax
import numpy as np
from prefix_models import FNS, MODULUS, make_params, sources
import pytest

from kdtw_jax.decoding import (
    Budget,
    Request,
    SlotPrograms,
    decode_stream,
    make_decoder,
    make_policy,
)

T, N = 16, 23
STUDENT = make_params(1, noise=0.7, eos_bias=0.5)
TEACHER = make_params(2, noise=0.7, eos_bias=0.5)
SOURCE = sources(N, seed=4)
STUDENT_SOURCE = np.concatenate([np.array([[MODULUS - 9, 9]] * N, np.int32), SOURCE], axis=1)
BUDGET = np.linspace(0, 1, N).astype(np.float32)
REQUESTS = [Request(*row) for row in zip(STUDENT_SOURCE, SOURCE, map(float, BUDGET), strict=True)]


def serving(*fns, **settings):
  """`decode_stream` through slots of these settings."""
  return functools.partial(decode_stream, SlotPrograms(*fns, **settings))


def whole(policy, **settings):
  decoder = make_decoder(FNS, FNS, max_length=T, chunk=3)
  budget = Budget(BUDGET, form=settings.pop("form", "share"))
  args = (STUDENT, TEACHER, STUDENT_SOURCE, SOURCE, budget, jax.random.key(0), policy)
  return jax.tree.map(np.asarray, decoder(*args))


@pytest.mark.parametrize(
    "name,dial",
    [
        ("student", None),
        ("teacher", None),
        ("handover", -0.3),
        ("oracle", 0.5),
        ("speculative", 3),
        ("verify", -0.3),
        ("prompt_lookup", 3),
        ("cascade_opt", 0.3),
    ],
)
def test_outputs_are_those_of_one_large_batch(name, dial):
  policy = make_policy(name, dial)
  expected = whole(policy)
  assert len(set(expected.length.tolist())) > 3
  serve = serving(FNS, FNS, batch=5, max_length=T, refill=2, chunk=3)
  found = {
      f.number: f.result for f in serve(STUDENT, TEACHER, iter(REQUESTS), jax.random.key(0), policy)
  }
  assert sorted(found) == list(range(N))
  for name in expected._fields:
    if name not in ("student_steps", "teacher_passes", "credit"):
      rows = np.stack([getattr(found[i], name) for i in range(N)])
      np.testing.assert_array_equal(rows, getattr(expected, name), err_msg=name)


@pytest.mark.parametrize("batch,refill", [(1, 1), (4, 4), (8, 3), (40, 5)])
def test_any_number_of_slots_serves_all(batch, refill):
  policy = make_policy("handover", -0.3)
  expected = whole(policy, form="prefix")
  serve = serving(
      FNS, FNS, batch=batch, max_length=T, refill=refill, chunk=3, terms=Budget((), form="prefix")
  )
  for number, result in serve(STUDENT, TEACHER, REQUESTS, jax.random.key(0), policy):
    np.testing.assert_array_equal(result.tokens, expected.tokens[number])


def test_short_requests_do_not_wait_for_long_ones():
  """Slots are refilled while others run on: fewer steps than batches that end together."""
  policy, key = make_policy("student"), jax.random.key(0)
  serve = serving(FNS, FNS, batch=4, max_length=T, refill=1)
  last = list(serve(STUDENT, TEACHER, REQUESTS, key, policy))[-1].result
  lengths = whole(policy).length
  together = sum(lengths[i : i + 4].max() for i in range(0, N, 4))
  assert last.student_steps < together
  assert last.student_steps >= lengths.sum() / 4


def test_two_programs_serve_everything():
  traces = []

  def counted(params, cache, tokens, positions):
    traces.append(1)
    return FNS.extend(params, cache, tokens, positions)

  serve = serving(FNS._replace(extend=counted), FNS, batch=4, max_length=T)
  for requests in (REQUESTS, REQUESTS[:3], REQUESTS[:11]):
    list(serve(STUDENT, TEACHER, requests, jax.random.key(0), make_policy("student")))
  once = len(traces)
  list(serve(STUDENT, TEACHER, REQUESTS[:7], jax.random.key(0), make_policy("student")))
  assert len(traces) == once


def test_nothing_to_do_and_impossible_settings():
  serve = serving(FNS, FNS, batch=4, max_length=T)
  assert list(serve(STUDENT, TEACHER, [], jax.random.key(0), make_policy("student"))) == []
  by_row = make_policy("handover", np.zeros(4))
  with pytest.raises(ValueError, match="a dial per row"):
    next(serve(STUDENT, TEACHER, REQUESTS, jax.random.key(0), by_row))
  with pytest.raises(ValueError, match="refill=5: must be from 1 to the batch of 4"):
    SlotPrograms(FNS, FNS, batch=4, max_length=T, refill=5)
