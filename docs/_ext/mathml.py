"""Formulas as MathML, which browsers draw themselves: no script and no font is fetched.

Not here: how formulas are written (dollars, in Markdown).
"""

import re
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError, latex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

_logger = logging.getLogger(__name__)
_SIZES = re.compile(r"\\(?:big|Big|bigg|Bigg)[lmr]?(?![A-Za-z])")  # brackets grow by themselves


def _inline(self: HTML5Translator, node: nodes.math) -> None:
  self.body.append(_drawn(node, as_block=False))
  raise nodes.SkipNode


def _block(self: HTML5Translator, node: nodes.math_block) -> None:
  self.body.append(f'<div class="formula">{_drawn(node, as_block=True)}</div>\n')
  raise nodes.SkipNode


def _drawn(node: nodes.Element, *, as_block: bool) -> str:
  try:
    return str(latex2mathml.tex2mathml(_SIZES.sub("", node.astext()), as_block=as_block))
  except MathError as error:
    _logger.warning("formula %r: %s", node.astext(), error, location=node)
    return ""


def setup(app: Sphinx) -> dict[str, Any]:
  """Offers the renderer `mathml`."""
  app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
  return {"parallel_read_safe": True, "parallel_write_safe": True}
