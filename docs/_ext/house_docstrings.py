"""Docstrings and signatures as they are written in the house.

Docstrings are Google's sections around Markdown: code in single backticks, equations indented.
Sphinx reads reStructuredText, so both are translated before napoleon sees the sections. Signatures
show annotations as the source has them, e.g. `Float[Array, "B T"]`, instead of what they become.
"""

import ast
from collections.abc import Iterator
import dataclasses
import inspect
import itertools
import re
import textwrap
from typing import Any

from sphinx.application import Sphinx

SECTIONS = ("Args:", "Attributes:", "Example:", "Raises:", "Returns:", "Yields:")
MOST_FIELDS = 6
_SPAN = re.compile(r"(`[^`]+`)", re.DOTALL)


def to_rst(lines: list[str]) -> list[str]:
  """Translates a docstring, without its common indentation, to reStructuredText."""
  blocks, in_section = [], False
  for block in re.split(r"\n{2,}", "\n".join(lines).strip("\n")):
    first = block.split("\n", 1)[0]
    if not first.startswith(" "):
      in_section = first in SECTIONS
    if first == "Returns:":
      blocks.append(_returns(block))
    elif in_section:
      blocks.append(block if ">>> " in block else _prose(block))
    else:
      blocks += _body(block)
  return "\n\n".join(blocks).split("\n") + [""]


def _body(block: str) -> Iterator[str]:
  """Divides a block outside of sections into prose and what is indented: equations, tables."""
  for indented, group in itertools.groupby(block.split("\n"), lambda line: line.startswith("  ")):
    text = "\n".join(group)
    yield "::\n\n" + textwrap.indent(textwrap.dedent(text), "    ") if indented else _prose(text)


def _returns(block: str) -> str:
  """Makes a field of the section, in which napoleon would take what precedes a colon for a type."""
  text = textwrap.dedent(block.split("\n", 1)[1])
  return ":returns: " + textwrap.indent(_prose(text), "    ").strip()


def _prose(text: str) -> str:
  """Doubles backticks, links papers, and keeps what reStructuredText would read as markup."""
  parts = _SPAN.split(text)
  for i, part in enumerate(parts):
    if i % 2:
      parts[i] = f"`{part}`"
    else:
      part = re.sub(r"\\|\*|\||_(?=\W|$)", r"\\\g<0>", part)
      parts[i] = re.sub(
          r"arXiv(\s+)(\d{4}\.\d{5})", r"`arXiv\1\2 <https://arxiv.org/abs/\2>`__", part
      )
  return "".join(parts)


def with_types(lines: list[str], annotations: dict[str, str]) -> list[str]:
  """Puts the annotations of a record's fields into its section of attributes."""
  section, found = "", []
  for line in lines:
    section = line if line in SECTIONS else section
    name, colon, words = line.strip().partition(": ")
    if section == "Attributes:" and line.startswith("  ") and line[2] != " " and colon:
      names = name.split(", ")
      if names[0] in annotations:
        line = f"  {name} (``{annotations[names[0]]}``): {words}"
    found.append(line)
  return found


def annotations_of(kind: type) -> dict[str, str]:
  """Returns the annotations of a class and its bases, as the source has them."""
  found: dict[str, str] = {}
  for base in reversed(kind.__mro__):
    if base.__module__.startswith("kdtw_jax"):
      (node,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
      assert isinstance(node, ast.ClassDef)
      for field in node.body:
        if isinstance(field, ast.AnnAssign):
          found[ast.unparse(field.target)] = ast.unparse(field.annotation).replace("'", '"')
  return found


def _on_docstring(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
  found = to_rst(lines)
  lines[:] = with_types(found, annotations_of(obj)) if inspect.isclass(obj) else found


def signature(obj: Any) -> tuple[str, str | None] | None:
  """Returns arguments and result as in the source; None if it is not known."""
  if inspect.isclass(obj):
    return _record_signature(obj), None
  try:
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(obj)))
  except (OSError, TypeError):
    return None
  function = ast.parse(source).body[0]
  if not isinstance(function, ast.FunctionDef):
    return None
  arguments = function.args
  if arguments.args and arguments.args[0].arg == "self":
    del arguments.args[0]
  returns = ast.unparse(function.returns) if function.returns else None
  return f"({ast.unparse(arguments)})", returns


def _record_signature(kind: type) -> str:
  """Returns the fields of a small record; those of a large one stand under its attributes alone."""
  if not dataclasses.is_dataclass(kind):
    own = "__init__" in vars(kind) and not getattr(kind, "_is_protocol", False)
    found = signature(kind.__init__) if own else None
    return found[0] if found else ""
  fields = [field for field in dataclasses.fields(kind) if not field.kw_only]
  if len(fields) > MOST_FIELDS:
    return ""
  shown = (
      f.name if f.default is dataclasses.MISSING else f"{f.name}={f.default!r}" for f in fields
  )
  return f"({', '.join(shown)})"


def _on_signature(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, args: str | None, returns: str | None
) -> tuple[str, str | None] | None:
  return signature(obj) if what in ("function", "method", "class", "exception") else None


def setup(app: Sphinx) -> dict[str, Any]:
  """Translates docstrings before napoleon does, and replaces signatures."""
  app.connect("autodoc-process-docstring", _on_docstring, priority=400)
  app.connect("autodoc-process-signature", _on_signature)
  return {"parallel_read_safe": True, "parallel_write_safe": True}
