"""What the page shows of outputs: who wrote what, what it cost. All text is escaped here.

Colour is never the only cue: what the teacher wrote is underlined, too.
"""

from collections.abc import Iterable, Sequence
import html
import itertools

from kdtw_jax.demo.writing import Run

_LIGHT = "--student: #0a5c99; --teacher: #b04008; --muted: #5a636e; --line: #d5d9de;"
_DARK = "--student: #7cc0f5; --teacher: #ff9e66; --muted: #a9b1bc; --line: #434a54;"

CSS = f"""
.kdtw {{ {_LIGHT} color: var(--body-text-color); }}
.dark .kdtw {{ {_DARK} }}
.kdtw .student, .kdtw .teacher {{ white-space: pre-wrap; overflow-wrap: anywhere; }}
.kdtw .student {{ color: var(--student); }}
.kdtw .teacher {{
  color: var(--teacher); font-weight: 600;
  text-decoration: underline; text-decoration-thickness: 2px; text-underline-offset: 3px;
}}
.kdtw table {{ width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }}
.kdtw table, .kdtw tr, .kdtw th, .kdtw td {{ border: 0 !important; }}
.kdtw th, .kdtw td {{ padding: 4px 0 4px 8px; text-align: right; vertical-align: bottom; }}
.kdtw th:first-child, .kdtw td:first-child {{ padding-left: 0; text-align: left; }}
.kdtw thead th {{ color: var(--muted); font-weight: 400; font-size: 0.85em; }}
.kdtw tbody {{ border-top: 1px solid var(--line); }}
.kdtw tbody th {{ padding-top: 10px; font-weight: 600; }}
.kdtw td.output {{ height: 3em; padding-bottom: 12px; font-size: 1.1em; vertical-align: top; }}
.kdtw .note {{ color: var(--muted); font-size: 0.85em; }}
.kdtw .problem {{
  border-left: 4px solid var(--teacher); padding: 8px 12px; overflow-wrap: anywhere;
}}
"""

LEGEND = (
    '<div class="kdtw">Written by the <span class="student">student</span> or by the '
    '<span class="teacher">teacher</span>, whose words are underlined.</div>'
)
_NOTE = (
    "A call is one pass of the teacher, which may check several tokens. Time runs from when a text "
    "gets a slot to its end, beside the texts of all others who write here now."
)
# Gradio's HTML is a template of values: braces, dollars and backticks stay text whatever it does.
_PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n\r"} | {127: 0x2421}
_INERT = str.maketrans({sign: f"&#{ord(sign)};" for sign in "{}$`\\"})


def escape(text: str) -> str:
  r"""Returns HTML that shows a text and nothing else; control characters as their pictures.

  >>> escape("<b>${1}\a")
  '&lt;b&gt;&#36;&#123;1&#125;␇'
  """
  return html.escape(text.translate(_PICTURES)).translate(_INERT)


def problem(message: str) -> str:
  """Returns what tells people what to do."""
  return f'<div class="kdtw"><p class="problem" role="alert">{escape(message)}</p></div>'


def table(runs: Sequence[Run]) -> str:
  """Returns the outputs so far, each with its costs once it has ended."""
  heads = ("Method", "Calls", "Calls per 100 tokens", "Teacher wrote", "Seconds")
  head = "".join(f'<th scope="col">{name}</th>' for name in heads)
  rows = "".join(map(_rows, runs))
  return (
      f'<div class="kdtw"><table><thead><tr>{head}</tr></thead>{rows}</table>'
      f'<p class="note">{_NOTE}</p></div>'
  )


def _rows(run: Run) -> str:
  costs = "".join(f"<td>{cost}</td>" for cost in _costs(run))
  return (
      f'<tbody><tr><th scope="row">{escape(run.title)}</th>{costs}</tr>'
      f'<tr><td class="output" colspan="5" dir="auto">{_output(run)}</td></tr></tbody>'
  )


def _costs(run: Run) -> Iterable[str]:
  """Returns calls, calls per 100 tokens, the teacher's share and seconds."""
  if run.end is None:
    return "…" * 4
  out = run.end.written
  per_100 = 100 * out.calls / max(len(out.tokens), 1)
  return f"{out.calls}", f"{per_100:.1f}", f"{out.share:.0%}", f"{out.seconds:.2f}"


def _output(run: Run) -> str:
  """Returns an output, the pieces that follow each other from one writer as one."""
  found = []
  for by_teacher, pieces in itertools.groupby(run.pieces, lambda piece: piece.by_teacher):
    text = "".join(piece.text for piece in pieces)
    writer = "teacher" if by_teacher else "student"
    found.append(f'<span class="{writer}" title="{writer}">{escape(text)}</span>')
  if run.end and not run.pieces:
    return '<span class="note">an empty output</span>'
  return "".join(found)
