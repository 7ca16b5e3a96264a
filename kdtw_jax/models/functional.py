"""Models as pure functions of (params, arrays); params are a nested dict of arrays.

The only interface to the NNX modules, which are split once here and merged inside each function. No
jit, no state, and no randomness except from the keys that callers pass. Not here: training steps.
Letters: B batch, S source length, T target length, C chunk, D width, V vocabulary.

Example:
  model = build(ModelConfig(vocab_size=100))
  params = model.init(jax.random.key(0))
  encoded = model.encode(params, source)
  hidden = model.hidden(params, encoded, shift_right(target))
  logits = model.logits(params, hidden)
"""

from collections.abc import Callable, Mapping
import dataclasses
import functools
from typing import Any, NamedTuple

from flax import nnx, traverse_util
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from kdtw_jax.base import PAD_ID, ArrayLike, DecoderFns, Params, PRNGKey, StepOutput, Worth
from kdtw_jax.devices import Layout, Names
from kdtw_jax.models import config_checks
from kdtw_jax.models.cache import Cache, Encoded, take_rows
from kdtw_jax.models.config import ModelConfig
from kdtw_jax.models.headed import HeadedModel, make


@dataclasses.dataclass(frozen=True)
class Model:
  """The pure functions of a model; hashable, so that it can be a static argument of jit.

  Params are nested dicts of arrays with stable string keys: `shared`, `encoder`, `decoder`,
  `readout_kernel` (untied), `source_tokens` (an encoder's own table), and the heads `gate`,
  `price`, `value`, `cost_value`, `worth`.

  Attributes:
    config: the architecture.
    graphdef: the NNX module's structure.
    shapes: the params' structure, a `jax.ShapeDtypeStruct` for each.
    axes: the logical axes of each parameter, by its path; see `kdtw_jax.devices`.
    layout: where its arrays lie; None leaves them where they are.
  """

  config: ModelConfig
  graphdef: Any
  shapes: Params = dataclasses.field(compare=False, repr=False)
  axes: Mapping[tuple[str, ...], Names] = dataclasses.field(compare=False, repr=False)
  layout: Layout | None = None

  def init(self, key: PRNGKey) -> Params:
    """Draws new params; see the modules of the kinds for the distributions."""
    return nnx.to_pure_dict(nnx.state(make(self.config, nnx.Rngs(params=key))))

  def encode(
      self, params: Params, source: Int[ArrayLike, "B S"], *, dropout_key: PRNGKey | None = None
  ) -> Encoded:
    """Encodes a source padded with PAD_ID; a dropout key switches dropout on."""
    return self._merge(params).encode(jnp.asarray(source), dropout_key)

  def hidden(
      self,
      params: Params,
      encoded: Encoded,
      inputs: Int[ArrayLike, "B T"],
      *,
      dropout_key: PRNGKey | None = None,
  ) -> Float[Array, "B T D"]:
    """Computes the last hidden states of a causal pass over the inputs `shift_right(target)`.

    The hidden state at t has seen inputs 0 .. t, so it predicts target t.
    """
    return self._merge(params).hidden(encoded, jnp.asarray(inputs), dropout_key)

  def logits(self, params: Params, hidden: Float[Array, "B C D"]) -> Float[Array, "B C V"]:
    """Computes float32 logits of any slice of positions; the entry of `<τ>` is MASKED_LOGIT."""
    return self._merge(params).logits(hidden)

  def price(self, params: Params, encoded: Encoded) -> Float[Array, " B"]:
    """Computes p(x_B) of each source in nats; zeros unless the gate is 'difficulty_price'."""
    return self._merge(params).price_of(encoded)

  def price_or(
      self, params: Params, encoded: Encoded, given: Float[Array, " B"]
  ) -> Float[Array, " B"]:
    """Computes p(x_B) of each source in nats, or returns `given` if the gate reads no price."""
    return self.price(params, encoded) if self.config.gate == "difficulty_price" else given

  def budget(self, params: Params, encoded: Encoded) -> Float[Array, " B"]:
    """Predicts the budget that each source states, 0..1; for a model with a price."""
    return self._merge(params).budget_of(encoded)

  def gate_logits(
      self,
      params: Params,
      logits: Float[Array, "B C V"],
      hidden: Float[Array, "B C D"],
      price: Float[Array, " B"],
  ) -> Float[Array, "B C"]:
    """Computes the log-odds of asking; zeros without a gate. See `Headed`."""
    return self._merge(params).gate_logits(logits, hidden, price)

  def readout(
      self, params: Params, price: Float[Array, " B"], hidden: Float[Array, "B C D"]
  ) -> StepOutput:
    """Computes the logits, the gate logits and the predicted gaps of a slice of positions."""
    model = self._merge(params)
    logits = model.logits(hidden)
    gate_logits = model.gate_logits(logits, hidden, price)
    return StepOutput(logits, gate_logits, model.gap(gate_logits, price))

  def values(
      self, params: Params, hidden: Float[Array, "B C D"], price: Float[Array, " B"]
  ) -> tuple[Float[Array, "B C"], Float[Array, "B C"]]:
    """Computes V and V_C (float32) at a price in nats; raises ValueError without value heads."""
    return self._merge(params).values(hidden, price)

  def worth(
      self,
      params: Params,
      hidden: Float[Array, "B D"],
      hidden_mean: Float[Array, "B D"],
      signals: Float[Array, "B E"],
  ) -> Worth:
    """Computes what help with a draft is worth; see `kdtw_jax.models.heads.WorthHead`."""
    return self._merge(params).worth(hidden, hidden_mean, signals)

  def start(self, params: Params, source: Int[ArrayLike, "B S"], max_length: int) -> Cache:
    """Encodes the source and allocates a cache for `max_length` decoder inputs."""
    model = self._merge(params)
    encoded = model.encode(jnp.asarray(source))
    return model.start(encoded, model.price_of(encoded), max_length)

  def extend(
      self,
      params: Params,
      cache: Cache,
      tokens: Int[ArrayLike, "B C"],
      positions: Int[ArrayLike, " B"],
  ) -> tuple[Float[Array, "B C D"], Cache]:
    """Appends decoder inputs to the cache; see `kdtw_jax.base.DecoderFns`."""
    return self._merge(params).extend(cache, jnp.asarray(tokens), jnp.asarray(positions))

  @property
  def decoder_fns(self) -> DecoderFns:
    """The functions that the decoding loop needs."""
    worth = self.worth if self.config.value_heads else None
    take = take_rows if self.layout is None or self.layout.mesh.size == 1 else None
    return DecoderFns(self.start, self.extend, _readout_of_cache(self.readout), worth, take)

  def shardings(self, tree: Any) -> Any:
    """Returns where each array of a pytree lies, by the parameter that it belongs to.

    An array belongs to the parameter whose path ends its own, e.g. an average or an optimizer's
    moment. A moment that lacks one axis of its parameter (Adafactor's) is split along the others.
    All other arrays are whole on every device.

    Args:
      tree: arrays or their shapes: params, some of them, an optimizer's state or a training state.

    Returns:
      A pytree of `NamedSharding`; of None for a model without a layout.
    """
    flat: dict[tuple[str, ...], Any] = dict(traverse_util.flatten_dict(self.shapes))

    def place(path, leaf):
      if self.layout is None:
        return None
      names = tuple(str(getattr(key, "key", getattr(key, "name", key))) for key in path)
      owner = next((names[i:] for i in range(len(names)) if names[i:] in flat), None)
      axes = (None,) * len(leaf.shape)
      if owner is not None:
        axes = _axes_of(leaf.shape, self.axes[owner], flat[owner].shape)
      return self.layout.place(axes, leaf.shape)

    return jax.tree_util.tree_map_with_path(place, tree)

  def placed(self, tree: Any) -> Any:
    """Returns each array's `jax.ShapeDtypeStruct`, with the sharding that `shardings` says."""
    return jax.tree.map(
        lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
        tree,
        self.shardings(tree),
    )

  def _merge(self, params: Params) -> HeadedModel:
    model = nnx.merge(self.graphdef, params)
    model.layout = self.layout
    return model


class Models(NamedTuple):
  """The functions of a student and of its teacher."""

  student: Model
  teacher: Model


class _OneKey(nnx.Rngs):
  """Rngs with one key for all parameters: making keys dominates the time of an abstract init."""

  def __init__(self, key: PRNGKey):
    self._key = key

  def params(self) -> PRNGKey:
    return self._key


@functools.cache
def build(config: ModelConfig, layout: Layout | None = None) -> Model:
  """Makes the pure functions of a model, once per config and layout; allocates nothing.

  Args:
    config: the architecture; validated here.
    layout: where its arrays lie; None leaves them where they are.

  Returns:
    A frozen record of functions.

  Raises:
    ValueError: if a field of the config is invalid.
  """
  config_checks.check(config)
  abstract = nnx.eval_shape(lambda: make(config, _OneKey(jax.random.key(0))))
  state = nnx.state(abstract)
  axes = {
      tuple(map(str, path)): param.get_metadata().get("axes") or (None,) * len(param.shape)
      for path, param in nnx.to_flat_state(state)
  }
  return Model(config, nnx.graphdef(abstract), nnx.to_pure_dict(state), axes, layout)


def _axes_of(
    shape: tuple[int, ...], axes: Names, param_shape: tuple[int, ...]
) -> tuple[str | None, ...]:
  """Returns the logical axes of an array that belongs to a parameter.

  Example: shape (512,) of a parameter ("embed", "mlp") of shape (128, 512) -> ("mlp",)
  """
  if shape == param_shape:
    return tuple(axes)
  for i in range(len(param_shape)):  # of two axes of one size the first: right too, if not as fast
    if shape == (*param_shape[:i], *param_shape[i + 1 :]):
      return (*axes[:i], *axes[i + 1 :])
  return (None,) * len(shape)


def shift_right(targets: Int[ArrayLike, "B T"]) -> Int[Array, "B T"]:
  """Returns the decoder inputs of a teacher-forced pass: PAD_ID, then all targets but the last.

  Example: [[7, 8, 1, 0]] -> [[0, 7, 8, 1]]
  """
  return jnp.pad(jnp.asarray(targets), ((0, 0), (1, 0)), constant_values=PAD_ID)[:, :-1]


def with_duals(params: Params, duals: Float[ArrayLike, " K"]) -> Params:
  """Returns params whose price head uses the duals; unchanged for a gate without a price."""
  if "price" not in params:
    return params
  return {**params, "price": {**params["price"], "duals": jnp.asarray(duals)}}


def clear_tau(params: Params, config: ModelConfig) -> Params:
  """Returns params whose `<τ>` logit is 0 everywhere, as the start of a gate that trains it.

  In a published table that row is padding, with arbitrary values left from training.
  """
  tied = config.tie_embeddings
  owner, name = (params["shared"], "embedding") if tied else (params, "readout_kernel")
  cleared = {**owner, name: owner[name].at[config.tau_id].set(0.0)}
  return {**params, "shared": cleared} if tied else cleared


def num_params(params: Params) -> int:
  """Counts the numbers in the params."""
  return sum(leaf.size for leaf in jax.tree.leaves(params))


def _readout_of_cache(readout: Callable[..., StepOutput]) -> Callable[..., StepOutput]:
  """Wraps the readout for the decoding loop: takes the price from the cache."""

  def readout_of_cache(params: Params, cache: Cache, hidden: Float[Array, "B C D"]) -> StepOutput:
    return readout(params, cache.price, hidden)

  return readout_of_cache
