"""A teacher pass over some rows of a batch changes what it costs and nothing that is written."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from prefix_models import FNS, MODULUS, make_params, sources
import pytest

from kdtw_jax.decoding import (
    Budget,
    Request,
    Sampling,
    SlotPrograms,
    checking,
    decode_stream,
    make_decoder,
    make_policy,
)

B, T = 7, 16
STUDENT = make_params(1, noise=0.6, eos_bias=0.2)
TEACHER = make_params(2, noise=0.6, eos_bias=0.2)
SOURCE = sources(B)
STUDENT_SOURCE = np.concatenate([np.array([[MODULUS - 9, 9]] * B, np.int32), SOURCE], axis=1)
OF_THE_BATCH = ("student_steps", "teacher_passes", "student_row_steps", "credit")

POLICIES = {
    "asks": make_policy("handover", 0.3),
    "checks": make_policy("verify", 0.2, rule="max_prob", k=5),
    "lenient": make_policy("lenient", 0.8),
    "copies": make_policy("prompt_lookup", 4),
    "worth": make_policy("worth", 0.5),
    "worth_advised": make_policy("worth", 0.5, advised=True, tolerance=0.0),
    "all": make_policy("route_gap", 1e6, tolerance=0.0),
    "alone": make_policy("teacher"),
}


@functools.cache
def decoder_of(pass_rows):
  return make_decoder(FNS, FNS, max_length=T, chunk=(2, 4), pass_rows=pass_rows)


def run(policy, pass_rows, budget=None):
  budget = Budget(np.ones(B, np.float32)) if budget is None else budget
  args = (STUDENT, TEACHER, STUDENT_SOURCE, SOURCE, budget, jax.random.key(0), policy)
  return jax.tree.map(np.asarray, decoder_of(pass_rows)(*args))


def assert_same(out, whole):
  for name in set(out._fields) - set(OF_THE_BATCH):
    np.testing.assert_array_equal(getattr(out, name), getattr(whole, name), err_msg=name)


@pytest.mark.parametrize("name", POLICIES)
def test_outputs_and_counts_are_those_of_whole_passes(name):
  whole, out = run(POLICIES[name], None), run(POLICIES[name], 3)
  assert_same(out, whole)
  assert out.teacher_calls.sum() > 0
  np.testing.assert_array_equal(out.student_steps, whole.student_steps)
  more = out.teacher_passes - whole.teacher_passes
  assert more == 0 if name in ("asks", "alone") else more >= 0


def test_a_row_alone_reads_its_source_when_it_needs_the_teacher():
  whole = run(POLICIES["worth"], None)
  decoder = decoder_of(None)
  for b in range(B):
    row = slice(b, b + 1)
    args = (STUDENT_SOURCE[row], SOURCE[row], Budget(np.ones(1, np.float32)), jax.random.key(0))
    out = decoder(STUDENT, TEACHER, *args, POLICIES["worth"])
    np.testing.assert_array_equal(out.tokens[0], whole.tokens[b])


def test_promises_are_kept_alike():
  budget = Budget(np.full(B, 0.3, np.float32), form="hard")
  assert_same(run(POLICIES["worth"], 2, budget), run(POLICIES["worth"], None, budget))


WHOLE = [checking.Pass(16, 4, few=False), checking.Pass(16, 20, few=False)]  # both, to choose from
FEW = checking.Pass(3, 20, few=True)


@pytest.mark.parametrize(
    "needing,inputs,chosen",
    [
        (2, 20, 2),  # 3 x 20 tokens
        (9, 20, 2),  # 3 passes of 3 x 20, not 16 x 20
        (16, 20, 1),  # 6 passes of 3 x 20 would be more than 16 x 20
        (3, 4, 2),  # 3 x 20, not 16 x 4
        (4, 4, 0),  # 16 x 4, not 2 passes of 3 x 20
    ],
)
def test_the_pass_with_the_fewest_tokens_is_taken(needing, inputs, chosen):
  called = jnp.arange(16) < needing
  found = checking.choose_pass([*WHOLE, FEW], called, jnp.where(called, inputs, 99))
  assert found == chosen


def sources_read(policy, *, rows, pass_rows):
  """The sources that the teacher reads, one after the other, and those of rows that call it."""
  read = []

  def start(params, source, max_length):
    jax.debug.callback(lambda source: read.extend(map(tuple, source.tolist())), source)
    return FNS.start(params, source, max_length)

  decoder = make_decoder(FNS, FNS._replace(start=start), max_length=T, pass_rows=pass_rows)
  args = (STUDENT_SOURCE[:rows], SOURCE[:rows], np.ones(rows, np.float32), jax.random.key(0))
  out = jax.block_until_ready(decoder(STUDENT, TEACHER, *args, policy))
  jax.effects_barrier()
  called = np.asarray(out.teacher_calls) > 0
  return read, {tuple(row) for row in SOURCE[:rows][called].tolist()}


@pytest.mark.parametrize(
    "rows,pass_rows,price,most", [(B, 3, 0.5, B), (B, 3, 2.0, 3), (B, 3, 1e6, 0), (1, None, 1e6, 0)]
)
def test_only_sources_of_rows_that_need_a_check_are_read(rows, pass_rows, price, most):
  read, called = sources_read(make_policy("worth", price), rows=rows, pass_rows=pass_rows)
  assert called <= set(read)
  assert len(set(read)) <= most and bool(read) == bool(most)


@pytest.mark.parametrize("rows", [B, 1])
def test_of_rows_that_ask_token_by_token_only_one_by_itself_waits_to_be_read(rows):
  never = make_policy("handover", -1e6)
  read, called = sources_read(never, rows=rows, pass_rows=3)
  assert not called and len(read) == (rows if rows > 1 else 0)


@pytest.mark.parametrize("batch,pass_rows", [(4, 2), (4, None), (1, None)])
@pytest.mark.parametrize("name", ["asks", "worth"])
def test_slots_write_the_same(name, batch, pass_rows):
  """Requests are admitted one by one."""
  programs = SlotPrograms(FNS, FNS, batch=batch, max_length=T, chunk=4, pass_rows=pass_rows)
  requests = [Request(*pair, budget=1.0) for pair in zip(STUDENT_SOURCE, SOURCE, strict=True)]
  whole = run(POLICIES[name], None)
  found = decode_stream(programs, STUDENT, TEACHER, requests, jax.random.key(0), POLICIES[name])
  for number, result in found:
    np.testing.assert_array_equal(result.tokens, whole.tokens[number])
    assert result.teacher_calls == whole.teacher_calls[number]


def test_drafts_whose_logits_are_read_are_checked_in_whole_passes():
  sampling = Sampling(temperature=1.0)
  decoder = make_decoder(FNS, FNS, max_length=T, sampling=sampling, pass_rows=2)
  args = (STUDENT, TEACHER, STUDENT_SOURCE, SOURCE, np.ones(B, np.float32), jax.random.key(0))
  out = decoder(*args, make_policy("speculative", 3))
  assert out.teacher_passes == out.teacher_row_passes.max()


def test_a_pass_has_a_row():
  args = (STUDENT, TEACHER, STUDENT_SOURCE, SOURCE, np.ones(B, np.float32), jax.random.key(0))
  with pytest.raises(ValueError, match="pass_rows=0: must be >= 1"):
    make_decoder(FNS, FNS, max_length=T, pass_rows=0)(*args, make_policy("speculative", 3))
