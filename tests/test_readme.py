"""What the pages say holds: commands name what exists, examples print what is written there."""

import ast
import doctest
import importlib
import os
from pathlib import Path
import re
import shlex
import subprocess
import sys
import tomllib

import pytest
import yaml

from kdtw_jax import config as config_lib
from kdtw_jax import losses
from kdtw_jax.commands import cli
from kdtw_jax.decoding.policies import registry
from tests.smoke_run import environment
from tests.test_config import load as load_config

ROOT = Path(__file__).parent.parent
DOCS = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / "docs").rglob("*.md")
    if "_build" not in path.parts
)
WITH_COMMANDS = ("README.md", "CONTRIBUTING.md", "results/README.md")
PAGES = (*WITH_COMMANDS, "SECURITY.md", "kdtw_jax/decoding/README.md", *DOCS)
SCRIPTS = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("launch/*.sh"))


def read(name):
  return (ROOT / name).read_text(encoding="utf-8")


def fenced(page, language):
  return re.findall(rf"^```{language}\n(.*?)^```", page, re.DOTALL | re.MULTILINE)


def spans(page):
  """What stands in `backticks` outside of blocks, line breaks as spaces."""
  prose = re.sub(r"^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE)
  return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]


# Commands -----------------------------------------------------------------------------------------


def called(block):
  """The commands that a shell would run for a block, as lists of words.

  None of them is run, and none reads or writes a file.
  """
  block = re.sub(r"(?<=\s)[<>]\s*[^\s;]+", "", block)
  recorders = "".join(
      f'{name}() {{ printf "%s\\t" {name} "$@"; echo; }}\n'
      for name in (
          "python",
          "bash",
          "pip",
          "kdtw",
          "source",
          "curl",
          "tensorboard",
          "sky",
          *SCRIPTS,
      )
  )
  done = subprocess.run(
      ["/bin/bash", "-euc", recorders + block],
      env={"PATH": "/nonexistent"},
      cwd=ROOT,
      capture_output=True,
      text=True,
      check=False,
  )
  assert done.returncode == 0, done.stderr
  return [line.split("\t")[:-1] for line in done.stdout.splitlines()]


def check(command):
  """Refuses a command that names what does not exist; raises AssertionError, which says what."""
  name, *words = command
  if name == "kdtw":
    return check_kdtw(*words)
  if name in ("source", "curl"):
    return None
  if name == "tensorboard":  # a run has its curves there: test_run.py
    assert words == ["--logdir=runs/demo/stages"], f"no curves in {words}"
    return None
  if name == "sky":
    return check_sky(*words)
  if name == "pip":
    return check_install(*words)
  if name == "bash":
    name, *words = words
  if name == "python":
    if words[:2] == ["-m", "pytest"]:
      assert (ROOT / words[2]).is_file(), f"no file {words[2]}"
      return None
    if words[0] == "-m":
      module = words[1].replace(".", "/")
      words[0:2] = [f"{module}/__main__.py" if (ROOT / module).is_dir() else f"{module}.py"]
    return check_python(*words)
  assert name in SCRIPTS, f"no script {name}"
  words = [word for word in words if word != "--dry-run"]
  usages = re.findall(rf"^# usage: (?:\w+=\S+ )*{name} (.*)$", read(name), re.MULTILINE)
  if " ".join(words) in usages:  # a word that stands for itself
    return None
  places = (
      [place for place in usages[0].split() if place.isupper() or "|" in place] if usages else []
  )
  assert len(words) >= len(places), f"{name} needs {places}"
  task = [word for word, place in zip(words, places, strict=False) if "|" in place]
  assert all(word in places[0].split("|") for word in task), f"{task} is none of {places}"
  flags = words[len(places) :]
  if places[-2:] in (["CONFIG", "WORKDIR"], ["CONFIG", "WORKDIR_ON_VM"]):
    return check_python("kdtw_jax/main.py", f"--config={words[len(places) - 2]}", *flags)
  known = re.findall(r"\[(--\w+)\]", usages[0]) if usages else []
  unknown = [flag for flag in flags if flag.startswith("--") and flag not in known]
  assert not unknown, f"{unknown} of {name} are not known"
  return None


def check_install(command, package):
  """Checks that the extras that pip is to install are declared."""
  extras = re.fullmatch(r"kdtw_jax\[(\w+)\]", package)
  assert command == "install" and extras, f"pip {command} {package} installs something else"
  project = tomllib.loads(read("pyproject.toml"))["project"]
  assert extras[1] in project["optional-dependencies"], f"no extra {extras[1]}"


def check_sky(jobs, launch, file, *words):
  """Checks the variables that a task of SkyPilot is given, and its config."""
  assert (jobs, launch) == ("jobs", "launch") and (ROOT / file).is_file(), f"no task {file}"
  known = yaml.safe_load(read(file))["envs"]
  assert set(words[::2]) <= {"--env"}, f"{words} are not variables"
  given = dict(word.split("=", 1) for word in words[1::2])
  assert set(given) <= set(known), f"{file} has no variables {set(given) - set(known)}"
  given = known | given
  missing = [key for key, value in given.items() if value is None]
  assert not missing, f"{file} needs {missing}"
  check_python("kdtw_jax/main.py", f"--config={given['CONFIG']}", *shlex.split(given["FLAGS"]))


def check_kdtw(command, *flags):
  """Checks a command of the package and its flags."""
  assert command in cli.COMMANDS, f"no command {command}"
  if flags == ("--help",):
    return
  try:
    cli.make_parser().parse_args([command, *flags])
  except SystemExit as refused:
    raise AssertionError(f"{flags} are none of kdtw {command}") from refused


def check_python(script, *flags):
  """Checks a script and its flags; those of its config are set and validated."""
  assert (ROOT / script).is_file(), f"no file {script}"
  flag_names = r'(?:DEFINE_\w+\(\s*"|add_argument\(\s*"--)([\w-]+)"'
  known = {*re.findall(flag_names, read(script)), "help"}
  config = None
  for flag in flags:
    if not flag.startswith("--"):
      continue  # a place of the script's own
    name, _, value = flag.removeprefix("--").partition("=")
    if name == "config":
      file, _, argument = value.partition(":")
      assert (ROOT / file).is_file() and file.startswith("configs/"), f"no config {file}"
      config = load_config(Path(file).stem, argument)
    elif name.startswith("config."):
      set_field(config, name, value)
    else:
      assert name in known, f"{script} has no flag --{name}"
  if config is not None:
    if not config.data.path:
      config.data.path = "DIR"
    config_lib.validate(config)


def set_field(config, name, value):
  """Sets a field of a config as its flag does."""
  section = config
  *path, last = name.split(".")[1:]
  try:
    for part in path:
      section = section[part]
    old = section[last]
  except (KeyError, AttributeError) as error:
    raise AssertionError(f"no field {name}") from error
  section[last] = value if isinstance(old, str) else type(old)(ast.literal_eval(value))


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_names_what_exists(page):
  commands = [command for block in fenced(read(page), "bash") for command in called(block)]
  commands += [
      command
      for span in spans(read(page))
      if re.match(r"(python|bash|kdtw|sky|launch/\S+\.sh) ", span)
      for command in called(span)
  ]
  for command in commands:
    check(command)
  assert commands or page not in WITH_COMMANDS


def test_the_usage_lines_of_the_scripts_name_what_exists():
  found = 0
  for script in SCRIPTS:
    assert script == "launch/environment.sh" or os.access(ROOT / script, os.X_OK)
    subprocess.run(["/bin/bash", "-n", ROOT / script], check=True)
    for line in re.findall(rf"^#   ({script} .*)$", read(script), re.MULTILINE):
      for command in called(line):
        check(command)
        found += 1
  assert found >= 3


@pytest.mark.parametrize("page", PAGES)
def test_every_flag_that_a_page_speaks_of_is_known(page):
  for span in spans(read(page)):
    if span.startswith("--config."):
      name, _, value = span.partition("=")
      config = load_config("demo")
      config.data.path = "DIR"
      if value:
        set_field(config, name.removeprefix("--"), value)
        config_lib.validate(config)
      else:
        with pytest.raises((ValueError, SyntaxError, TypeError, AssertionError)) as refused:
          set_field(config, name.removeprefix("--"), "?")
          config_lib.validate(config)
        assert "no field" not in str(refused.value)


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_is_there(page):
  here = (ROOT / page).parent
  named = [span.partition(":")[0] for span in spans(read(page))]
  named = [name for name in named if re.fullmatch(r"[\w/]+\.(py|sh)", name)]
  starts = (here, ROOT, ROOT / "kdtw_jax", ROOT / "benchmarks")
  for name in named:
    if name.startswith("my_"):  # a reader's own
      continue
    assert any((start / name).is_file() for start in starts), name
  links = [link for link in re.findall(r"\]\(([^)]+)\)", read(page)) if not link.startswith("http")]
  for link in links:
    assert (here / link.partition("#")[0]).exists(), link
  included = re.findall(r"^:::\{(?:include|literalinclude)\} (\S+)$", read(page), re.MULTILINE)
  assert all((here / name).is_file() for name in included)
  assert named or links or page in DOCS


@pytest.mark.parametrize(
    "command, message",
    [
        ("python -m kdtw_jax.mainn --config=configs/demo.py", "no file kdtw_jax/mainn.py"),
        ("python -m kdtw_jax.main --config=configs/demos.py", "no config configs/demos.py"),
        ("python -m kdtw_jax.main --config=configs/demo.py:smok", "'smok' is unknown"),
        ("python -m kdtw_jax.main --config=configs/demo.py --wrkdir=a", "no flag --wrkdir"),
        (
            "python -m kdtw_jax.main --config=configs/demo.py --config.wheels.alfa=1.0",
            "no field config.wheels.alfa",
        ),
        (
            "for a in -1.0; do python -m kdtw_jax.main --config=configs/demo.py "
            '--config.wheels.alpha="$a"; done',
            "config.wheels.alpha=-1.0: must be > 0",
        ),
        ("kdtw wrote --pair=runs/demo", "no command wrote"),
        ("kdtw write --pair=runs/demo --buget=0.2", "are none of kdtw write"),
        ("kdtw report --workdir=runs/demo", "are none of kdtw report"),
        ("pip install 'kdtw_jax[server]'", "no extra server"),
        ("tensorboard --logdir=runs/demo/tensorboard", "no curves in"),
        ("bash launch/demos.sh", "no script launch/demos.sh"),
        ("launch/smoke.sh wmd", "is none of"),
        ("launch/gpu.sh configs/wmt.py", "needs"),
        ("launch/gpu.sh configs/wmt.py:pair=en-xx runs/wmt", "en-xx"),
        ("launch/gpu.sh configs/wmt.py runs/wmt --config.none=1", "no field config.none"),
        ("launch/local.sh configs/wmt.py runs/wmt", "needs"),
        ("launch/local.sh 2 configs/wmd.py runs/wmt", "no config configs/wmd.py"),
        ("launch/tpu_queue.sh remove", "needs"),
        ("sky jobs launch launch/sky.yaml", "needs \\['BUCKET'\\]"),
        ("sky jobs launch launch/sky.yaml --env BUCKT=gs://a", "no variables {'BUCKT'}"),
        ("sky jobs launch launch/sky.yaml --env BUCKET=a --env CONFIG=configs/b.py", "no config"),
        ("python -m benchmarks.decode --studnt=t5-small", "no flag --studnt"),
    ],
)
def test_a_wrong_command_is_found(command, message):
  (words,) = called(command)
  with pytest.raises((AssertionError, ValueError), match=message):
    check(words)


# Examples -----------------------------------------------------------------------------------------


def run_examples(text, name, globs):
  """Runs the `>>>` examples of a text, and fails where one prints something else."""
  examples = doctest.DocTestParser().get_doctest(text, globs, name, name, 0)
  said = []
  result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(examples, out=said.append)
  assert result.attempted and not result.failed, "".join(said)


def docstrings():
  """(module, docstring) of every docstring in the package that holds an example."""
  for path in sorted((ROOT / "kdtw_jax").rglob("*.py")):
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
      if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
        docstring = ast.get_docstring(node)
        if docstring and ">>>" in docstring:
          yield pytest.param(module, docstring, id=f"{module}-{getattr(node, 'name', '')}")


@pytest.mark.parametrize("module, docstring", list(docstrings()))
def test_the_examples_of_docstrings_print_what_they_say(module, docstring):
  run_examples(docstring, module, dict(vars(importlib.import_module(module))))


def test_an_example_that_prints_something_else_is_found():
  with pytest.raises(AssertionError, match=r"Expected:\s+3\s+Got:\s+2"):
    run_examples(">>> 1 + 1\n3\n", "page", {})


@pytest.fixture
def own_registries():
  """What an example registers is gone after it."""
  known = (registry._BY_NAME, losses.LOSSES)
  before = [dict(names) for names in known]
  yield
  for names, old in zip(known, before, strict=True):
    names.clear()
    names.update(old)


@pytest.mark.parametrize("page", [page for page in DOCS if fenced(read(page), "python")])
def test_the_examples_of_the_site_print_what_they_say(page, own_registries):
  blocks = fenced(read(page), "python")
  assert all(">>> " in block for block in blocks)
  run_examples("\n\n".join(blocks), page, {"__name__": "my_module"})


SHORTER = (  # the demo in fewer stages, steps, layers and optimisations, on phrases of one width
    "--config.data.buckets=((20, 16),)",
    "--config.stages=('tokenizer','teacher','warm_start','wheels','worth')",
    "--config.teacher.model.num_encoder_layers=1",
    "--config.teacher.model.num_decoder_layers=1",
    "--config.teacher.train.steps=130",
    "--config.warm_start.steps=180",
    "--config.wheels.steps=60",
    "--config.wheels.warmup_steps=20",
    "--config.calibration.steps=20",
    "--config.worth.num_sources=64",
    "--config.worth.batch_size=64",
    "--config.worth.steps=300",
    f"--config.xla_flags={config_lib.fast_compile_flags()} --xla_backend_optimization_level=1",
)


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
  """A folder with `runs/demo`, a demo that was trained for some minutes."""
  folder = tmp_path_factory.mktemp("demo")
  workdir = folder / "runs" / "demo"
  command = [sys.executable, "-m", "kdtw_jax.main", "--config=configs/demo.py"]
  done = subprocess.run(
      [*command, f"--workdir={workdir}", *SHORTER],
      cwd=ROOT,
      env=environment(folder / "compiled"),
      capture_output=True,
      text=True,
      timeout=1200,
      check=False,
  )
  assert done.returncode == 0, done.stdout + done.stderr
  return folder


@pytest.mark.slow
def test_the_examples_of_the_readme_print_what_they_say(demo, monkeypatch):
  monkeypatch.chdir(demo)
  blocks = fenced(read("README.md"), "python")
  assert all(">>> " in block for block in blocks)
  run_examples("\n".join(blocks), "README.md", {})
