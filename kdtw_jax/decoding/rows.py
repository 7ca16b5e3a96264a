"""Some rows of a batch: which ones a smaller teacher pass takes, and how they come back.

Shape letters: B batch, R rows of the smaller pass.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from kdtw_jax import base
from kdtw_jax.decoding.policies.policy import present
from kdtw_jax.decoding.state import Cache, Setup


def pass_rows_of(teacher: base.DecoderFns | None, pass_rows: int | None, batch: int) -> int | None:
  """Returns R for a batch, or so many slots; None if every pass takes the whole batch."""
  if teacher is None or teacher.take is None:
    return None
  if batch == 1:
    return 1
  return pass_rows if pass_rows is not None and pass_rows < batch else None


def reads_later(setup: Setup) -> bool:
  """Returns True if the teacher reads a source when its row first needs it, and not at the start.

  So it does for drafts that it checks in smaller passes, which may spare whole rows. Where rows ask
  token by token almost all of a batch ask at some time, and one pass over all sources is cheaper;
  only a row by itself may never ask.
  """
  policy = setup.policy
  if setup.pass_rows is None or not policy.needs_teacher:
    return False
  return policy.drafts or (setup.alone and policy.catches_up and not setup.eager)


def first_of(
    rows: Bool[Array, " B"], number: int, then: Bool[Array, " B"] | None = None
) -> Int[Array, " R"]:
  """Returns the places of so many rows: the chosen ones first, `then` these, others at the end."""
  order = jnp.where(rows, 0, 2)
  if then is not None:
    order = jnp.where(then & ~rows, 1, order)
  return jnp.argsort(order, stable=True)[:number].astype(jnp.int32)


def only(rows: Bool[Array, " B"], places: Int[Array, " R"]) -> Int[Array, " R"]:
  """Moves the places of other rows beyond the batch, where nothing is written."""
  beyond = rows.shape[0] + jnp.arange(places.shape[0], dtype=places.dtype)
  return jnp.where(rows[places], places, beyond)


def among(places: Int[Array, " R"], batch: int) -> Bool[Array, " B"]:
  """Returns True for the rows at these places."""
  return jnp.any(places[:, None] == jnp.arange(batch)[None, :], axis=0)


def put(
    fns: base.DecoderFns, cache: Cache, part: Cache, places: Int[Array, " R"], before: Cache = None
) -> Cache:
  """Writes some rows back into a cache.

  Args:
    fns: the model.
    cache: the whole.
    part: the rows.
    places: where they belong; beyond the batch, nothing is written.
    before: what was taken from `cache`; arrays that `part` still has are not written again.
  """
  taken = present(fns.take)(cache, places) if before is None else before

  def one(whole: Array, old: Array, new: Array) -> Array:
    if new is old:  # nothing has been written
      return whole
    return new if old is whole else whole.at[places].set(new, mode="drop", unique_indices=True)

  return jax.tree.map(one, cache, taken, part)
