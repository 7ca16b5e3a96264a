"""metrics.json: what is written is read back, and what is damaged is named."""

import dataclasses
import json

import numpy as np
import pytest

from kdtw_jax.evaluation import record
from kdtw_jax.evaluation.record import read_metrics, write_metrics
from kdtw_jax.evaluation.typed_json import from_json, to_json
from tests.report.conftest import bare_metrics, full_metrics

__all__ = ["bare_metrics", "full_metrics"]


@pytest.fixture
def path(full_metrics, tmp_path):
  return write_metrics(full_metrics, tmp_path / "metrics.json")


def test_what_is_written_is_read(path, full_metrics, bare_metrics):
  assert read_metrics(path) == full_metrics
  assert read_metrics(write_metrics(bare_metrics, path)) == bare_metrics
  json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)


def test_numpy_numbers_are_written_and_whole_numbers_read_as_floats():
  written = to_json({"rate": np.float32(2), "steps": np.int64(3), "pair": (np.float64(0.5), 1)})
  assert json.loads(json.dumps(written)) == {"rate": 2.0, "steps": 3, "pair": [0.5, 1]}
  found = from_json(record.WordGroup, {"kind": "", "frequency": "", "tokens": 3, "asked": 1})
  assert type(found.asked) is float and type(found.tokens) is int


def test_an_infinite_setting_of_the_config_stays_legible(path, full_metrics):
  write_metrics(dataclasses.replace(full_metrics, config={"clip": float("inf")}), path)
  assert read_metrics(path).config == {"clip": "inf"}


def test_a_number_that_is_not_finite_is_not_written(path, full_metrics):
  before = path.read_text(encoding="utf-8")
  first, *rest = full_metrics.budgets
  broken = (dataclasses.replace(first, predicted=float("nan")), *rest)
  with pytest.raises(ValueError, match=r"metrics\.budgets\[0\]\.predicted is 'nan', not a finite"):
    write_metrics(dataclasses.replace(full_metrics, budgets=broken), path)
  assert path.read_text(encoding="utf-8") == before


def put(value, *keys):
  """Returns a change of the JSON value: a field that is set, or removed where value is `...`."""

  def change(metrics):
    inner = metrics
    for key in keys[:-1]:
      inner = inner[key]
    if value is ...:
      del inner[keys[-1]]
    else:
      inner[keys[-1]] = value

  return change


@pytest.mark.parametrize(
    "change, field",
    [
        (put(..., "hulls"), "hulls is missing"),
        (put(..., "hulls", 0, "gaps", 0, "interval"), "hulls[0].gaps[0].interval is missing"),
        (put(0.01, "hulls", 0, "gaps", 0, "z"), "hulls[0].gaps[0].z is unknown"),
        (
            put([1.0], "hulls", 0, "gaps", 0, "interval"),
            "hulls[0].gaps[0].interval is '[1.0]', not a list of 2",
        ),
        (put("time", "hulls", 0, "price"), "hulls[0].price is 'time', not 'calls' or 'share' or"),
        (put(1, "hulls", 0, "gaps", 0, "reached"), "gaps[0].reached is '1', not a bool"),
        (put(None, "name"), "name is 'None', not text"),
        (put(True, "step_ratio"), "step_ratio is 'True', not a finite number"),
        (put(10**400, "step_ratio"), "not a finite number"),
        (put(2.5, "throughput_batch"), "throughput_batch is '2.5', not a whole number"),
        (put({}, "budgets"), "budgets is '{}', not a list"),
        (put([], "areas"), "areas is '[]', not an object"),
        (put("x", "alone", "student", "scores", "bleu"), "alone.student.scores.bleu is 'x'"),
        (put(3, "curves", "test", 1), "curves.test[1] is '3', not an object"),
        (
            put("nobody", "samples", 0, "outputs", 0, "tokens", 0, "author"),
            "samples[0].outputs[0].tokens[0].author",
        ),
        (put("1", "areas", "oracle"), "areas.oracle is '1', not a finite number"),
        (put("1", "stages", 0, "steps"), "stages[0].steps is '1', not a whole number"),
    ],
)
def test_a_damaged_field_is_named_with_file_and_remedy(path, change, field):
  damaged = json.loads(path.read_text(encoding="utf-8"))
  change(damaged)
  path.write_text(json.dumps(damaged), encoding="utf-8")
  with pytest.raises(ValueError) as error:
    read_metrics(path)
  message = str(error.value)
  assert message.startswith(f"{path}: damaged, field ") and field in message
  assert message.endswith("run the evaluation stage of this workdir again") and "\n" not in message


@pytest.mark.parametrize("version", [3, 5, None, "4"])
def test_a_file_of_another_version_says_so(path, version):
  other = json.loads(path.read_text(encoding="utf-8")) | {"version": version}
  path.write_text(json.dumps(other), encoding="utf-8")
  with pytest.raises(
      ValueError, match=f"version is {version}, this code reads {record.VERSION}: run"
  ):
    read_metrics(path)


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff", b"[" * 100_000])
def test_a_file_that_holds_no_object_is_named(path, content):
  path.write_bytes(content)
  with pytest.raises(ValueError, match=r"metrics\.json: .*run the evaluation"):
    read_metrics(path)


def test_a_missing_file_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"metrics\.json: no such file: run the evaluation"):
    read_metrics(tmp_path / "metrics.json")


def test_a_stage_keeps_what_a_report_shows_of_its_summary():
  summary = {"stage": "sft", "seconds": 3, "steps": 8, "loss": 1.5, "fields": {"a": 1}}
  assert record.Stage.from_summary(summary) == record.Stage(
      stage="sft", seconds=3.0, steps=8, loss=1.5
  )


def test_a_test_set_is_known_by_its_references():
  found = record.TestSet.of([("a", "b"), ("c",)])
  assert found.examples == 2 and found == record.TestSet.of([["a", "b"], ["c"]])
  assert found != record.TestSet.of([("b", "a"), ("c",)])
