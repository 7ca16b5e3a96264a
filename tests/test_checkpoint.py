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
  state, _ = store.restore(tree())
  np.testing.assert_array_equal(state["a"]["w"], np.full((3, 2), 1.0))
  store.close()


def saved_steps(folder, *steps, keep=9):
  store = checkpoint.StageCheckpoints(folder, keep=keep)
  for step in steps:
    store.save(step, tree(step), {"iterator": step})
  store.close()


def reopened(folder, *, keep=9):
  store = checkpoint.StageCheckpoints(folder, keep=keep)
  return store, store.restore(tree())


def data_files(folder):
  """The files of a folder that hold data or describe it; orbax writes two more about itself."""
  names = ("commit_success.txt", "_CHECKPOINT_METADATA")
  return sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in names)


def flip_a_bit(path, generator):
  content = bytearray(path.read_bytes())
  content[generator.integers(len(content))] ^= 1 << generator.integers(8)
  path.write_bytes(content)


def test_no_checkpoint_that_can_be_read_is_an_error_with_the_remedy(tmp_path):
  saved_steps(tmp_path, 4, 5)
  for path in [*data_files(tmp_path / "4"), *data_files(tmp_path / "5")]:
    path.write_bytes(b"junk")
  store = checkpoint.StageCheckpoints(tmp_path, keep=3)
  with pytest.raises(ValueError, match=r"5 cannot be read .*\[4, 5\]\); delete .*begin the stage"):
    store.restore(tree())
  store.close()


def cut(path):
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [cut, os.remove])
def test_an_older_checkpoint_takes_the_place_of_a_damaged_one(tmp_path, capsys, damage):
  saved_steps(tmp_path, 3, 6)
  damage(max(data_files(tmp_path / "6" / "state"), key=lambda path: path.stat().st_size))
  store, (state, progress) = reopened(tmp_path)
  np.testing.assert_array_equal(state["a"]["w"], np.full((3, 2), 3.0))
  assert progress == {"iterator": 3}
  told = capsys.readouterr().err
  assert told.startswith(f"warning: checkpoint {tmp_path / '6'} cannot be read (state/")
  assert told.endswith(" is damaged or missing): going on from step 3, not 6\n")
  store.save(5, tree(5), {"iterator": 5})  # as a signal may ask
  store.close()
  assert (tmp_path / "6").is_dir()
  store, (_, progress) = reopened(tmp_path)
  assert progress == {"iterator": 5} and "from step 5, not 6" in capsys.readouterr().err
  store.save(6, tree(6), {"iterator": 6})
  store.close()
  store, (_, progress) = reopened(tmp_path)
  store.close()
  assert progress == {"iterator": 6} and not capsys.readouterr().err


def test_a_flipped_bit_in_any_file_of_data_is_found(tmp_path, capsys):
  generator = np.random.default_rng(0)
  saved_steps(tmp_path / "steps", 1, 2)
  checkpoint.save_params(tmp_path / "params", tree())
  newest = tmp_path / "steps" / "2"
  for path in [*data_files(newest), *data_files(tmp_path / "params")]:
    content = path.read_bytes()
    flip_a_bit(path, generator)
    if newest in path.parents:
      store, (state, _) = reopened(tmp_path / "steps")
      store.close()
      np.testing.assert_array_equal(state["a"]["w"], np.full((3, 2), 1.0))
      said = capsys.readouterr().err
    else:
      with pytest.raises(ValueError, match="; delete .* and run its stage again") as refused:
        checkpoint.load_params(tmp_path / "params", abstract())
      said = str(refused.value)
    assert path.name in said or path.name == "checksums.json"
    path.write_bytes(content)
  store, (state, _) = reopened(tmp_path / "steps")
  store.close()
  assert float(state["a"]["w"][0, 0]) == 2.0 and not capsys.readouterr().err
  checkpoint.load_params(tmp_path / "params", abstract())


# Files may not grow beyond a limit, as on a full disk.
FULL = """
import gc, resource, sys
import jax
from kdtw_jax import checkpoint, main
main.quiet_libraries()
small, large = (
    {str(i): jax.random.normal(jax.random.key(i), (n, n)) for i in range(16)} for n in (8, 256)
)
store = checkpoint.StageCheckpoints(sys.argv[1] + "/steps", keep=3)
store.save(1, small, {})
store.close()
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
store = checkpoint.StageCheckpoints(sys.argv[1] + "/steps", keep=3)
store.save(2, large, {})
for write in (store.close, lambda: checkpoint.save_params(sys.argv[1] + "/params", large)):
  try:
    write()
  except OSError as error:
    print(error)
gc.collect()  # tasks that failed speak up when they go
store = checkpoint.StageCheckpoints(sys.argv[1] + "/steps", keep=3)
state, _ = store.restore(small)
print("kept:", bool((state["0"] == small["0"]).all()))
"""


def test_a_full_disk_is_named_and_the_checkpoints_before_it_are_kept(tmp_path):
  done = subprocess.run(
      [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=False
  )
  assert done.returncode == 0 and not done.stderr, done.stderr
  first, second, last = done.stdout.splitlines()
  reason = "cannot be written (File too large): free space there, or allow writing. "
  assert first.startswith(f"checkpoint {tmp_path}/steps/2 {reason}The same command goes on")
  assert second.startswith(f"parameters {tmp_path}/params {reason}")
  assert last == "kept: True"


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
  where = devices.Layout(devices.make_mesh(1, 4, 2)).place(("embed", "mlp"), (64, 128))
  checkpoint.save_params(tmp_path / "p", {"w": jax.device_put(jnp.ones((64, 128)), where)})
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
