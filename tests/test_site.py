"""The documentation builds without a warning and without a network, and has all public names."""

import importlib.util
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
import zlib

import pytest

import kdtw_jax
from kdtw_jax import decoding, losses

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
MISSING = [
    name
    for name in ("sphinx", "myst_nb", "sphinx_book_theme")
    if importlib.util.find_spec(name) is None
]
pytestmark = pytest.mark.skipif(
    bool(MISSING), reason=f"{', '.join(MISSING)} not installed: pip install -e '.[docs]'"
)


def build(docs, out):
  """Builds a site as launch/docs.sh does, with every door to a network shut."""
  nowhere = "http://127.0.0.1:9"
  return subprocess.run(
      [
          *(sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--nitpicky"),
          *("--quiet", "-d", str(out.parent / "doctrees"), str(docs), str(out)),
      ],
      cwd=ROOT,
      env={**os.environ, "http_proxy": nowhere, "https_proxy": nowhere, "no_proxy": ""},
      capture_output=True,
      text=True,
      timeout=300,
      check=False,
  )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
  out = tmp_path_factory.mktemp("site") / "html"
  done = build(DOCS, out)
  assert done.returncode == 0, done.stdout + done.stderr
  return out


@pytest.mark.slow
def test_the_site_has_every_page_and_fetches_nothing(site):
  sources = [path for path in DOCS.rglob("*") if path.suffix in (".md", ".ipynb")]
  for source in sources:
    if "_build" not in source.parts:
      page = (site / source.relative_to(DOCS)).with_suffix(".html").read_text(encoding="utf-8")
      assert not re.findall(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="(?:https?:)?//', page)
  assert len(sources) > 20


@pytest.mark.slow
def test_the_reference_has_every_public_name(site):
  packed = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
  known = {line.split(" ")[0] for line in zlib.decompress(packed).decode().splitlines()}
  for package in (kdtw_jax, decoding, losses):
    missing = {f"{package.__name__}.{name}" for name in package.__all__} - known
    assert missing == set()


@pytest.mark.slow
def test_docstrings_are_shown_as_they_are_written(site):
  page = (site / "api" / "losses.html").read_text(encoding="utf-8")
  text = re.sub(r"<[^>]+>", "", page).replace("&#39;", "'")
  assert "values: Float[ArrayLike, 'B T']" in text
  blocks = re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)
  assert any("C_0 = −V_0 + x_0" in re.sub(r"<[^>]+>", "", block) for block in blocks)
  assert re.search(r'href="https://arxiv.org/abs/1702.08892">arXiv\s1702.08892</a>', page)


@pytest.mark.parametrize(
    "text, message",
    [
        ("{py:obj}`kdtw_jax.losses.none`", "kdtw_jax.losses.none"),
        ("[a page](none.md)", "none.md"),
        (r"$\none$", r"index.md:3: WARNING: formula '\\none'"),
        (":::{include} ../README.md\n:start-after: '## None'\n:::", "text not found"),
    ],
)
def test_a_wrong_page_is_found(tmp_path, text, message):
  docs = tmp_path / "docs"
  for name in ("_ext", "_static"):
    shutil.copytree(DOCS / name, docs / name)
  shutil.copy(DOCS / "conf.py", docs)
  shutil.copy(ROOT / "README.md", tmp_path)
  (docs / "index.md").write_text(f"# Page\n\n{text}\n", encoding="utf-8")
  done = build(docs, tmp_path / "html")
  assert done.returncode and message in done.stderr
