"""pyproject.toml and CITATION.cff against the package: libraries, files, commands and version."""

import ast
from importlib import metadata
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BESIDE = {path.stem for folder in ("benchmarks", "launch") for path in (ROOT / folder).glob("*.py")}


def imported(folder):
  """Top-level names of what the files of a folder import, and the files that do."""
  for path in sorted((ROOT / folder).rglob("*.py")):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
      if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
      elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        names = [node.module]
      else:
        continue
      for name in names:
        yield name.partition(".")[0], path


def normal(name):
  return re.sub(r"[-_.]+", "-", name).lower()


def declared(requirements):
  return {normal(re.match(r"[\w.-]+", requirement)[0]) for requirement in requirements}


def test_every_library_that_the_package_imports_is_declared():
  owners = metadata.packages_distributions()
  libraries = {name for name, _ in imported("kdtw_jax")} - set(sys.stdlib_module_names)
  extras = PROJECT["optional-dependencies"]
  optional = [
      library
      for name in ("datasets", "parquet", "serve", "demo", "wandb")
      for library in extras[name]
  ]
  known = declared([*PROJECT["dependencies"], *optional])
  missing = {
      name
      for name in libraries - {"kdtw_jax"}
      if not known & {normal(owner) for owner in owners.get(name, [name])}
  }
  assert missing == set()


def test_no_test_imports_a_benchmark_or_a_launch_script():
  own = {path.stem for path in (ROOT / "tests").rglob("*.py")}
  for name, path in imported("tests"):
    assert name not in (BESIDE | {"benchmarks", "launch"}) - own, path


@pytest.mark.parametrize("pattern", ["*.css", "*.jinja", "*.js", "LICENSE", "py.typed"])
def test_files_that_are_not_python_are_package_data(pattern):
  settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
      "setuptools"
  ]
  assert list((ROOT / "kdtw_jax").rglob(pattern)) and pattern in settings["package-data"]["*"]


@pytest.mark.slow
def test_an_installed_package_has_its_configs_in_any_folder(tmp_path):
  """Its own folder's are nearer."""
  pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
  names = ("sources", "wheels", "installed", "folder")
  sources, wheels, installed, folder = (tmp_path / name for name in names)
  folder.mkdir()
  for part in ("kdtw_jax", "configs"):
    shutil.copytree(ROOT / part, sources / part)
  for file in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
    shutil.copy(ROOT / file, sources)
  subprocess.run([*pip, "wheel", "--no-deps", f"--wheel-dir={wheels}", sources], check=True)
  (wheel,) = wheels.iterdir()
  subprocess.run(
      [*pip, "install", "--no-deps", "--ignore-installed", f"--prefix={installed}", wheel],
      check=True,
  )
  (package,) = installed.rglob("kdtw_jax/main.py")

  def said(config):
    return subprocess.run(
        [sys.executable, "-m", "kdtw_jax.main", f"--config={config}"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(package.parent.parent)},
        text=True,
        capture_output=True,
        check=False,
    ).stderr

  assert "--workdir=: is missing" in said("configs/demo.py:smoke")  # so the config was read
  assert "configs/none.py is no file" in said("configs/none.py")
  (folder / "configs").mkdir()
  (folder / "configs" / "demo.py").write_text("def get_config(arg=None):\n  return 1\n")
  assert "get_config() gives a int" in said("configs/demo.py:smoke")


@pytest.mark.parametrize("name", PROJECT["scripts"])
def test_a_command_is_a_function_of_the_package(name):
  module, _, function = PROJECT["scripts"][name].partition(":")
  path = ROOT / f"{module.replace('.', '/')}.py"
  tree = ast.parse(path.read_text(encoding="utf-8"))
  assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def version_of_the_package():
  text = (ROOT / "kdtw_jax" / "__init__.py").read_text(encoding="utf-8")
  return re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)[1]


def test_the_citation_is_complete_and_of_this_version():
  """It has what version 1.2.0 of the format requires, of the software and of the paper."""
  cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
  assert cited["cff-version"] == "1.2.0" and cited["message"] and cited["type"] == "software"
  assert cited["title"] == PROJECT["name"] and cited["authors"] == [
      {"name": "The kdtw_jax authors"}
  ]
  assert str(cited["version"]) == version_of_the_package()
  assert PROJECT["license"].startswith(cited["license"])
  (paper,) = cited["references"]
  assert paper["type"] == "article" and paper["url"] == "https://arxiv.org/abs/2502.17717"
  assert all({"family-names", "given-names"} <= set(author) for author in paper["authors"])


def test_the_changelog_begins_with_this_version():
  headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
  assert headings[0] == version_of_the_package()
