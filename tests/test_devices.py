"""The mesh, and which axes of arrays are split over it. What runs over it: test_sharding.py."""

import jax
import numpy as np
import pytest

from kdtw_jax import devices
from kdtw_jax.devices import Layout, make_mesh
from kdtw_jax.models import ModelConfig, build
from kdtw_jax.training import optim
from tests import tiny


def test_a_mesh_takes_the_devices_that_are_left():
  assert dict(make_mesh(-1, 2, 2).shape) == {"data": 2, "fsdp": 2, "tensor": 2}
  assert dict(make_mesh(1, -1, 2).shape) == {"data": 1, "fsdp": 4, "tensor": 2}
  assert make_mesh(1, 1, 3).size == 3  # fewer devices than there are, if the config says so


@pytest.mark.parametrize(
    "sizes, said",
    [
        ((4, 2, 2), r"mesh=\(data=4, fsdp=2, tensor=2\): needs 16 devices, 8 at hand"),
        ((-1, 4, 4), r"mesh=\(data=-1, fsdp=4, tensor=4\): needs 16 devices, 8 at hand"),
        ((-1, 1, 3), r"8 devices do not divide by 3.*set mesh.data"),
        ((-1, -1, 2), "one of them may be -1"),
        ((0, 1, 1), "each must be >= 1"),
    ],
)
def test_a_mesh_that_does_not_fit_is_refused(sizes, said):
  with pytest.raises(ValueError, match=said):
    make_mesh(*sizes)


def test_named_axes_are_split_if_they_divide_and_the_model_may_use_the_axis():
  mesh = make_mesh(1, 4, 2)
  whole = jax.P(None, None)
  assert Layout(mesh).spec(("embed", "mlp"), (8, 6)) == jax.P("fsdp", "tensor")
  assert Layout(mesh).spec(("embed", "mlp"), (9, 7)) == whole
  assert Layout(mesh, "tensor").spec(("embed", "mlp"), (8, 6)) == jax.P(None, "tensor")
  assert Layout(mesh, "whole").spec(("vocab", "embed"), (8, 8)) == whole
  assert Layout(mesh).spec((None, "any other"), (8, 8)) == whole
  rows = jax.P(("data", "fsdp"), None, None, None)
  assert Layout(mesh, "whole").spec(("batch", "heads", None, None), (4, 2, 3, 3)) == rows


SHARDED = ModelConfig(
    vocab_size=256, d_model=128, d_ff=256, num_heads=4, num_encoder_layers=1, num_decoder_layers=1
)


def specs_of(optimizer, config=SHARDED):
  """The spec of each array of an optimizer's state, by name and path of its parameter."""
  model = build(config, Layout(make_mesh(1, 4, 2)))
  state = jax.eval_shape(
      optim.make_optimizer(tiny.stage("sft", optimizer=optimizer)).init, model.shapes
  )
  return {
      jax.tree_util.keystr(path, simple=True, separator="/"): where.spec
      for path, where in jax.tree_util.tree_leaves_with_path(model.shardings(state))
  }


@pytest.mark.parametrize(
    "optimizer, expected",
    [
        ("adamw", {"mu": jax.P("fsdp", "tensor"), "nu": jax.P("fsdp", "tensor")}),
        ("muon", {"mu": jax.P("fsdp", "tensor")}),
        ("adafactor", {"v_row": jax.P("fsdp"), "v_col": jax.P("tensor"), "v": jax.P(None)}),
    ],
)
def test_an_optimizers_state_lies_beside_its_parameter(optimizer, expected):
  found = specs_of(optimizer)
  for name, spec in expected.items():
    (mine,) = (
        got for path, got in found.items() if f"{name}/encoder/layer_0/feed_forward/wi" in path
    )
    assert mine == spec, name
  assert all(spec == jax.P() for path, spec in found.items() if path.endswith("count"))


def test_every_large_parameter_of_the_encoder_decoder_is_split():
  model = build(SHARDED, Layout(make_mesh(1, 4, 2)))
  small = 2**12
  for path, where in jax.tree_util.tree_leaves_with_path(model.shardings(model.shapes)):
    size = model.shapes
    for key in path:
      size = size[key.key]
    if size.size >= small:
      assert where.shard_shape(size.shape) != size.shape, path
      assert size.size // 8 == np.prod(where.shard_shape(size.shape)), path


def test_batches_are_split_over_data_and_fsdp_together():
  mesh = make_mesh(2, 2, 2)
  batch = devices.shard_batch(mesh, tiny.batch())
  assert devices.batch_parts(mesh) == 4
  assert {part.data.shape for part in batch.target.addressable_shards} == {(2, 7)}
