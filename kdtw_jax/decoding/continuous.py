"""Continuous batching: many requests through a few slots, each refilled when its row is done.

The loop of loop.py, stopped whenever enough rows are done; then new requests take their places. All
shapes are fixed, so two programs serve everything: one advances the batch, one admits requests.
Outputs do not depend on who shares the batch (drawn ones apart: all rows share one key).

Shape letters: B slots, R requests admitted at once, S source length, L most tokens.
"""

from collections.abc import Callable, Iterable, Iterator
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from kdtw_jax import base
from kdtw_jax.decoding import loop
from kdtw_jax.decoding.policy import Policy
from kdtw_jax.decoding.sampling import Sampling
from kdtw_jax.decoding.state import DecodeResult, DecodeState, Setup


class Request(NamedTuple):
  """One sentence to decode; all requests of a run are padded to the same lengths with PAD_ID.

  Attributes:
    student_source: `[S_student]` int32.
    teacher_source: `[S_teacher]` int32.
    budget: allowed share of asks.
  """

  student_source: Int[np.ndarray, " S_student"]
  teacher_source: Int[np.ndarray, " S_teacher"]
  budget: float = 0.0


class Finished(NamedTuple):
  """A decoded request.

  Attributes:
    index: number of the request, 0 the first.
    result: its row of a DecodeResult, numpy, without the batch axis; the counts of the whole batch
      (`student_steps`, `teacher_passes`) are those since the start of the run.
  """

  index: int
  result: DecodeResult


class _Slots(NamedTuple):
  """What the compiled programs hand on.

  Attributes:
    state: the loop's state; a free slot is a row that is done.
    teacher_source: `[B, S_teacher]` int32, for policies that copy from it.
    budget: `[B]` float32.
  """

  state: DecodeState
  teacher_source: Int[Array, "B S"]
  budget: Float[Array, " B"]


def make_continuous_decoder(
    student_fns: base.DecoderFns | None,
    teacher_fns: base.DecoderFns | None,
    *,
    batch: int,
    max_length: int,
    refill: int | None = None,
    sampling: Sampling = loop.GREEDY,
    chunk: int | tuple[int, ...] = 8,
    cap: str = "none",
    eager: bool = False,
    eos_id: int = base.EOS_ID,
) -> Callable[..., Iterator[Finished]]:
  """Makes a decoder that serves a stream of requests.

  Args:
    student_fns: the student, or None.
    teacher_fns: the teacher, or None.
    batch: B, slots.
    max_length: most tokens of a request.
    refill: rows that are done before new requests are admitted, and most that are admitted at
      once; default an eighth of the batch. Fewer keep the slots fuller, more stop the loop and
      encode less often.
    sampling: how tokens are chosen.
    chunk: as in `loop.decode`.
    cap: as in `loop.decode`.
    eager: as in `loop.decode`.
    eos_id: token that ends a request.

  Returns:
    `(student_params, teacher_params, requests, key, policy) -> iterator of Finished`, in the order
    in which they end. Requests are drawn as slots come free, so they may be a generator.

  Raises:
    ValueError: an impossible setting; by the returned function a dial that differs by row.
  """
  refill = max(1, batch // 8) if refill is None else refill
  if not 1 <= refill <= batch:
    raise ValueError(f"refill={refill}: must be from 1 to the batch of {batch}")

  def setup_of(params: Any, slots: _Slots | Any, policy: Policy) -> Setup:
    return Setup(
        (student_fns, params[0]),
        (teacher_fns, params[1]),
        slots.teacher_source,
        policy,
        slots.budget,
        sampling,
        cap,
        loop.widths_of(chunk, max_length),
        eager,
        eos_id,
    )

  def begin(
      params: Any, student_source: Any, teacher_source: Any, budget: Any, key: Any, policy: Policy
  ) -> _Slots:
    slots = _Slots(None, teacher_source, budget)
    state = loop.start(setup_of(params, slots, policy), student_source, max_length, key)
    return slots._replace(state=state)

  def admit(
      by_row: tuple[bool, ...], slots: _Slots, fresh: _Slots, rows: Int[Array, " R"]
  ) -> _Slots:
    """Puts the rows of `fresh` into these slots; a row number of B or more puts nothing."""
    old, tree = jax.tree.flatten(slots)
    placed = [
        have.at[rows].set(new, mode="drop", unique_indices=True) if varies else have
        for have, new, varies in zip(old, jax.tree.leaves(fresh), by_row, strict=True)
    ]
    return jax.tree.unflatten(tree, placed)

  def advance(params: Any, slots: _Slots, until: Any, policy: Policy) -> _Slots:
    return slots._replace(state=loop.advance(setup_of(params, slots, policy), slots.state, until))

  def harvest(params: Any, slots: _Slots, policy: Policy) -> DecodeResult:
    return loop.result_of(setup_of(params, slots, policy), slots.state)

  begin = jax.jit(begin)
  admit = jax.jit(admit, static_argnums=0, donate_argnums=1)
  advance = jax.jit(advance, donate_argnums=1)
  harvest = jax.jit(harvest)

  def serve(
      student_params: Any,
      teacher_params: Any,
      requests: Iterable[Request],
      key: Any,
      policy: Policy,
  ) -> Iterator[Finished]:
    loop.validate(policy, max_length=max_length, sampling=sampling, chunk=chunk, cap=cap)
    if any(np.ndim(leaf) for leaf in jax.tree.leaves(policy)):
      raise ValueError(f"policy {policy.name}: a dial by row has no meaning where rows change")
    params, waiting = (student_params, teacher_params), enumerate(requests)
    upcoming = list(itertools.islice(waiting, batch))
    if not upcoming:
      return
    empty = [
        request._replace(
            **{
                name: np.zeros_like(getattr(request, name))
                for name in ("student_source", "teacher_source")
            }
        )
        for _, request in upcoming[:1]
    ]
    slots = begin(params, *_stack(empty * batch), key, policy)
    wider = jax.eval_shape(begin, params, *_stack(empty * (batch + 1)), key, policy)
    by_row = tuple(jax.tree.leaves(jax.tree.map(lambda a, b: a.shape != b.shape, slots, wider)))
    owners: list[int | None] = [None] * batch
    while True:
      free = [row for row, owner in enumerate(owners) if owner is None]
      while free and upcoming:
        taken, upcoming = upcoming[:refill], upcoming[refill:]
        taken, back = taken[: len(free)], taken[len(free) :]
        upcoming = back + upcoming + list(itertools.islice(waiting, len(taken)))
        rows, free = free[: len(taken)], free[len(taken) :]
        for row, (index, _) in zip(rows, taken, strict=True):
          owners[row] = index
        filled = [request for _, request in taken] + empty * (refill - len(taken))
        fresh = begin(params, *_stack(filled), key, policy)
        slots = admit(
            by_row, slots, fresh, jnp.asarray([*rows, *range(batch, batch + refill - len(rows))])
        )
      if all(owner is None for owner in owners):
        return
      slots = advance(params, slots, refill if upcoming else batch, policy)
      done = np.asarray(slots.state.done)
      result = jax.tree.map(np.asarray, harvest(params, slots, policy))
      for row, owner in enumerate(owners):
        if owner is not None and done[row]:
          owners[row] = None
          yield Finished(owner, jax.tree.map(lambda x, r=row: x[r] if x.ndim else x, result))

  return serve


def _stack(requests: list[Request]) -> tuple[Array, Array, Array]:
  """Sources and budgets of requests as arrays `[R, S_student]`, `[R, S_teacher]`, `[R]`."""
  student, teacher, budget = zip(*requests, strict=True)
  return (
      jnp.asarray(np.stack(student), jnp.int32),
      jnp.asarray(np.stack(teacher), jnp.int32),
      jnp.asarray(budget, jnp.float32),
  )
