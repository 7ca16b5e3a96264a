"""An evaluation that was ended goes on: nothing measured twice, nothing of another evaluation."""

import dataclasses

import jax
import numpy as np
import pytest

from kdtw_jax.evaluation.kept import Kept
from kdtw_jax.evaluation.methods import method_sweep
from kdtw_jax.evaluation.outputs import COUNTS, Outputs
from tests.evaluation.test_measure import measure_of, parts

__all__ = ["parts"]

MADE_OF = {"config": {"seed": 0, "dials": (0.1, 0.9)}}


def outputs(rows):
  lengths = np.array([len(row) for row in rows])
  return Outputs(
      texts=[str(row) for row in rows],
      ids=rows,
      by_teacher=[np.arange(len(row)) % 2 == 1 for row in rows],
      counts={name: lengths + i for i, name in enumerate(COUNTS)},
  )


def never():
  raise AssertionError("measured again")


@pytest.mark.parametrize("rows", [[[5, 6, 1], [1], [7, 8, 9, 1]], [[], [4]], []])
def test_outputs_come_back_as_they_were(tmp_path, rows):
  made = outputs(rows)
  Kept(tmp_path / "kept", MADE_OF).outputs("a", lambda: made, str)
  found = Kept(tmp_path / "kept", MADE_OF).outputs("a", never, str)
  assert (found.texts, found.ids) == (made.texts, made.ids)
  jax.tree.map(np.testing.assert_array_equal, found.by_teacher, made.by_teacher)
  jax.tree.map(np.testing.assert_array_equal, found.counts, made.counts)


def test_what_was_made_of_something_else_is_not_taken(tmp_path):
  kept = Kept(tmp_path / "kept", MADE_OF)
  assert kept.value("pace", lambda: 2.0) == kept.value("pace", never) == 2.0
  assert kept.value("another", lambda: 3.0) == 3.0
  other = Kept(tmp_path / "kept", {"config": {"seed": 1}})
  assert other.value("pace", lambda: 4.0) == 4.0
  assert Kept(tmp_path / "kept", MADE_OF).value("pace", lambda: 5.0) == 5.0


def test_a_damaged_file_is_measured_again(tmp_path):
  kept = Kept(tmp_path / "kept", MADE_OF)
  kept.outputs("a", lambda: outputs([[4, 1]]), str)
  kept.value("b", lambda: 1.0)
  for path in (tmp_path / "kept").iterdir():
    if path.name != "made_of.json":
      path.write_bytes(path.read_bytes()[:-9])
  assert kept.outputs("a", lambda: outputs([[5, 1]]), str).ids == [[5, 1]]
  assert kept.value("b", lambda: 2.0) == 2.0


def test_nothing_is_left_when_it_is_done(tmp_path):
  kept = Kept(tmp_path / "kept", MADE_OF)
  kept.value("b", lambda: 1.0)
  kept.clear()
  assert not list(tmp_path.iterdir())
  assert Kept(None).value("b", lambda: 3.0) == 3.0


def test_an_evaluation_goes_on_after_its_last_point(parts, tmp_path, monkeypatch):
  sweep = method_sweep("random", (0.1, 0.5, 0.9), "wheels")

  def end():
    if len(decoded) == 2:
      raise KeyboardInterrupt

  def measured(**fields):
    decoded.clear()
    measure = measure_of(parts, kept=Kept(tmp_path / "kept", MADE_OF), **fields)
    run = measure.runner.run
    monkeypatch.setattr(
        measure.runner, "run", lambda *args, **how: decoded.append(args) or run(*args, **how)
    )
    return measure

  decoded = []
  with pytest.raises(KeyboardInterrupt):
    measured(on_point=end).curve("test", sweep)
  assert len(decoded) == 2
  resumed = measured().curve("test", sweep)
  assert len(decoded) == 1  # the third dial
  again = measured().curve("test", sweep)
  assert not decoded and again == resumed  # with its seconds
  whole = measure_of(parts, kept=Kept(None)).curve("test", sweep)

  def untimed(point):
    return dataclasses.replace(point, seconds_per_sentence=None, cost=0.0)

  assert [*map(untimed, resumed.points)] == [*map(untimed, whole.points)]
