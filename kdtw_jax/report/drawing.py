"""Figures as PNG and SVG, for READMEs, slides and results; the only module that imports matplotlib.

They are made without pyplot, so that drawing leaves no state behind.
"""

from collections.abc import Iterable
import io
from pathlib import Path
from typing import Any
import warnings

import matplotlib
from matplotlib import figure as mpl
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from kdtw_jax.files import write_atomically
from kdtw_jax.report import style
from kdtw_jax.report.figures import Axis, Figure, Line

SIZE = (6.6, 5.0)  # inches; at 11 pt the text reads well from 450 to 900 px
_RC: dict[Any, Any] = {
    "svg.fonttype": "none",  # keeps text searchable and in the page's font
    "svg.hashsalt": "kdtw_jax",
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "text.parse_math": False,
    "axes.edgecolor": style.MUTED,
    "axes.labelcolor": style.INK,
    "text.color": style.INK,
    "xtick.color": style.MUTED,
    "ytick.color": style.MUTED,
    "xtick.labelcolor": style.INK,
    "ytick.labelcolor": style.INK,
}


def save(figures: Iterable[Figure], folder: Path) -> None:
  """Writes each figure as PNG and SVG.

  Args:
    figures: the figures; their names are the file stems.
    folder: the folder to write to.
  """
  with matplotlib.rc_context(_RC), warnings.catch_warnings():
    # Titles may have letters that the bundled font lacks.
    warnings.filterwarnings("ignore", message="Glyph .* missing from")
    for figure in figures:
      drawn = draw(figure)
      for kind in ("png", "svg"):
        buffer = io.BytesIO()
        metadata = {"Date": None} if kind == "svg" else None
        drawn.savefig(buffer, format=kind, dpi=160, metadata=metadata, facecolor="white")
        write_atomically(folder / f"{figure.name}.{kind}", buffer.getvalue())


def draw(figure: Figure) -> mpl.Figure:
  """Draws a figure."""
  drawn = mpl.Figure(figsize=SIZE, layout="constrained")
  axes = drawn.add_subplot()
  axes.grid(True, color=style.GRID, linewidth=0.8)
  axes.set_axisbelow(True)
  axes.spines[["top", "right"]].set_visible(False)
  axes.tick_params(length=3)
  for line in figure.lines:
    _draw_line(axes, line)
  for level in figure.levels:
    _draw_level(axes, level.y, level.label, above=level.above)
  if figure.square:
    axes.set_aspect("equal")
  axes.margins(y=0.09)
  _set_axis(axes, "x", figure.x)
  _set_axis(axes, "y", figure.y)
  _legend(drawn, axes)
  return drawn


def _draw_line(axes: Axes, line: Line) -> None:
  look = line.look
  x, y = [mark.x for mark in line.marks], [mark.y for mark in line.marks]
  if line.shade:
    axes.fill_between(x, y, min(y), color=style.GRID, zorder=1)
  axes.plot(
      x,
      y,
      label=line.title,
      color=look.colour,
      marker=look.marker,
      linestyle=look.dashes if look.width else "",
      linewidth=look.width or 1.0,
      markersize=4 if look.marker == "." else 7.5 if look.order > 5 else 6,
      markerfacecolor="white" if line.hollow else look.colour,
      zorder=look.order,
  )
  for mark in line.marks:
    if mark.interval is not None:
      axes.vlines(mark.x, *mark.interval, color=look.colour, linewidth=1.4, zorder=look.order)
    if mark.label:
      axes.annotate(
          mark.label,
          (mark.x, mark.y),
          xytext=(-5, 7),
          textcoords="offset points",
          ha="right",
          va="bottom",
          color=look.colour,
          fontsize=9.5,
          zorder=7,
      )


def _draw_level(axes: Axes, y: float, label: str, *, above: bool) -> None:
  axes.axhline(y, color=style.MUTED, linewidth=1.1, linestyle=(0, (5, 3)), zorder=1)
  axes.annotate(
      label,
      (1.0, y),
      xycoords=("axes fraction", "data"),
      xytext=(-2, 3 if above else -4),
      textcoords="offset points",
      ha="right",
      va="bottom" if above else "top",
      color=style.MUTED,
      fontsize=10,
  )


def _set_axis(axes: Axes, name: str, axis: Axis) -> None:
  axes.set(**{f"{name}label": axis.title})
  if axis.percent:
    getattr(axes, f"{name}axis").set_major_formatter(PercentFormatter(1.0, decimals=0))
  low, high = getattr(axes, f"get_{name}lim")()
  low = low if axis.low is None else min(axis.low, low) if axis.high is None else axis.low
  axes.set(**{f"{name}lim": (low, high if axis.high is None else axis.high)})


def _legend(drawn: mpl.Figure, axes: Axes) -> None:
  handles, labels = axes.get_legend_handles_labels()
  longest = max(map(len, labels), default=0)
  columns = 3 if longest <= 22 else 2 if longest <= 40 else 1
  drawn.legend(
      handles,
      labels,
      loc="outside lower center",
      ncols=max(1, min(columns, len(labels))),
      frameon=False,
      fontsize=10.5,
  )
