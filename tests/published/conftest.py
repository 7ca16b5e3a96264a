"""What the comparisons with transformers share."""

import pytest

from kdtw_jax.files import write_json


@pytest.fixture(scope="module")
def one_thread():
  """Threads of torch that wait for each other cost more than models this small."""
  torch = pytest.importorskip("torch")
  before = torch.get_num_threads()
  torch.set_num_threads(1)
  yield
  torch.set_num_threads(before)


@pytest.fixture(scope="module")
def figures(request):
  """Takes what is measured by family; `--figures=FILE.json` keeps it in a file."""
  found = {}
  yield found
  if file := request.config.getoption("figures"):
    write_json(file, request.module.parity.report(found))
