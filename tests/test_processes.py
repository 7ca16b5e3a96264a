"""What processes tell each other, with others that are made up; real: test_several_processes.py."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdtw_jax import checkpoint, devices, preemption, processes
from kdtw_jax.training import loop
from tests.test_preemption import ROOT

SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "node[1-2]",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
}


@pytest.fixture
def joined(monkeypatch):
  """The arguments with which processes are joined."""
  found = []
  monkeypatch.setattr(jax.distributed, "initialize", lambda **how: found.append(how))
  monkeypatch.setattr(jax.config, "update", lambda *_: None)
  for name in [name for name in os.environ if name.startswith(("SLURM_", "OMPI_"))]:
    monkeypatch.delenv(name)
  return found


class Others:
  """Stands for the exchange with another process, which answers the same, or what is given."""

  def __init__(self, monkeypatch, index, *answers):
    self._index, self._answers, self.told = index, list(answers), []
    monkeypatch.setattr(processes, "count", lambda: 2)
    monkeypatch.setattr(processes, "index", lambda: index)
    monkeypatch.setattr(processes, "gathered", self._gathered)

  def _gathered(self, value):
    self.told.append(value)
    other = self._answers.pop(0) if self._answers else value
    return [value, other] if self._index == 0 else [other, value]


# Who they are -------------------------------------------------------------------------------------


def test_one_process_joins_none_and_imports_no_jax(joined):
  processes.start(None, None, None)
  processes.start("localhost:1", 1, 0)
  assert not joined and (processes.count(), processes.index()) == (1, 0)
  script = "import sys; from kdtw_jax import processes as p; p.of_first(p.count()); p.is_first(); "
  script += "assert 'jax' not in sys.modules"
  subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    "given, said",
    [
        (("host:1", 2, None), "--coordinator=host:1 --processes=2: --process missing: give all"),
        ((None, None, 0), "--process=0: --coordinator and --processes missing"),
        (("host", 2, 0), "--coordinator=host: must be HOST:PORT of process 0"),
        (("host:1", 2, 2), "--process=2: must be 0 <= --process < --processes"),
        (("host:1", 0, 0), "--processes=0 --process=0: must be 0 <= "),
    ],
)
def test_flags_that_name_no_processes_are_refused(joined, given, said):
  with pytest.raises(ValueError, match=said):
    processes.start(*given)
  assert not joined


def test_flags_join_what_they_name_whatever_started_the_process(joined, monkeypatch):
  for name, value in SLURM.items():
    monkeypatch.setenv(name, value)
  processes.start("host:1", 3, 2)
  (how,) = joined
  assert (how["coordinator_address"], how["num_processes"], how["process_id"]) == ("host:1", 3, 2)
  assert how["cluster_detection_method"] == "deactivate"


@pytest.mark.parametrize("tasks, expected", [("2", ["slurm"]), ("1", [])])
def test_the_processes_of_a_slurm_step_are_found_if_they_are_several(
    joined, monkeypatch, tasks, expected
):
  for name, value in {**SLURM, "SLURM_NTASKS": tasks}.items():
    monkeypatch.setenv(name, value)
  processes.start(None, None, None)
  assert [how["cluster_detection_method"] for how in joined] == expected


def test_a_pod_of_kubernetes_is_taken_for_no_cluster(joined, monkeypatch):
  monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
  processes.start(None, None, None)
  assert not joined


def test_processes_that_do_not_meet_are_told_so_in_a_line(joined, monkeypatch):
  def late(**_):
    raise RuntimeError("DEADLINE_EXCEEDED: Barrier timed out.\nMore")

  monkeypatch.setattr(jax.distributed, "initialize", late)
  with pytest.raises(OSError, match=r"--process=0: the processes did not find each other \(DEAD"):
    processes.start("host:1", 2, 0)


# What they tell each other ------------------------------------------------------------------------


def test_the_first_acts_alone_and_its_result_is_everyones(monkeypatch):
  acted = []
  Others(monkeypatch, 0)
  assert processes.first_alone(lambda: acted.append("first") or 3) == 3
  Others(monkeypatch, 1, [3, None])
  assert processes.first_alone(lambda: acted.append("second")) == 3
  assert acted == ["first"]


def test_an_action_of_the_first_may_hold_others(monkeypatch):
  others = Others(monkeypatch, 0)
  processes.first_alone(lambda: processes.first_alone(lambda: "inner"))
  assert len(others.told) == 1  # one exchange: nobody answers inside


def test_a_failure_of_the_first_reaches_all(monkeypatch):
  def full():
    raise OSError("no space")

  others = Others(monkeypatch, 0)
  with pytest.raises(OSError, match="no space"):
    processes.first_alone(full)
  Others(monkeypatch, 1, others.told[0])
  with pytest.raises(ValueError, match="process 0: no space"):
    processes.first_alone(lambda: None)
  Others(monkeypatch, 0, "no such file")
  with pytest.raises(ValueError, match="process 1: no such file"), processes.together():
    pass


def test_a_file_that_not_all_see_names_the_remedy(monkeypatch, tmp_path):
  monkeypatch.setattr(processes, "_SEEN_WITHIN", 0.3)
  Others(monkeypatch, 1, [None, None], None)
  with pytest.raises(ValueError, match="process 1 does not see it: give a --workdir on a file sys"):
    processes.first_alone(lambda: None, makes=tmp_path / "made")


def test_a_signal_to_one_ends_all_where_they_agree(monkeypatch):
  signals = preemption.Deferred()
  Others(monkeypatch, 0, 15)
  assert loop._received(signals, agree=False) is None
  assert loop._received(signals, agree=True) == 15
  signals.received = 15
  assert loop._received(signals, agree=False) is None  # the other does not know yet


def test_the_first_process_judges_checkpoints_for_all(monkeypatch, tmp_path):
  store = checkpoint.StageCheckpoints(tmp_path, keep=2)
  for step in (1, 2):
    store.save(step, {"w": jnp.full(3, step)}, {})
  store.close()
  store = checkpoint.StageCheckpoints(tmp_path, keep=2)
  damaged, whole = ["state/d/x", None], [None, None]  # steps 2 and 1, as the first one reads them
  Others(monkeypatch, 1, [2, 1], damaged, whole, None)
  found = store.restore({"w": jnp.zeros(3, jnp.int32)})
  assert found is not None and int(found[0]["w"][0]) == 1


# Arrays -------------------------------------------------------------------------------------------


def test_every_process_keeps_its_part_of_the_whole_batch():
  mesh = devices.make_mesh(2, 2, 2)
  rows = np.arange(8 * 3).reshape(8, 3)
  found = devices.shard_batch(mesh, {"x": rows})["x"]
  for part in found.addressable_shards:
    np.testing.assert_array_equal(part.data, rows[part.index])
  assert {part.data.shape for part in found.addressable_shards} == {(2, 3)}
  alike = devices.replicated(mesh, rows)
  assert alike.is_fully_replicated
  jax.tree.map(np.testing.assert_array_equal, processes.whole([found, alike]), [rows, rows])
  assert devices.put(rows, None).sharding.device_set == {jax.devices()[0]}


def test_a_mesh_leaves_no_device_of_several_processes_over(monkeypatch):
  monkeypatch.setattr(jax, "process_count", lambda: 2)
  assert devices.make_mesh(-1, 2, 1).size == 8
  with pytest.raises(ValueError, match=r"mesh=\(data=4, .* uses 4 of the 8 devices of 2 processes"):
    devices.make_mesh(4, 1, 1)
