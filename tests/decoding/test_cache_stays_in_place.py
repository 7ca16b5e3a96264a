"""No loop of a compiled decoder copies a cache; and the detector sees the loops that do."""

import re

from compiled_loops import BODY, callees, computations, copies_in_loops, inside_loops
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdtw_jax.decoding import Budget, SlotPrograms, make_decoder, make_policy
from kdtw_jax.models.config import ModelConfig
from kdtw_jax.models.functional import build

CACHE = (3, 17, 5)


def extend(cache, position, new):
  rows = jnp.arange(CACHE[0])[:, None]
  columns = position[:, None] + jnp.arange(2)[None, :]
  return cache.at[rows, columns].set(new, mode="drop")


def in_place(ask, cache, position, new):
  del ask
  return extend(cache, position, new)


def by_loop(ask, cache, position, new):
  """What the decoder does: a loop of no or one turn."""

  def advance(carry):
    return extend(carry[0], position, new), jnp.array(False)

  return jax.lax.while_loop(lambda carry: carry[1], advance, (cache, jnp.any(ask)))[0]


def by_select(ask, cache, position, new):
  return jnp.where(ask[:, None, None], extend(cache, position, new), cache)


def compiled(update, keeps_previous=False):
  """A decoding loop in small: the cache is read and, by `update`, written at every turn.

  A loop that keeps the previous turn's cache too must copy it, however clever the compiler is: one
  buffer cannot be as it was and written.
  """

  def body(carry):
    i, cache, previous, total = carry
    new = jnp.broadcast_to(jnp.sin(total)[:, None, None], (CACHE[0], 2, CACHE[2]))
    written = update(total > 0, cache, jnp.broadcast_to(i, CACHE[:1]), new)
    kept = cache if keeps_previous else previous
    return i + 1, written, kept, total + jnp.sum(written, axis=(1, 2))

  def run(total):
    start = (jnp.int32(0), jnp.zeros(CACHE), jnp.zeros(CACHE), total)
    return jax.lax.while_loop(lambda carry: carry[0] < 9, body, start)

  return jax.jit(run).lower(jnp.ones(CACHE[:1])).compile().as_text()


@pytest.mark.parametrize("update, keeps_previous", [(by_select, False), (in_place, True)])
def test_the_detector_sees_bad_loops(update, keeps_previous):
  assert copies_in_loops(compiled(update, keeps_previous), {CACHE})


@pytest.mark.parametrize("update", [in_place, by_loop])
def test_the_detector_passes_good_loops(update):
  hlo = compiled(update)
  assert inside_loops(hlo)
  assert not copies_in_loops(hlo, {CACHE})


# Sizes that no other array has: 3 rows, 19 inputs, heads of 5 and 11, 7 source tokens.
B, T, S = 3, 19, 7
STUDENT_CONFIG = ModelConfig(
    vocab_size=29,
    d_model=16,
    d_ff=24,
    num_heads=2,
    d_kv=5,
    num_encoder_layers=1,
    num_decoder_layers=1,
    tau_id=3,
    gate="mlp",
    gate_hidden=8,
    value_heads=True,
    value_hidden=9,
)
TEACHER_CONFIG = ModelConfig(
    vocab_size=29,
    d_model=24,
    d_ff=40,
    num_heads=3,
    d_kv=11,
    num_encoder_layers=1,
    num_decoder_layers=2,
    tau_id=3,
)
STUDENT, TEACHER = build(STUDENT_CONFIG), build(TEACHER_CONFIG)
WEIGHTS = tuple(jax.eval_shape(model.init, jax.random.key(0)) for model in (STUDENT, TEACHER))


# Draft lengths: a pass of as many inputs as a head is wide has scores of a cache's size.
@pytest.mark.parametrize(
    "name,dial,fields",
    [
        ("handover", 0.0, {}),
        ("handover", 0.0, {"chunk": (1, 4)}),
        ("speculative", 3, {}),
        ("cascade_opt", 0.3, {}),
        ("big_little", 0.5, {"k": 9}),
        ("verify", 0.0, {}),
        ("verify", 0.5, {"rule": "max_prob"}),
        ("prompt_lookup", 3, {}),
        ("handover", 0.0, {"pass_rows": 2}),
        ("verify", 0.5, {"rule": "max_prob", "pass_rows": 2}),
    ],
    ids=lambda x: str(x),
)
def test_no_decoder_copies_a_cache(name, dial, fields):
  source = np.full((B, S), 5, np.int32)
  fields = dict(fields)
  chunk = fields.pop("chunk", 4)
  settings = dict(max_length=T, chunk=chunk, pass_rows=fields.pop("pass_rows", None))
  decoder = make_decoder(STUDENT.decoder_fns, TEACHER.decoder_fns, **settings)
  args = (*WEIGHTS, source, source, np.zeros((B,), np.float32), jax.random.key(0))
  assert_in_place(decoder.lower(*args, make_policy(name, dial, **fields)))


@pytest.mark.parametrize("pass_rows", [None, 2])
@pytest.mark.parametrize("name,dial,form", [("handover", 0.0, "hard"), ("worth", 0.5, "ledger")])
def test_no_slots_copy_a_cache(name, dial, form, pass_rows):
  """The loop of the server pauses, keeps a promise and writes into the state it was given."""
  fns = (STUDENT.decoder_fns, TEACHER.decoder_fns)
  settings = dict(batch=B, max_length=T, chunk=4, terms=Budget((), form=form))
  programs = SlotPrograms(*fns, pass_rows=pass_rows, **settings)
  source, policy = np.full((B, S), 5, np.int32), make_policy(name, np.full((B,), dial, np.float32))
  share, calls = np.full((B,), 0.2, np.float32), np.ones((B,), np.int32)
  rows = jax.eval_shape(
      programs.begin, WEIGHTS, source, source, share, calls, jax.random.key(0), policy
  )
  assert_in_place(programs.advance.lower(WEIGHTS, rows, np.int32(B), np.int32(8)))


def assert_in_place(lowered):
  source = np.full((B, S), 5, np.int32)
  caches = [
      jax.eval_shape(lambda p, s, fns=model.decoder_fns: fns.start(p, s, T), weight, source)
      for model, weight in zip((STUDENT, TEACHER), WEIGHTS, strict=True)
  ]
  shapes = {leaf.shape for leaf in jax.tree.leaves(caches) if leaf.ndim == 4}
  assert any(T in shape for shape in shapes) and any(S in shape for shape in shapes)
  hlo = lowered.compile().as_text()
  assert any(f",{T}," in line for lines in inside_loops(hlo).values() for line in lines)
  assert not copies_in_loops(hlo, shapes)


def direct(hlo: str, name: str) -> list[str]:
  """Lines of a computation and of those that it calls, but for bodies of loops."""
  found = computations(hlo)
  lines = [line for line in found[name] if " while(" not in line]
  return lines + [line for callee in callees(lines) & {*found} for line in direct(hlo, callee)]


@pytest.mark.parametrize("name, dial", [("handover", 0.0), ("speculative", 3), ("verify", 0.0)])
def test_one_row_is_read_by_the_teacher_in_a_loop_of_its_own(name, dial):
  """XLA must not move the encoder out of it: the loop around would read the source every turn."""
  source = np.full((1, S), 5, np.int32)
  decoder = make_decoder(STUDENT.decoder_fns, TEACHER.decoder_fns, max_length=T, chunk=4)
  args = (*WEIGHTS, source, source, np.zeros((1,), np.float32), jax.random.key(0))
  hlo = decoder.lower(*args, make_policy(name, dial)).compile().as_text()
  bodies = {
      body for lines in computations(hlo).values() for line in lines for body in BODY.findall(line)
  }
  wide = re.compile(rf"= f32\[(?:1,)?{S},{TEACHER_CONFIG.d_ff}\]\S* dot\(")
  reading = [body for body in bodies if any(map(wide.search, direct(hlo, body)))]
  assert reading and not [
      body for body in reading for line in computations(hlo)[body] if " while(" in line
  ]
