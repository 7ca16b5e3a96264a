"""The loop: logs, checkpoints, resume, and the refusal of a loss that is not a number."""

import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kdtw_jax import losses, preemption
from kdtw_jax.terminal import read_log
from kdtw_jax.training import loop, step
from kdtw_jax.training import state as state_lib
from tests import event_files, tiny


class Batches:
  """An endless iterator whose state is a number, like the pipeline's."""

  def __init__(self):
    self.next_index = 0

  def __iter__(self):
    return self

  def __next__(self):
    self.next_index += 1
    return tiny.batch(rows=2, seed=self.next_index)

  def get_state(self):
    return {"next_index": self.next_index}

  def set_state(self, state):
    self.next_index = state["next_index"]


def mean_target(params, frozen, batch, key, duals):
  loss = (params["w"] - jnp.mean(batch.target)) ** 2 + 0.1 * jax.random.normal(key)
  loss = jnp.where(batch.example_id[0] < 0, jnp.nan, loss)
  return {"target": losses.Mean(loss, jnp.ones(()))}, {}


def run(directory, steps, batches=None, **overrides):
  optimizer = optax.adam(0.1)
  settings = dict(
      steps=steps,
      log_every=2,
      checkpoint_every=3,
      directory=directory,
      keep=2,
      prepare=lambda state, batch, key: batch,
  )
  return loop.run_stage(
      "toy",
      state=state_lib.create({"w": jnp.zeros(())}, optimizer),
      frozen=None,
      step_fn=step.make_train_step(mean_target, optimizer),
      batches=batches or Batches(),
      key=jax.random.key(0),
      **(settings | overrides),
  )


def test_a_resumed_stage_gives_the_numbers_of_an_unbroken_one(tmp_path):
  whole = run(tmp_path / "whole", 7)
  run(tmp_path / "parts", 3)
  parts = run(tmp_path / "parts", 7)
  np.testing.assert_array_equal(whole.state.params["w"], parts.state.params["w"])
  logs = [
      (tmp_path / name / "log.jsonl").read_text(encoding="utf-8") for name in ("whole", "parts")
  ]
  assert logs[0] == logs[1] and read_log(tmp_path / "parts")["step"] == (2, 3, 4, 6, 7)


def test_a_resumed_log_drops_what_comes_again(tmp_path):
  run(tmp_path, 3)
  path = tmp_path / "log.jsonl"
  before = path.read_text(encoding="utf-8")
  killed = '{"step": 4, "loss": 9.0}\n{"step": 5, "lo'  # logged after the last checkpoint
  path.write_text(before + killed, encoding="utf-8")
  run(tmp_path, 4)
  after = path.read_text(encoding="utf-8")
  assert after.startswith(before) and after.count("\n") == before.count("\n") + 1
  assert "9.0" not in after and len(read_log(tmp_path)["loss"]) == 3


def test_a_log_is_thinned_and_leaves_out_what_is_not_finite(tmp_path):
  lines = [f'{{"step": {i}, "a": {i}, "b": {"null" if i == 8 else i}}}\n' for i in range(1, 402)]
  (tmp_path / "log.jsonl").write_text("".join(lines), encoding="utf-8")
  found = read_log(tmp_path)
  assert set(found) == {"step", "a"} and found["step"] == tuple(range(2, 402, 3))
  assert read_log(tmp_path / "none") == {}


@pytest.fixture
def handlers(heard_signals):
  """The handlers of the command line, until the test ends."""
  preemption.install()


def signalled(number, at):
  """A `prepare` that receives a signal while it makes a step's data."""

  def prepare(state, batch, key):
    if int(state.step) + 1 == at:
      os.kill(os.getpid(), number)
    return batch

  return prepare


@pytest.mark.parametrize(
    "number, at, status",
    [
        (signal.SIGTERM, 7, 0),
        (signal.SIGHUP, 2, 0),
        (signal.SIGINT, 6, 130),
        (signal.SIGTERM, 8, 0),
    ],
)
def test_a_signal_saves_the_step_and_changes_no_number(
    tmp_path, capsys, handlers, number, at, status
):
  settings = dict(log_every=4, checkpoint_every=6)  # log lines: 4, 6, 8
  whole = run(tmp_path / "whole", 8, **settings)
  lines = [line.split("loss") for line in capsys.readouterr().out.splitlines()]
  with pytest.raises(SystemExit) as left:
    run(tmp_path / "parts", 8, prepare=signalled(number, at), **settings)
  assert left.value.code == status
  told = capsys.readouterr()
  assert told.err == (
      f"{signal.Signals(number).name}: stage toy is saved at step {at}; "
      "the same command goes on from there\n"
  )
  batches = Batches()
  parts = run(tmp_path / "parts", 8, batches, **settings)
  assert batches.next_index == 8
  assert (whole.summary["loss"], whole.summary["steps"]) == (parts.summary["loss"], 8)
  jax.tree.map(np.testing.assert_array_equal, whole.state, parts.state)
  again = (told.out + capsys.readouterr().out).splitlines()
  assert [line.split("loss")[1] for line in again] == [loss for _, loss in lines]


def test_an_ended_stage_keeps_its_seconds(tmp_path, handlers):
  with pytest.raises(SystemExit):
    run(tmp_path, 8, prepare=signalled(signal.SIGTERM, 5), log_every=8, checkpoint_every=8)
  store = loop.checkpoint.StageCheckpoints(tmp_path / "checkpoints", keep=2)
  _, saved = store.restore(state_lib.create({"w": jnp.zeros(())}, optax.adam(0.1)))
  store.close()
  assert saved["seconds"] > 0 and saved["iterator"] == {"next_index": 5}
  assert np.isnan(saved["loss"]) and len(saved["unlogged"]) == 5


def test_a_finished_stage_takes_no_further_step(tmp_path):
  first = run(tmp_path, 4)
  batches = Batches()
  again = run(tmp_path, 4, batches)
  assert batches.next_index == 4  # set by the restore, not by reading
  np.testing.assert_array_equal(first.state.params["w"], again.state.params["w"])


def test_a_stage_of_no_steps_has_no_loss(tmp_path):
  assert run(tmp_path, 0).summary["loss"] is None


def test_a_loss_that_is_not_finite_stops_with_stage_step_and_examples(tmp_path):
  class Poisoned(Batches):

    def __next__(self):
      batch = super().__next__()
      if self.next_index == 5:
        batch = batch._replace(example_id=np.array([-7, 9], np.int32))
      return batch

  with pytest.raises(loop.NonFiniteError, match=r"toy, step 5: loss is nan.*\[-7, 9\]"):
    run(tmp_path, 8, Poisoned())
  store = loop.checkpoint.StageCheckpoints(tmp_path / "checkpoints", keep=2)
  restored, _ = store.restore(state_lib.create({"w": jnp.zeros(())}, optax.adam(0.1)))
  assert int(restored.step) == 3  # nothing after the bad step was saved
  store.close()


def test_parameters_that_are_not_finite_are_never_saved(tmp_path):
  """The last update of a stage has no loss after it that would show it."""
  optimizer = optax.sgd(jnp.inf)
  with pytest.raises(loop.NonFiniteError, match=r"toy, step 1: params hold values that are not"):
    loop.run_stage(
        "toy",
        state=state_lib.create({"w": jnp.zeros(())}, optimizer),
        frozen=None,
        step_fn=step.make_train_step(mean_target, optimizer),
        batches=Batches(),
        prepare=lambda state, batch, key: batch,
        key=jax.random.key(0),
        steps=1,
        log_every=1,
        checkpoint_every=1,
        directory=tmp_path,
        keep=1,
    )
  assert not [child for child in (tmp_path / "checkpoints").iterdir() if child.name.isdigit()]


@pytest.mark.parametrize("part", ["params", "ema_params", "duals"])
def test_every_part_of_a_state_is_checked(part):
  state = state_lib.create({"w": jnp.ones(2)}, optax.sgd(0.1), ema=True, duals=jnp.ones(3))
  loop.check_finite("toy", 1, state)
  bad = state._replace(**{part: jax.tree.map(lambda x: x.at[0].set(jnp.nan), getattr(state, part))})
  with pytest.raises(loop.NonFiniteError, match=f"toy, step 1: {part} hold"):
    loop.check_finite("toy", 1, bad)


def test_losses_are_fetched_at_log_points_only(tmp_path, monkeypatch):
  fetched = []
  original = jax.device_get
  monkeypatch.setattr(loop.jax, "device_get", lambda x: fetched.append(len(x)) or original(x))
  monkeypatch.setattr(loop, "check_finite", lambda *args: fetched.append("state"))
  run(tmp_path, 6, log_every=3, checkpoint_every=6)
  assert fetched == [3, 3, "state"]


def test_stages_share_the_tags_of_tensorboard_and_log_no_point_twice(tmp_path):
  def killed(state, batch, key):
    if int(state.step) == 4:
      raise KeyboardInterrupt
    return batch

  with pytest.raises(KeyboardInterrupt):
    run(tmp_path, 7, prepare=killed)  # has logged step 4, and saved step 3
  assert [step for step, _ in event_files.logged(tmp_path)["train/loss"]] == [2, 3, 4]
  run(tmp_path, 7)
  curves, log = event_files.logged(tmp_path), read_log(tmp_path)
  assert set(curves) == {f"train/{name}" for name in {*log, "tokens_per_second"} - {"step"}}
  for name in {*log} - {"step"}:
    steps, values = zip(*curves[f"train/{name}"], strict=True)
    assert steps == log["step"] == (2, 3, 4, 6, 7)
    np.testing.assert_allclose(values, log[name], rtol=1e-6)
