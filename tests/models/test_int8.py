"""A model with kernels in eight bits computes as one with the same kernels written out."""

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdtw_jax import decoding
from kdtw_jax.models import int8, low_rank
from tests.decoding.compiled_loops import inside_loops
from tests.models.test_low_rank import BART, CAUSAL
from tests.models.tiny_models import cached_model


def written_out(params):
  """Ordinary params of those with `Int8`."""
  return jax.tree.map(
      lambda k: k.values * jnp.broadcast_to(k.unit, k.values.shape) if is_int8(k) else k,
      params,
      is_leaf=is_int8,
  )


def is_int8(leaf):
  return isinstance(leaf, int8.Int8)


def test_a_weight_is_rounded_to_127_steps_of_its_output():
  kernel = np.array([[1.0, 0.0, -5.08], [-12.7, 0.0, 0.02], [0.06, 0.0, 2.54]], np.float32)
  found = int8.rounded(jnp.asarray(kernel))
  np.testing.assert_array_equal(found.values, [[10, 0, -127], [-127, 0, 0], [1, 0, 64]])
  np.testing.assert_allclose(found.unit, [0.1, 0.0, 0.04], rtol=1e-6)
  several = np.random.default_rng(0).normal(size=(64, 3, 5)).astype(np.float32)
  found = int8.rounded(jnp.asarray(several, jnp.bfloat16))
  assert found.values.dtype == jnp.int8 and found.unit.shape == (3, 5)
  rounded = np.asarray(jnp.asarray(several, jnp.bfloat16), np.float32)
  error = np.abs(np.asarray(found.values, np.float32) * np.asarray(found.unit) - rounded)
  assert (error <= np.asarray(found.unit) * 0.5001).all() and error.max() > 0


@pytest.mark.parametrize("fields", [{}, CAUSAL, BART], ids=["t5", "causal", "bart"])
@pytest.mark.parametrize("dtype, near", [("float32", 1e-5), ("bfloat16", 0.05)])
def test_states_are_those_of_the_same_kernels_written_out(fields, dtype, near):
  model = cached_model(**fields, num_decoder_layers=1, dropout_rate=0.0, dtype=dtype).model
  params = model.init(jax.random.key(0))
  eight = int8.with_int8(params)
  flat = traverse_util.flatten_dict(eight)
  kernels = [path for path, leaf in flat.items() if is_int8(leaf)]
  assert {path[-1] for path in kernels} <= {*low_rank.KERNELS} and len(kernels) > 3
  for path, leaf in traverse_util.flatten_dict(params).items():
    if path not in kernels:
      assert flat[path] is leaf
  source, target = (
      jnp.asarray(rows) for rows in ([[5, 6, 7, 1], [8, 1, 0, 0]], [[9, 4, 1], [7, 5, 1]])
  )

  @jax.jit
  def states(params):
    return model.hidden(params, model.encode(params, source), target)

  found, wanted, before = (
      np.asarray(states(p), np.float32) for p in (eight, written_out(eight), params)
  )
  scale = np.abs(wanted).max()
  np.testing.assert_allclose(found / scale, wanted / scale, atol=near)
  error = np.abs(found - before).max() / scale
  assert 1e-4 < error < 0.1  # rounding is seen, and small


def test_a_loop_reads_eight_bits_and_no_copy_of_them():
  model = cached_model(num_decoder_layers=1).model
  params = int8.with_int8(model.init(jax.random.key(0)))
  decode = decoding.make_decoder(None, model.decoder_fns, max_length=8, eager=True)
  source, budget = jnp.ones((1, 4), jnp.int32), decoding.Budget(jnp.zeros(1))
  arguments = (None, params, None, source, budget, jax.random.key(0), decoding.TeacherAlone())
  loops = inside_loops(decode.lower(*arguments).compile().as_text())
  kernel = f"s8[{model.config.d_model},{model.config.d_ff}]"  # `wi`
  assert kernel in "\n".join(line for lines in loops.values() for line in lines)


def test_a_kernel_that_is_split_over_devices_stays_so():
  mesh = jax.make_mesh((2, 4), ("fsdp", "tensor"))
  split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("fsdp", "tensor"))
  kernel = jax.device_put(np.random.default_rng(0).normal(size=(16, 8)), split)
  found = int8.with_int8({"layer": {"wi": kernel, "norm": kernel}})["layer"]
  assert found["norm"] is kernel
  assert found["wi"].values.sharding.is_equivalent_to(split, 2)
  whole = int8.rounded(jnp.asarray(np.asarray(kernel)))
  jax.tree.map(np.testing.assert_array_equal, found["wi"], whole)
