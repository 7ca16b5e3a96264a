"""Checkpoints: whole or absent, and clear about what is wrong with them."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdtw_jax import checkpoint, devices


def tree(value=1.0):
  return {"a": {"w": jnp.full((3, 2), value)}, "n": jnp.asarray(7, jnp.int32), "none": None}


def abstract(shape=(3, 2)):
  return {
      "a": {"w": jax.ShapeDtypeStruct(shape, jnp.float32)},
      "n": jax.ShapeDtypeStruct((), jnp.int32),
      "none": None,
  }


def test_states_come_back_with_their_progress_and_old_ones_go(tmp_path):
  store = checkpoint.StageCheckpoints(tmp_path, keep=2)
  assert store.restore(tree()) is None
  for step in (1, 2, 3):
    store.save(step, tree(step), {"iterator": {"next_index": step}})
  store.close()
  assert sorted(p.name for p in tmp_path.iterdir() if p.name.isdigit()) == ["2", "3"]
  store = checkpoint.StageCheckpoints(tmp_path, keep=2)
  state, progress = store.restore(tree())
  store.close()
  np.testing.assert_array_equal(state["a"]["w"], np.full((3, 2), 3.0))
  assert progress == {"iterator": {"next_index": 3}} and state["none"] is None


def test_a_half_written_checkpoint_is_passed_over(tmp_path):
  store = checkpoint.StageCheckpoints(tmp_path, keep=3)
  store.save(1, tree(1), {})
  store.close()
  (tmp_path / "2.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
  store = checkpoint.StageCheckpoints(tmp_path, keep=3)
  assert store.latest_step() == 1
  store.close()


def test_a_damaged_checkpoint_is_named_with_the_remedy(tmp_path):
  store = checkpoint.StageCheckpoints(tmp_path, keep=3)
  store.save(4, tree(4), {})
  store.close()
  for path in (tmp_path / "4" / "state").rglob("*"):
    if path.is_file():
      path.write_bytes(b"junk")
  store = checkpoint.StageCheckpoints(tmp_path, keep=3)
  with pytest.raises(ValueError, match="4 cannot be read .*delete that folder"):
    store.restore(tree())
  store.close()


def test_a_saved_state_is_a_copy_that_donation_cannot_touch(tmp_path):
  store = checkpoint.StageCheckpoints(tmp_path, keep=1)
  state = {"w": jnp.ones((512, 512))}
  store.save(1, state, {})
  bump = jax.jit(lambda s: jax.tree.map(lambda x: x + 1.0, s), donate_argnums=0)
  for _ in range(20):
    state = bump(state)
  store.close()
  store = checkpoint.StageCheckpoints(tmp_path, keep=1)
  found, _ = store.restore({"w": jnp.zeros((512, 512))})
  store.close()
  np.testing.assert_array_equal(found["w"], 1.0)


def test_params_round_trip_and_replace(tmp_path):
  for value in (1.0, 2.0):
    checkpoint.save_params(tmp_path / "p", tree(value))
  found = checkpoint.load_params(tmp_path / "p", abstract())
  np.testing.assert_array_equal(found["a"]["w"], np.full((3, 2), 2.0))


def test_params_that_are_missing_or_of_other_shapes_are_refused(tmp_path):
  with pytest.raises(FileNotFoundError, match="no parameters in .*run the stage"):
    checkpoint.load_params(tmp_path / "none", abstract())
  checkpoint.save_params(tmp_path / "p", tree())
  with pytest.raises(ValueError, match="cannot be read|other shapes"):
    checkpoint.load_params(tmp_path / "p", abstract((4, 2)))


def test_params_of_eight_devices_load_on_one(tmp_path):
  mesh = devices.make_mesh(4, 2)
  checkpoint.save_params(tmp_path / "p", devices.shard_params(mesh, {"w": jnp.ones((64, 128))}))
  script = """
import sys, jax
from kdtw_jax import checkpoint
assert jax.device_count() == 1
one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
like = {"w": jax.ShapeDtypeStruct((64, 128), "float32", sharding=one)}
assert (checkpoint.load_params(sys.argv[1], like)["w"] == 1).all()
"""
  done = subprocess.run(
      [sys.executable, "-c", script, str(tmp_path / "p")],
      capture_output=True,
      text=True,
      env={**os.environ, "XLA_FLAGS": ""},
  )
  assert done.returncode == 0, done.stderr
