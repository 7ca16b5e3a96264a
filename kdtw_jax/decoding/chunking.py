"""The width of the teacher's catch-up pass, chosen by timing passes on this machine.

A wide pass reads more missed tokens at once; a narrow pass is cheaper when few are missed. The best
widths depend on the hardware and on how often the student asks.
"""

from collections.abc import Mapping
import itertools
import time

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int
import numpy as np

from kdtw_jax import base
from kdtw_jax.decoding.state import Cache

WIDTHS = (1, 4, 8, 16, 32)
_PASSES = 8  # consecutive passes in one timing, so that the launch time is negligible


def pass_seconds(
    fns: base.DecoderFns,
    params: base.Params,
    source: Int[base.ArrayLike, "B S"],
    *,
    max_length: int,
    widths: tuple[int, ...] = WIDTHS,
    runs: int = 5,
) -> dict[int, float]:
  """Times one decoder pass of each width, including the readout of one position.

  Args:
    fns: the teacher.
    params: its parameters.
    source: sources in a batch of the size to time.
    max_length: number of inputs that the cache holds.
    widths: inputs per pass; widths above `max_length` are skipped.
    runs: number of timings of each width, interleaved; the fastest is kept.

  Returns:
    Seconds per pass by width.
  """

  def passes(params: base.Params, cache: Cache, tokens: Int[Array, "B width"]) -> Array:
    def extend(i: Array, carry: tuple[Cache, Array]) -> tuple[Cache, Array]:
      cache, total = carry
      hidden, cache = fns.extend(params, cache, tokens + total, jnp.full(tokens.shape[:1], i))
      logits = fns.readout(params, cache, hidden[:, -1:]).logits
      return cache, jnp.argmax(logits[0, 0]).astype(jnp.int32) % 2  # makes the next pass wait

    return jax.lax.fori_loop(0, _PASSES, extend, (cache, jnp.int32(0)))[1]

  source = jnp.asarray(source, jnp.int32)
  cache = jax.jit(fns.start, static_argnums=2)(params, source, max_length)
  run = jax.jit(passes)
  fastest = {}
  chunks = {w: jnp.full((source.shape[0], w), 5, jnp.int32) for w in widths if w <= max_length}
  for tokens in chunks.values():
    jax.block_until_ready(run(params, cache, tokens))  # compiles
  for _ in range(runs):
    for width, tokens in chunks.items():
      started = time.perf_counter()
      jax.block_until_ready(run(params, cache, tokens))
      seconds = (time.perf_counter() - started) / _PASSES
      fastest[width] = min(seconds, fastest.get(width, np.inf))
  return fastest


def seconds_per_ask(seconds: Mapping[int, float], widths: tuple[int, ...], use: float) -> float:
  """Returns the expected time of a catch-up if the teacher is asked at random.

      lag ~ Geometric(use);   E t(C),  C the narrowest width that covers the lag

  A lag beyond the widest is taken to cost in proportion.

  Args:
    seconds: t(C) by width C, from `pass_seconds`.
    widths: the compiled widths, ascending.
    use: asks per token, above 0 and at most 1.

  Returns:
    Seconds.

  Raises:
    ValueError: if `use` is outside (0, 1].
  """
  if not 0.0 < use <= 1.0:
    raise ValueError(f"use={use}: must be above 0 and at most 1")
  lag = np.arange(1, int(np.ceil(12 / use)) + 1)  # less than e^-12 of the asks lag more
  probability = use * (1 - use) ** (lag - 1)
  times = np.array([seconds[width] for width in widths])
  fits = np.minimum(np.searchsorted(widths, lag), len(widths) - 1)
  total = times[fits] * np.maximum(lag / widths[-1], 1.0)
  return float(np.sum(probability * total))


def best_chunk(
    seconds: Mapping[int, float], use: float, *, batch: int = 1, worth: float = 0.03
) -> tuple[int, ...]:
  """Returns the widths with the cheapest catch-up, for the `chunk` of `decode` on this machine.

  Some row of a batch asks more often than a single row does, `1 − (1 − use)^batch` per step, and
  every row catches up in that pass. So lags are shorter in a batch and narrow passes are better.

  Args:
    seconds: t(C) by width C, from `pass_seconds`.
    use: asks per token of a row, above 0 and at most 1.
    batch: number of rows that decode together.
    worth: share of the time that each further width must save, since each is compiled.

  Returns:
    The widths, ascending.
  """
  of_batch = 1.0 - (1.0 - use) ** batch

  def price(widths: tuple[int, ...]) -> float:
    return seconds_per_ask(seconds, widths, of_batch) * (1 + worth) ** len(widths)

  sets = (
      widths
      for n in range(1, len(seconds) + 1)
      for widths in itertools.combinations(sorted(seconds), n)
  )
  return min(sets, key=price)
