"""Figures as Plotly draws them on a page: traces and a layout, as plain JSON values.

The library lies in `plotly/`, as it was published (npm, plotly.js-basic-dist-min): its basic bundle
evaluates no text as code. What depends on the screen (colours on a dark page, height, margins) is
added by `page.js`.
"""

import functools
import html
from pathlib import Path
from typing import Any

from kdtw_jax.report import style
from kdtw_jax.report.figures import Axis, Figure, Level, Line

_SYMBOLS = {
    "o": "circle",
    ".": "circle",
    "s": "square",
    "D": "diamond",
    "d": "diamond-tall",
    "v": "triangle-down",
    "^": "triangle-up",
    "<": "triangle-left",
    ">": "triangle-right",
    "X": "x",
    "x": "x-thin-open",
    "P": "cross",
    "*": "star",
    "h": "hexagon",
    "p": "pentagon",
}
_DASHES = {"-": "solid", "--": "dash", "-.": "dashdot", ":": "dot"}


@functools.cache
def library() -> str:
  """Returns the text of Plotly's script."""
  path = Path(__file__).parent / "plotly" / "plotly-basic.min.js"
  return path.read_text(encoding="utf-8")


def spec(figure: Figure) -> dict[str, Any]:
  """Describes a figure to Plotly.

  Args:
    figure: the figure.

  Returns:
    `{"data": traces, "layout": layout}`, and for the page's script `small`, `square` and `names`,
    the lengths of those in the legend.
  """
  traces = [trace for line in figure.lines for trace in _traces(line)]
  return {
      "data": traces,
      "layout": {
          "xaxis": _axis(figure.x),
          "yaxis": _axis(figure.y),
          "shapes": [_level(level) for level in figure.levels],
          "annotations": [_label(level) for level in figure.levels],
          "showlegend": len(figure.lines) > 1,
          "font": {"color": style.INK},
          "hoverlabel": {
              "bgcolor": style.PAPER,
              "font": {"color": style.INK, "size": 13},
              "align": "left",
          },
      },
      "small": figure.small,
      "square": figure.square,
      "names": [len(line.title) for line in figure.lines] if len(figure.lines) > 1 else [],
  }


def _traces(line: Line) -> list[dict[str, Any]]:
  look, marks = line.look, line.marks
  x, y = [_short(mark.x) for mark in marks], [_short(mark.y) for mark in marks]
  parts = ["lines"] * bool(look.width) + ["markers"] * bool(look.marker)
  parts += ["text"] * any(mark.label for mark in marks)
  trace = {
      "type": "scatter",
      "mode": "+".join(parts),
      "name": _text(line.title),
      "x": x,
      "y": y,
      "line": {"color": look.colour, "width": look.width, "dash": _DASHES[look.dashes]},
      "hoverinfo": "text" if any(mark.says for mark in marks) else "skip",
      "hovertext": ["<br>".join(map(_text, mark.says)) for mark in marks],
      "hoverlabel": {"bordercolor": look.colour},
  }
  if look.marker:
    symbol = _SYMBOLS[look.marker] + "-open" * line.hollow
    size = 6 if look.marker == "." else 10 if look.order > 5 else 8
    trace["marker"] = {"symbol": symbol, "size": size, "color": look.colour}
    trace["marker"]["line"] = {"width": 2 * (line.hollow or look.marker == "x")}
  if "text" in parts:
    trace |= {"text": [_text(mark.label) for mark in marks], "textposition": "top left"}
    trace["textfont"] = {"color": look.colour}
  if any(mark.interval for mark in marks):
    ends = [mark.interval or (mark.y, mark.y) for mark in marks]
    trace["error_y"] = {
        "type": "data",
        "symmetric": False,
        "array": [high - mark.y for mark, (_, high) in zip(marks, ends, strict=True)],
        "arrayminus": [mark.y - low for mark, (low, _) in zip(marks, ends, strict=True)],
        "thickness": 1.6,
        "width": 0,
    }
  if not line.shade:
    return [trace]
  floor = min(y)
  shade = {
      "type": "scatter",
      "mode": "lines",
      "x": [*x, x[-1], x[0]],
      "y": [*y, floor, floor],
      "fill": "toself",
      "fillcolor": style.GRID,
      "line": {"width": 0},
      "hoverinfo": "skip",
      "showlegend": False,
      "legendgroup": trace["name"],
  }
  return [shade, trace | {"legendgroup": trace["name"]}]


def _axis(axis: Axis) -> dict[str, Any]:
  found: dict[str, Any] = {
      "title": {"text": _text(axis.title)},
      "gridcolor": style.GRID,
      "linecolor": style.GRID,
  }
  if axis.percent:
    found["tickformat"] = ".0%"
  if axis.high is not None:
    found["range"] = [axis.low or 0.0, axis.high]
  elif axis.low is not None:
    found["rangemode"] = "tozero"
  return found


def _level(level: Level) -> dict[str, Any]:
  return {
      "type": "line",
      "layer": "below",
      "xref": "paper",
      "x0": 0,
      "x1": 1,
      "y0": level.y,
      "y1": level.y,
      "line": {"color": style.MUTED, "width": 1.2, "dash": "dash"},
  }


def _label(level: Level) -> dict[str, Any]:
  return {
      "text": _text(level.label),
      "xref": "paper",
      "x": 1,
      "y": level.y,
      "xanchor": "right",
      "yanchor": "bottom" if level.above else "top",
      "showarrow": False,
      "font": {"color": style.MUTED},
  }


def _short(value: float) -> float:
  """Drops digits that no screen shows."""
  return float(f"{value:.6g}")


def _text(text: str) -> str:
  """Escapes a text, in which Plotly would read tags."""
  return html.escape(text, quote=False)
