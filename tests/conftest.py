"""Shared test settings: checked shapes, no silent rank promotion, eight CPU devices."""

import gc
import os
from pathlib import Path
import signal
import tempfile

from kdtw_jax import config

if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # pytest-xdist's workers inherit it
  _programs = tempfile.TemporaryDirectory(prefix="kdtw-tests-")  # many tests compile the same
  os.environ["JAX_COMPILATION_CACHE_DIR"] = _programs.name
  os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")  # programs compile sooner without
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        config.fast_compile_flags(),
    ]
)

import jaxtyping

jaxtyping.install_import_hook("kdtw_jax", "beartype.beartype")

import jax
import pytest

from tests.smoke_run import cache, finished

__all__ = ("cache", "finished")

jax.config.update("jax_numpy_rank_promotion", "raise")

MOST_MAPS = 20_000
LONGEST = (
    "test_several_processes.py",
    "test_readme.py",
    "test_run.py",
    "test_tasks.py",
    "test_notebooks.py",
)


def pytest_addoption(parser):
  """The option with which the comparison with transformers leaves its figures."""
  parser.addoption("--figures", help="JSON file for what tests/published/test_families.py measures")


def pytest_collection_modifyitems(items):
  """Puts the longest files first, so that no worker is left with one when all others are done."""
  order = {name: place for place, name in enumerate(LONGEST)}
  items.sort(key=lambda item: order.get(item.path.name, len(LONGEST)))


@pytest.fixture
def key():
  """A fixed PRNG key."""
  return jax.random.key(0)


@pytest.fixture
def heard_signals():
  """Lets a test and its processes hear signals that the parent ignores, as `nohup` does."""
  before = {n: signal.getsignal(n) for n in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)}
  for number in before:
    signal.signal(number, signal.SIG_DFL)
  yield
  for number, handler in before.items():
    signal.signal(number, handler)


@pytest.fixture(scope="module", autouse=True)
def few_programs():
  """Drops compiled programs after a module if there are many: a process has 65,530 memory maps."""
  yield
  maps = Path("/proc/self/maps")
  if maps.is_file() and len(maps.read_bytes().splitlines()) > MOST_MAPS:
    jax.clear_caches()
    gc.collect()
