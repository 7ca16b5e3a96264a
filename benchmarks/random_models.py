"""Models of named sizes with random weights, and the bytes that they read."""

import time

import jax
import jax.numpy as jnp
import numpy as np

from kdtw_jax.base import Params
from kdtw_jax.models import Model, ModelConfig, build

# width, feed-forward, heads, head size, encoder layers, decoder layers, vocabulary
SIZES = {
    "demo-student": (32, 64, 4, 8, 1, 1, 2000),
    "demo": (128, 512, 4, 32, 2, 2, 2000),
    "multi30k-student": (32, 128, 4, 8, 2, 1, 4000),
    "multi30k": (192, 512, 4, 48, 3, 2, 4000),
    "tiny": (64, 256, 4, 16, 2, 1, 32128),
    "medium": (384, 1024, 6, 64, 3, 4, 4000),
    "t5-small": (512, 2048, 8, 64, 6, 6, 32128),
    "t5-base": (768, 3072, 12, 64, 12, 12, 32128),
    "t5-large": (1024, 4096, 16, 64, 24, 24, 32128),
    "t5-xl": (2048, 5120, 32, 64, 24, 24, 32128),
}
# width, feed-forward, heads, key heads, head size, layers, vocabulary
CAUSAL_SIZES = {
    "causal-mini": (256, 768, 4, 2, 64, 4, 151936),
    "qwen3-0.6b": (1024, 3072, 16, 8, 128, 28, 151936),
    "qwen3-1.7b": (2048, 6144, 16, 8, 128, 28, 151936),
    "qwen3-8b": (4096, 12288, 32, 8, 128, 36, 151936),
}
NAMES = sorted({**SIZES, **CAUSAL_SIZES})


def model_of(name: str, dtype: str) -> Model:
  """Builds the model of a named size, with weights and cache of a dtype."""
  if name in CAUSAL_SIZES:
    width, hidden, heads, key_heads, head, layers, vocab = CAUSAL_SIZES[name]
    kind = dict(
        kind="causal",
        num_key_heads=key_heads,
        num_decoder_layers=layers,
        feed_forward="gated-silu",
        tie_embeddings=name != "qwen3-8b",
        rope_theta=1e6,
    )
  else:
    width, hidden, heads, head, encoder, layers, vocab = SIZES[name]
    gated = name in ("t5-large", "t5-xl")  # v1.1: the models of these sizes worth distilling
    kind = dict(
        num_encoder_layers=encoder,
        num_decoder_layers=layers,
        feed_forward="gated-gelu" if gated else "relu",
        tie_embeddings=not gated,
    )
  return build(
      ModelConfig(
          vocab_size=vocab,
          d_model=width,
          d_ff=hidden,
          num_heads=heads,
          d_kv=head,
          dropout_rate=0.0,
          tau_id=3,
          dtype=dtype,
          param_dtype=dtype,
          **kind,
      )
  )


def sources(batch: int, length: int, student: str) -> np.ndarray:
  """Draws random sources `[batch, S]` without padding, of ids that a student of this size has."""
  vocab = min({**SIZES, **CAUSAL_SIZES}[student][-1], 1000)
  return np.random.default_rng(0).integers(4, vocab, (batch, length)).astype(np.int32)


def bytes_per_step(model: Model, params: Params, *, source: int, length: int) -> int:
  """Counts the bytes that one greedy step of one row reads: decoder weights, readout, caches."""
  flat = {
      jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)
  }
  read = sum(
      leaf.nbytes
      for name, leaf in flat.items()
      if "encoder" not in name
      and "cross_attention']['kv" not in name
      and not ("shared" in name and not model.config.tie_embeddings)
  )
  ids = jax.ShapeDtypeStruct((1, source), jnp.int32)
  cache = jax.eval_shape(lambda p, s: model.decoder_fns.start(p, s, length), params, ids)
  return read + sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(cache))


def streaming_seconds(num_bytes: int, dtype: str) -> float:
  """Times reading this many bytes in a matrix-vector product; the fastest of several runs."""
  rows = max(1, num_bytes // jnp.dtype(dtype).itemsize // 1024)
  matrix, vector = (jnp.ones(shape, dtype) for shape in ((rows, 1024), (1024,)))

  @jax.jit
  def read(matrix, vector):
    def one(_, v):
      return v + (matrix @ v)[0] * 1e-9

    return jax.lax.fori_loop(0, 8, one, vector)

  times = []
  for _ in range(8):
    started = time.perf_counter()
    jax.block_until_ready(read(matrix, vector))
    times.append((time.perf_counter() - started) / 8)
  return min(times[1:])
