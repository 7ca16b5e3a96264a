"""Tiny models with their functions compiled: what the tests of the models run on."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from kdtw_jax.models import Model, ModelConfig, build, shift_right

TINY = ModelConfig(
    vocab_size=30,
    d_model=16,
    d_ff=24,
    num_heads=2,
    d_kv=6,
    num_encoder_layers=1,
    num_decoder_layers=2,
    relative_attention_num_buckets=8,
    relative_attention_max_distance=12,
    tau_id=3,
    gate_hidden=8,
    value_hidden=8,
)

# The tests compile many small programs and run each once: optimising them takes half of the time.
fast_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@dataclasses.dataclass(frozen=True)
class TinyModel:
  """A model, its params, and its functions compiled."""

  model: Model
  params: dict

  @functools.cached_property
  def encode(self):
    return functools.partial(fast_jit(self.model.encode), self.params)

  @functools.cached_property
  def extend(self):
    return functools.partial(fast_jit(self.model.extend), self.params)

  @functools.cached_property
  def start(self):
    return functools.partial(fast_jit(self.model.start, static_argnums=2), self.params)

  @functools.cached_property
  def teacher_forced(self):
    """`outputs` compiled, of the model's own params: (source, target) -> ..."""
    return functools.partial(fast_jit(self.outputs), self.params)

  def outputs(self, params, source, target):
    """Hidden states, price, logits and gate logits of teacher forcing."""
    encoded = self.model.encode(params, source)
    hidden = self.model.hidden(params, encoded, shift_right(target))
    price = self.model.price(params, encoded)
    return hidden, price, *self.model.readout(params, price, hidden)[:2]

  def forward(self, source, target):
    """Hidden states of teacher forcing."""
    return self.teacher_forced(source, target)[0]


@functools.lru_cache(maxsize=64)
def cached_model(**changes) -> TinyModel:
  model = build(dataclasses.replace(TINY, **changes))
  return TinyModel(model, model.init(jax.random.key(0)))


def lively(made: TinyModel) -> TinyModel:
  """The model with noise in each parameter: no bias is zero, and no norm the identity."""
  keys = iter(jax.random.split(jax.random.key(1), 200))
  params = jax.tree.map(
      lambda leaf: leaf + 0.2 * jax.random.normal(next(keys), leaf.shape), made.params
  )
  return dataclasses.replace(made, params=params)


def assert_ragged_chunks_are_one_pass(model: TinyModel, source, target) -> None:
  """Rows go on, stay or go back by themselves; what a row wrote beyond its place is stale.

  For four rows.
  """
  rows, length = target.shape
  full, cache = model.forward(source, target), model.start(source, length)
  inputs = np.pad(shift_right(target), ((0, 0), (0, 3)), constant_values=7)
  offsets = np.zeros(rows, np.int32)
  for size, kept in ((3, (0, 1, 2, 3)), (1, (1, 0, 1, 1)), (3, (3, 3, 3, 3)), (3, (-2, 2, -3, 1))):
    chunk = np.take_along_axis(inputs, offsets[:, None] + np.arange(size)[None], axis=1)
    hidden, cache = model.extend(cache, chunk, offsets)
    for row, offset in enumerate(offsets):
      end = min(offset + size, length)
      np.testing.assert_allclose(
          hidden[row, : end - offset], full[row, offset:end], rtol=0, atol=1e-5
      )
    offsets = np.clip(offsets + np.array(kept), 0, length - 1).astype(np.int32)
  wrong = np.full((rows, 3), 7, np.int32)
  late, same = model.extend(cache, wrong, jnp.full((rows,), length, jnp.int32))
  jax.tree.map(np.testing.assert_array_equal, cache, same)  # writes past the end are dropped
  assert np.isfinite(late).all()
