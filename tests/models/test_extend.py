"""Decoding through the cache: any chunking, any row offset, rollback, the end of the cache."""

import functools
import re

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_models import cached_model

from kdtw_jax.models import shift_right

LENGTH = 8
# float32 sums of differently shaped products; hidden states have unit size.
TOLERANCE = {"rtol": 0, "atol": 1e-5}


def positions(*values: int) -> jax.Array:
  return jnp.array(values, jnp.int32)


@functools.cache
def case():
  """Model, empty cache, decoder inputs and the hidden states of one full pass."""
  tiny = cached_model()
  rng = np.random.default_rng(1)
  source = rng.integers(4, 30, (4, 7)).astype(np.int32)
  source[1, 4:] = 0
  target = rng.integers(4, 30, (4, LENGTH)).astype(np.int32)
  full = np.asarray(tiny.forward(source, target))
  return tiny, tiny.start(source, LENGTH), np.asarray(shift_right(target)), full


def gather_chunk(inputs: np.ndarray, offsets: np.ndarray, size: int) -> np.ndarray:
  """Row b's inputs number offsets[b] .. offsets[b] + size - 1; nonsense past the end."""
  padded = np.pad(inputs, ((0, 0), (0, size)), constant_values=7)
  return np.take_along_axis(padded, offsets[:, None] + np.arange(size)[None], axis=1)


@settings(max_examples=20, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from([1, 3]), st.lists(st.integers(0, 3), min_size=4, max_size=4)),
        min_size=1,
        max_size=8,
    )
)
def test_any_ragged_chunking_equals_one_full_pass(steps):
  """Each step feeds C inputs and each row keeps its own number of them: the rest is stale."""
  tiny, cache, inputs, full = case()
  offsets = np.zeros(4, np.int32)
  for size, kept in steps:
    chunk = gather_chunk(inputs, offsets, size)
    hidden, cache = tiny.extend(cache, chunk, offsets)
    for row, offset in enumerate(offsets):
      end = min(offset + size, LENGTH)
      np.testing.assert_allclose(hidden[row, : end - offset], full[row, offset:end], **TOLERANCE)
    offsets = np.minimum(offsets + np.minimum(kept, size), LENGTH - 1).astype(np.int32)


def test_every_row_offset_in_one_call():
  """A filled cache is re-entered by each row at another place, over stale wrong entries."""
  tiny, cache, inputs, full = case()
  for start in range(0, LENGTH, 4):
    offsets = np.arange(start, start + 4, dtype=np.int32)
    wrong = np.full((4, LENGTH), 9, np.int32)
    _, filled = tiny.extend(cache, inputs, positions(0, 0, 0, 0))
    _, stale = tiny.extend(filled, wrong, offsets)  # as if drafts were rejected
    hidden, _ = tiny.extend(stale, gather_chunk(inputs, offsets, 1), offsets)
    for row, offset in enumerate(offsets):
      np.testing.assert_allclose(hidden[row, 0], full[row, offset], **TOLERANCE)


def test_stale_entries_would_be_seen_by_a_later_position():
  """The control of the test above: what it calls masked does change the states after it."""
  tiny, cache, inputs, full = case()
  _, stale = tiny.extend(cache, np.full((4, LENGTH), 9, np.int32), positions(0, 0, 0, 0))
  hidden, _ = tiny.extend(stale, inputs[:, 3:4], positions(3, 3, 3, 3))
  assert np.abs(np.asarray(hidden[:, 0]) - full[:, 3]).max() > 1e-2


@pytest.mark.parametrize("size", [1, 3])
def test_writes_past_the_end_are_dropped(size):
  tiny, cache, inputs, _ = case()
  _, filled = tiny.extend(cache, inputs, positions(0, 0, 0, 0))
  at = positions(LENGTH, LENGTH + 5, LENGTH, 1000)
  hidden, after = tiny.extend(filled, np.full((4, size), 9, np.int32), at)
  jax.tree.map(np.testing.assert_array_equal, filled, after)
  assert np.isfinite(hidden).all()


def test_writes_past_the_end_are_dropped_for_one_row_and_one_token(tiny_model, text):
  tiny = tiny_model()
  source, target = text[0][:1], text[1][:1]
  cache = tiny.start(source, LENGTH)
  hidden, cache = tiny.extend(cache, shift_right(target), positions(0))
  full = tiny.forward(source, target)
  np.testing.assert_allclose(hidden, full, **TOLERANCE)
  again, same = tiny.extend(cache, shift_right(target)[:, 5:6], positions(5))
  np.testing.assert_allclose(again[:, 0], full[:, 5], **TOLERANCE)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), cache, same)
  _, after = tiny.extend(cache, np.full((1, 1), 9, np.int32), positions(LENGTH))
  jax.tree.map(np.testing.assert_array_equal, cache, after)


CACHE_LENGTH = 29  # prime: no other array of the tiny model has as many entries as a cache buffer


def cache_sized_copies(loop_fn, cache, num_entries: int) -> list[str]:
  """Instructions in the compiled loop that copy, transpose or select a whole cache buffer."""
  text = jax.jit(loop_fn).lower(cache).compile().as_text()
  body = text[: text.index("\nENTRY")]
  found = []
  pattern = re.compile(r"= \w+\[([\d,]+)\]\S* (copy|transpose|select|concatenate)\(")
  for line in body.splitlines():
    match = pattern.search(line)
    if match and np.prod([int(n) for n in match[1].split(",")]) >= num_entries:
      found.append(line.strip())
  return found


def loop(step_fn):
  """A while_loop that carries a cache and its position."""

  def run(cache):
    def body(carry):
      cache, i = carry
      return step_fn(cache, i), i + 1

    return jax.lax.while_loop(lambda carry: carry[1] < 20, body, (cache, jnp.int32(0)))

  return run


@pytest.mark.parametrize(("batch", "size"), [(1, 1), (1, 4), (4, 1), (4, 4)])
def test_a_loop_carries_the_cache_without_copies(tiny_model, text, batch, size):
  tiny = tiny_model()
  cache = tiny.start(text[0][:batch], CACHE_LENGTH)

  def step(cache, i):
    tokens = jnp.full((batch, size), 5, jnp.int32) + i
    return tiny.model.extend(tiny.params, cache, tokens, jnp.full((batch,), i))[1]

  assert not cache_sized_copies(loop(step), cache, batch * 2 * 6 * CACHE_LENGTH)


def test_the_search_for_copies_finds_one(tiny_model, text):
  cache = tiny_model().start(text[0], CACHE_LENGTH)

  def step(cache, i):
    layers = [
        jax.tree.map(lambda x: jnp.where(x > i.astype(x.dtype), x + 1, x), layer)
        for layer in cache.self_attention
    ]
    return cache._replace(self_attention=tuple(layers))

  assert cache_sized_copies(loop(step), cache, 4 * 2 * 6 * CACHE_LENGTH)


def test_bfloat16_cache(tiny_model, text):
  tiny = tiny_model(dtype="bfloat16")
  source, target = text
  cache = tiny.start(source, LENGTH)
  assert {x.dtype for x in jax.tree.leaves((cache.self_attention, cache.cross_attention))} == {
      jnp.dtype("bfloat16")
  }
  hidden, _ = tiny.extend(cache, shift_right(target), positions(0, 0, 0, 0))
  full = np.asarray(tiny.forward(source, target), np.float32)
  # bfloat16 has 8 bits: rounding in another order gives a few hundredths at unit size.
  np.testing.assert_allclose(np.asarray(hidden, np.float32), full, rtol=0, atol=0.1)
