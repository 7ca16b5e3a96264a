"""What every model has: the token table, the readout, and where its activations lie.

Not here: what lies between them (`encoder_decoder.py`, `causal_lm.py`, `t5gemma.py`).
Letters: B batch, C positions, S source length, P prompt length, D width, V vocabulary, R rows of
the readout matrix.
"""

from collections.abc import Callable
from typing import Any

from flax import nnx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
import numpy as np

from kdtw_jax.base import EOS_ID, MASKED_LOGIT, PAD_ID
from kdtw_jax.devices import Layout
from kdtw_jax.models.cache import KeyValue
from kdtw_jax.models.config import ModelConfig
from kdtw_jax.models.layers import Embedding, normal_param, soft_cap


class LanguageModel(nnx.Module):
  """Token ids to vectors, and hidden states to logits.

  Between layers, activations are split along their rows alone. With `fsdp` the compiler therefore
  gathers the kernels of one layer at a time, and not the rows.
  """

  def __init__(self, config: ModelConfig, unit: float, std: float, rngs: nnx.Rngs):
    """Makes the table of embeddings, stored divided by `unit`, with entries of this std."""
    self.config = config
    self.layout: Layout | None = None  # set by `functional.Model`
    sizes = config.vocab_size, config.d_model
    self.shared = Embedding(*sizes, unit, std, config.param_dtype, rngs)

  def make_readout(self, rngs: nnx.Rngs) -> None:
    """Makes the readout matrix of a model whose embeddings are not tied."""
    config = self.config
    if not config.tie_embeddings:
      shape = (config.vocab_size, config.d_model)
      self.readout_kernel = normal_param(
          rngs, shape, config.d_model**-0.5, config.param_dtype, ("vocab", "embed")
      )

  def started(self, inputs: Int[Array, "B C"]) -> Int[Array, "B C"]:
    """Puts the row of the decoder's first input where PAD_ID stands for it."""
    first = self.config.prompt_suffix[-1]
    return inputs if first == PAD_ID else jnp.where(inputs == PAD_ID, first, inputs)

  def prompt(self, source: Int[Array, "B S"]) -> tuple[Int[Array, "B P"], Bool[Array, "B P"]]:
    """Puts the prompt's prefix before each source and its suffix, but for its last, after it.

    Args:
      source: ends with EOS, which the suffix replaces, and PAD_ID behind it.

    Returns:
      The prompts, and True at their tokens.
    """
    prefix = jnp.asarray(self.config.prompt_prefix, jnp.int32)
    suffix = jnp.asarray((*self.config.prompt_suffix[:-1], PAD_ID), jnp.int32)
    closing, width = len(suffix) - 1, source.shape[1]
    lengths = jnp.maximum(jnp.sum(source != PAD_ID, axis=1) - 1, 0)  # without EOS
    inside = jnp.arange(len(prefix) + width - 1 + closing)[None] - len(prefix)
    after = inside - lengths[:, None]
    text = jnp.take_along_axis(source, jnp.clip(inside, 0, width - 1), axis=1)
    tokens = jnp.where(after < 0, text, suffix[jnp.clip(after, 0, closing)])
    if len(prefix):
      tokens = jnp.where(inside < 0, prefix[jnp.clip(inside, -len(prefix), -1)], tokens)
    return tokens, after < closing

  def embed(
      self, tokens: Int[Array, "B C"], table: Embedding | None = None
  ) -> Float[Array, "B C D"]:
    """Looks up embeddings in the compute dtype; the table stays split along its width.

    Args:
      tokens: ids.
      table: another than that of the readout, if there is one.
    """
    x = (self.shared if table is None else table)(tokens, self.config.compute_dtype)
    if self.layout is not None:
      x = self.layout.constrain(x, "replica", None, "embed")
    return self.by_rows(x)

  def by_rows(self, x: Float[Array, "B C D"]) -> Float[Array, "B C D"]:
    """Splits the residual stream along its rows, over the mesh of the model's layout."""
    return x if self.layout is None else self.layout.constrain(x, "batch", None, None)

  def by_heads(self, memory: KeyValue) -> KeyValue:
    """Splits keys and values along rows and heads, over the mesh of the model's layout."""
    if self.layout is None:
      return memory
    axes = ("batch", "heads", None, None)
    return KeyValue(*(self.layout.constrain(part, *axes) for part in memory))

  def rematerialised(self, layer: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a layer of a whole pass: its backward pass computes again what `remat` says."""
    if self.config.remat == "none":
      return layer
    policies = jax.checkpoint_policies
    keeps_dots = self.config.remat == "dots"
    return jax.checkpoint(
        layer, policy=policies.dots_with_no_batch_dims_saveable if keeps_dots else None
    )

  def readout_weight(self) -> Float[Array, "V D"]:
    """Returns the readout matrix, or the tied embedding as stored."""
    tied = self.config.tie_embeddings
    return self.shared.embedding[...] if tied else self.readout_kernel[...]

  def readout_input(self, hidden: Float[Array, "B C D"]) -> Float[Array, "B C D"]:
    """Scales hidden states to the unit of the stored readout matrix."""
    return hidden

  def scores(
      self, hidden: Float[Array, "B C D"], rows: Float[Array, "R D"]
  ) -> Float[Array, "B C R"]:
    """Computes float32 logits of rows of the readout matrix; no logits are made elsewhere."""
    scores = jnp.einsum(
        "bcd,rd->bcr",
        self.readout_input(hidden),
        rows.astype(hidden.dtype),
        preferred_element_type=jnp.float32,
    )
    return soft_cap(scores, self.config.logit_cap)

  def logits(self, hidden: Float[Array, "B C D"]) -> Float[Array, "B C V"]:
    """Computes float32 logits, with rows masked that are no tokens, and all that end an output one.

    No tokens are `<τ>`, padding rows, and the row of PAD_ID if the published table has none there.
    """
    logits = self.scores(hidden, self.readout_weight())
    config = self.config
    row = np.arange(config.vocab_size)
    is_masked = (row == config.tau_id) | (row >= (config.num_tokens or config.vocab_size))
    if config.has_pad_row:
      is_masked |= row == PAD_ID
    if config.stop_ids:
      stops = np.asarray((EOS_ID, *config.stop_ids))
      ends = jax.nn.logsumexp(logits[..., stops], axis=-1, keepdims=True)
      logits = jnp.where(jnp.asarray(row == EOS_ID)[None, None], ends, logits)
      is_masked |= np.isin(row, config.stop_ids)
    if not is_masked.any():
      return logits
    return jnp.where(jnp.asarray(is_masked)[None, None], MASKED_LOGIT, logits)
