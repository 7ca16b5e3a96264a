"""Links of included files: to the page that shows the file they name, else to the file itself.

A page that includes README.md has README's links, which start from another folder. Files that a
link names and that have no page here are copied and can be opened.
"""

import os
from pathlib import Path
import re
from typing import Any

from sphinx.application import Sphinx

_ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    **{
        f"notebooks/{path.name}": f"notebooks/{path.stem}"
        for path in _ROOT.glob("notebooks/*.ipynb")
    },
    "CHANGELOG.md": "changelog",
    "CONTRIBUTING.md": "contributing",
    "kdtw_jax/decoding/README.md": "policies",
    "kdtw_jax/losses/README.md": "objectives",
    "results/README.md": "results/index",
    "results/aeslc/tables.md": "results/aeslc",
    "results/multi30k/budgets.md": "results/budgets",
    "results/multi30k/tables.md": "results/multi30k",
    "README.md#results": "results/index",
    "README.md#serve": "howto/serve",
}
_LINK = re.compile(r"\[([^\[\]]*)\]\((?!https?:)([^)\s]+)\)")


def relinked(text: str, *, file: str, page: str) -> str:
  """Returns a text with its links as they must be on a page.

  Args:
    text: Markdown, or a notebook.
    file: the file that it is from, relative to the repository.
    page: the page that shows it, relative to the repository.
  """

  def link(found: re.Match[str]) -> str:
    words, target = found.groups()
    if target.startswith("#"):
      named = file + target
    else:
      named = os.path.normpath(os.path.join(os.path.dirname(file), target))
    named = named.removeprefix("docs/") if named.startswith("docs/notebooks/") else named
    if named in PAGES:
      return f"{{doc}}`{words.replace('`', '')} </{PAGES[named]}>`"
    if target.startswith("#") or file == page:
      return found[0]
    return f"[{words}]({os.path.relpath(named, os.path.dirname(page))})"

  return _LINK.sub(link, text)


def _page(app: Sphinx, docname: str) -> str:
  docs = Path(app.srcdir)
  return str(Path(app.env.doc2path(docname)).relative_to(docs.parent))


def _on_source(app: Sphinx, docname: str, source: list[str]) -> None:
  page = _page(app, docname)
  file = (_ROOT / page).resolve().relative_to(_ROOT)  # of a notebook, what the link names
  source[0] = relinked(source[0], file=str(file), page=page)


def _on_include(app: Sphinx, path: Path, parent: str, source: list[str]) -> None:
  docs = Path(app.srcdir)
  file = os.path.relpath(docs / path, docs.parent)
  source[0] = relinked(source[0], file=file, page=_page(app, app.env.docname))


def setup(app: Sphinx) -> dict[str, Any]:
  """Changes the links of pages and of the files that they include."""
  app.connect("source-read", _on_source)
  app.connect("include-read", _on_include)
  return {"parallel_read_safe": True, "parallel_write_safe": True}
