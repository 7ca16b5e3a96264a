"""Pages as one self-contained HTML file: style, scripts and figures inlined, nothing fetched.

The template engine escapes every text. A page's own content security policy lets a browser run the
scripts written here and nothing else, and fetch nothing, whatever a test output holds.
"""

import base64
from collections.abc import Sequence
import hashlib
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from kdtw_jax.report import interactive, style, summary
from kdtw_jax.report.figures import Figure

_HERE = Path(__file__).parent


def render(name: str, figures: Sequence[Figure], **values: Any) -> str:
  """Renders a page.

  Args:
    name: the template.
    figures: every figure that the page shows.
    **values: what the template reads.

  Returns:
    The HTML.
  """
  environment = jinja2.Environment(
      loader=jinja2.FileSystemLoader(_HERE),
      autoescape=True,
      undefined=jinja2.StrictUndefined,
      trim_blocks=True,
      lstrip_blocks=True,
  )
  environment.filters |= {
      "number": style.number,
      "signed": style.signed,
      "percent": style.percent,
      "milliseconds": style.milliseconds,
      "duration": style.duration,
  }
  scripts = [interactive.library()] if figures else []
  scripts.append((_HERE / "page.js").read_text(encoding="utf-8"))
  return environment.get_template(name).render(
      scripts=[Markup(script) for script in scripts],
      script_sources=Markup(" ".join(map(_source, scripts))),
      specs={figure.name: interactive.spec(figure) for figure in figures},
      dark_colours=style.DARK,
      metric_titles=summary.METRIC_TITLES,
      **values,
  )


def _source(script: str) -> str:
  """Names a script by its hash, as a content security policy does."""
  digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest())
  return f"'sha256-{digest.decode()}'"
