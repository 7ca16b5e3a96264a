"""The notebooks run, and were run: what is committed has the outputs of its own cells."""

import json
from pathlib import Path
import re
import shutil

import nbclient
import nbformat
import pytest

from kdtw_jax import config
from tests.smoke_run import ROOT, environment

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def execute(path, parameters, monkeypatch, cache):
  """Runs a notebook in its folder, its cell of parameters replaced; gives the outputs as text."""
  for name, value in environment(cache).items():
    monkeypatch.setenv(name, value)
  monkeypatch.setenv("XLA_FLAGS", config.fast_compile_flags())  # as smoke runs; on one device
  notebook = nbformat.read(path, as_version=4)
  for cell in notebook.cells:
    if "parameters" in cell.metadata.get("tags", []):
      cell.source = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
  resources = {"metadata": {"path": str(path.parent)}}
  nbclient.NotebookClient(notebook, timeout=600, resources=resources).execute()
  return [text_of(cell) for cell in notebook.cells if cell.cell_type == "code"]


def text_of(cell):
  found = []
  for output in cell.outputs:
    data = output.get("data", {})
    found.append(output.get("text") or data.get("text/html") or data.get("text/plain", ""))
  return "".join(found)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_as_it_ran(path):
  assert path.stat().st_size < 400_000
  cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
  ran = [cell.execution_count for cell in cells]
  assert ran == list(range(1, len(cells) + 1)), "run all cells, from a new kernel"
  for cell in cells:
    assert not [output for output in cell.outputs if output.output_type == "error"]
  assert str(Path.home()) not in json.dumps(cells)


@pytest.mark.slow
def test_the_quickstart_runs(finished, tmp_path, monkeypatch, cache):
  workdir = shutil.copytree(finished[0], tmp_path / "run")  # one process at a time is in a workdir
  parameters = {"MODE": "smoke", "WORKDIR": str(workdir)}
  texts = execute(ROOT / "notebooks/quickstart.ipynb", parameters, monkeypatch, cache)
  (dial,) = [text for text in texts if "<td>20%<td" in text]
  nothing, *_ = rows = dial.split("<tr>")[1:]
  assert len(rows) == 2 and nothing.startswith("<td>0%<td") and "<td>0 calls" in nothing


@pytest.mark.slow
def test_the_method_by_hand_finds_the_prices_of_its_budgets(monkeypatch, cache):
  texts = execute(ROOT / "notebooks/the_method_by_hand.ipynb", {}, monkeypatch, cache)
  assert texts[-1].endswith("shares ['5.0%', '10.0%', '20.0%']\n")


@pytest.mark.slow
def test_a_published_teacher_learns_ones_own_data_and_helps_a_student(tmp_path, monkeypatch, cache):
  parameters = {"FOLDER": str(tmp_path), "TEACHER": "", "MODE": "smoke", "STEPS": 12}
  texts = execute(ROOT / "notebooks/your_own_data.ipynb", parameters, monkeypatch, cache)
  assert any("model.safetensors" in text and "spiece.model" in text for text in texts)
  said = json.loads((tmp_path / "run/pair/pair.json").read_text(encoding="utf-8"))["config"]
  assert said["data"]["held_out"] == 0.1 and said["teacher"]["pretrained"].endswith("tiny-t5")
  (table,) = [text for text in texts if "<td>20%<td" in text]
  assert table.count("Emma needs four") == 2 and table.count("<td>0 calls") >= 2


@pytest.mark.slow
def test_a_policy_and_a_loss_from_outside_are_used_by_their_names(tmp_path, monkeypatch, cache):
  parameters = {"WORKDIR": str(tmp_path), "MODE": "smoke", "STEPS": 12}
  path = ROOT / "notebooks/a_new_policy_and_loss.ipynb"
  texts = execute(path, parameters, monkeypatch, cache)
  assert any("θ = 2.5  asks: [ True  True False False]" in text for text in texts)
  assert any(re.search(r"hellinger=0\.\d", text) for text in texts)
  (curves,) = [text for text in texts if "thrifty " in text]
  calls = [float(use) for use in re.findall(r"at +([\d.]+)", curves.splitlines()[0])]
  assert calls[0] == 0 and calls[-1] > 0
