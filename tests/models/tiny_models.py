"""Tiny models with their functions compiled: what the tests of the models run on."""

import dataclasses
import functools

import jax

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
