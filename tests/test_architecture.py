"""The house: imports run downwards only, and some doors have one key."""

import ast
from pathlib import Path
import re

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE, TABLE = ROOT / "kdtw_jax", ROOT / "CONTRIBUTING.md"


def allowed_imports():
  """What each room may import besides itself and `base`: the table of CONTRIBUTING.md."""
  rows = re.findall(r"^\| `(\w+)/?` \|[^|]*\| (.*) \|$", TABLE.read_text(encoding="utf-8"), re.M)
  return {name: set(re.findall(r"`(\w+)`", imports)) for name, imports in rows}


ALLOWED = allowed_imports()


def test_the_table_has_every_room_and_runs_downwards():
  rooms = {room(path) for path in modules()} - {"__init__"}
  assert set(ALLOWED) == rooms
  order = list(ALLOWED)
  for name, imports in ALLOWED.items():
    assert imports <= set(order[: order.index(name)]), name


def modules():
  return sorted(PACKAGE.rglob("*.py"))


def room(path):
  part = path.relative_to(PACKAGE).parts[0]
  return part.removesuffix(".py")


def imported_rooms(tree):
  for node in ast.walk(tree):
    if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "kdtw_jax":
      parts = node.module.split(".")
      yield from ([parts[1]] if len(parts) > 1 else [alias.name for alias in node.names])
    elif isinstance(node, ast.Import):
      for alias in node.names:
        if alias.name.startswith("kdtw_jax."):
          yield alias.name.split(".")[1]


def imported_packages(tree):
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      yield from (alias.name.split(".")[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
      yield node.module.split(".")[0]


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_downwards(path):
  here = room(path)
  if here == "__init__":
    return
  found = set(imported_rooms(ast.parse(path.read_text(encoding="utf-8"))))
  assert found <= ALLOWED[here] | {"base", here}


@pytest.mark.parametrize(
    "package, rooms",
    [
        ("orbax", {"checkpoint"}),
        ("pickle", set()),
        ("torch", set()),
        ("grain", {"data"}),
        ("pyarrow", {"data"}),
        ("fastapi", {"demo", "serving"}),
        ("gradio", {"demo"}),
        ("prometheus_client", {"serving"}),
        ("uvicorn", {"commands"}),
        ("sacrebleu", {"evaluation"}),
        ("safetensors", {"published"}),
        ("transformers", {"data"}),
        ("tokenizers", {"data"}),
        ("huggingface_hub", {"published"}),
        ("datasets", {"data"}),
        ("matplotlib", {"report"}),
        ("tensorboardX", {"tensorboard"}),
        ("wandb", {"tracking"}),
    ],
)
def test_libraries_have_one_door(package, rooms):
  users = {
      room(path)
      for path in modules()
      if package in imported_packages(ast.parse(path.read_text(encoding="utf-8")))
  }
  assert users == rooms


def test_report_and_metrics_read_without_jax():
  names = (
      "area",
      "bootstrap",
      "metrics",
      "record",
      "scalars",
      "statistics",
      "tradeoff",
      "typed_json",
  )
  pure = [
      *(PACKAGE / "report").rglob("*.py"),
      *(PACKAGE / "evaluation" / f"{name}.py" for name in names),
  ]
  for path in pure:
    assert "jax" not in imported_packages(ast.parse(path.read_text(encoding="utf-8"))), path


def test_files_are_short():
  lengths = {
      str(path.relative_to(PACKAGE)): len(path.read_text(encoding="utf-8").splitlines())
      for path in modules()
  }
  assert {name: n for name, n in lengths.items() if n > 350} == {}
