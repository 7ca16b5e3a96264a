"""Figures of a run: quality over teacher share, over cost and latency, and budget calibration.

Each function returns a matplotlib figure, or None if its numbers are missing; `save` writes PNG and
SVG. Figures are made without pyplot, so that drawing leaves no state behind.
"""

from collections.abc import Callable, Mapping, Sequence
import io
from pathlib import Path
from typing import Any
import warnings

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from kdtw_jax.evaluation.tradeoff import Curve, Point
from kdtw_jax.files import write_atomically
from kdtw_jax.report import style, summary

SIZE = (6.6, 5.0)  # inches; at 11 pt the text reads well from 450 to 900 px
_RC = {
    "svg.fonttype": "none",  # text stays text: searchable, and in the page's font
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


def all_figures(metrics: Mapping[str, Any]) -> dict[str, Figure]:
  """Draws every figure that the numbers allow.

  Args:
    metrics: the dict of metrics.json.

  Returns:
    Figures by file stem.
  """
  makers: dict[str, Callable[[Mapping[str, Any]], Figure | None]] = {
      "quality_share": quality_share,
      "quality_calls": quality_calls,
      "quality_cost": quality_cost,
      "quality_latency": quality_latency,
      "budget_calibration": budget_calibration,
  }
  figures = {}
  with matplotlib.rc_context(_RC):
    for name, make in makers.items():
      figure = make(metrics)
      if figure is not None:
        figures[name] = figure
  return figures


def save(figures: Mapping[str, Figure], folder: Path) -> dict[str, str]:
  """Writes each figure as PNG and SVG.

  Args:
    figures: by file stem.
    folder: where to.

  Returns:
    The SVG text of each figure.
  """
  texts = {}
  for name, figure in figures.items():
    for kind in ("png", "svg"):
      buffer = io.BytesIO()
      with matplotlib.rc_context(_RC), warnings.catch_warnings():
        # Titles may hold letters that the bundled font lacks; the page's own font has them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        metadata = {"Date": None} if kind == "svg" else None
        figure.savefig(buffer, format=kind, dpi=160, metadata=metadata, facecolor="white")
      write_atomically(folder / f"{name}.{kind}", buffer.getvalue())
    texts[name] = buffer.getvalue().decode("utf-8")
  return texts


def quality_share(metrics: Mapping[str, Any]) -> Figure | None:
  """Draws quality over the share of tokens that the teacher wrote."""
  figure = _quality_figure(metrics, lambda point: point.teacher_share, label_points=True)
  if figure is not None:
    axes = figure.axes[0]
    axes.set_xlabel("output tokens written by the teacher")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
  return figure


def quality_calls(metrics: Mapping[str, Any]) -> Figure | None:
  """Draws quality over the teacher's calls per token, whoever wrote the token then."""
  figure = _quality_figure(metrics, lambda point: point.teacher_calls)
  if figure is not None:
    figure.axes[0].set_xlabel("teacher calls per output token")
  return figure


def quality_cost(metrics: Mapping[str, Any]) -> Figure | None:
  """Draws quality over the sequential cost per token, in teacher passes."""
  figure = _quality_figure(metrics, lambda point: point.cost)
  if figure is not None:
    figure.axes[0].set_xlabel("sequential cost per output token (teacher passes)")
  return figure


def quality_latency(metrics: Mapping[str, Any]) -> Figure | None:
  """Draws quality over the seconds that one sentence takes at batch 1."""
  figure = _quality_figure(metrics, lambda point: (point.seconds_per_sentence or {}).get("mean"))
  if figure is not None:
    axes = figure.axes[0]
    axes.set_xlim(left=0)
    axes.set_xlabel("time per sentence, one at a time (ms)")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{1000 * value:g}"))
  return figure


def budget_calibration(metrics: Mapping[str, Any]) -> Figure | None:
  """Draws the realised teacher share over the budget that the instruction states."""
  rows = [
      row
      for row in metrics.get("budgets") or ()
      if style.is_number(row.get("budget")) and style.is_number(row.get("realised"))
  ]
  if not rows:
    return None
  figure = Figure(figsize=SIZE, layout="constrained")
  axes = _style_axes(figure.add_subplot())
  top = min(1.0, 1.12 * max(max(row["budget"], row["realised"]) for row in rows) + 0.02)
  axes.plot([0, top], [0, top], "--", color=style.MUTED, linewidth=1.2, zorder=2)
  axes.text(
      0.97 * top,
      0.97 * top,
      "use = budget",
      color=style.MUTED,
      ha="right",
      va="bottom",
      rotation=45,
      rotation_mode="anchor",
      fontsize=10,
  )
  marks = (("o", style.ACCENT), ("D", style.ACCENT), ("o", "white"))
  for (kind, words), (mark, fill) in zip(summary.BUDGET_KINDS.items(), marks, strict=True):
    points = [(row["budget"], row["realised"]) for row in rows if summary.budget_kind(row) == kind]
    if points:
      axes.plot(
          *zip(*points, strict=True),
          mark,
          markersize=8.5,
          markeredgewidth=1.8,
          zorder=4,
          clip_on=False,
          markerfacecolor=fill,
          markeredgecolor=style.ACCENT,
          label=f"budgets {words}",
      )
  axes.set(xlim=(0, top), ylim=(0, top), aspect="equal")
  axes.set_xlabel("budget in the instruction")
  axes.set_ylabel("output tokens written by the teacher")
  for axis in (axes.xaxis, axes.yaxis):
    axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
  axes.legend(loc="upper left", frameon=False)
  return figure


def _quality_figure(
    metrics: Mapping[str, Any], x_of: Callable[[Point], float | None], *, label_points: bool = False
) -> Figure | None:
  key = summary.quality_key(metrics)
  found = summary.plotted(metrics)
  main = summary.main_method([curve.method for curve in found])
  lines = {}
  for curve in found:
    points = _usable(curve, x_of, key)
    if points:
      keep_labels = label_points and curve.method == main
      lines[curve.method] = points if keep_labels else [(x, y, "") for x, y, _ in points]
  if not lines:
    return None
  figure = _new_figure(metrics)
  _draw_lines(figure.axes[0], lines, {curve.method: curve.title for curve in found})
  figure.axes[0].set_xlim(left=min(0.0, figure.axes[0].get_xlim()[0]))
  _reference_lines(figure.axes[0], metrics)
  _legend(figure)
  return figure


def _usable(
    curve: Curve, x_of: Callable[[Point], float | None], key: str
) -> list[tuple[float, float, str]]:
  """Points with both numbers, in the order of the sweep: a line follows its dial."""
  rows = [(x_of(point), point.scores.get(key), point.label) for point in curve.points]
  return [row for row in rows if style.is_number(row[0]) and style.is_number(row[1])]


def _new_figure(metrics: Mapping[str, Any]) -> Figure:
  figure = Figure(figsize=SIZE, layout="constrained")
  axes = _style_axes(figure.add_subplot())
  axes.set_ylabel(summary.quality_title(metrics))
  return figure


def _style_axes(axes: Axes) -> Axes:
  axes.grid(True, color=style.GRID, linewidth=0.8)
  axes.set_axisbelow(True)
  axes.spines[["top", "right"]].set_visible(False)
  axes.tick_params(length=3)
  return axes


def _draw_lines(
    axes: Axes, lines: Mapping[str, Sequence[tuple[float, float, str]]], titles: Mapping[str, str]
) -> None:
  """Draws one line per method; points with a label get it written beside them."""
  styles = style.method_styles(list(lines))
  for method, points in lines.items():
    look = styles[method]
    axes.plot(
        [x for x, _, _ in points],
        [y for _, y, _ in points],
        label=titles.get(method, method),
        color=look.colour,
        marker=look.marker,
        linestyle=look.dashes,
        linewidth=look.width,
        markersize=7.5 if look.order > 5 else 6,
        zorder=look.order,
    )
    for x, y, label in (point for point in points if point[2]):
      axes.annotate(
          label,
          (x, y),
          xytext=(-5, 7),
          textcoords="offset points",
          ha="right",
          va="bottom",
          color=look.colour,
          fontsize=9.5,
          zorder=7,
      )


def _reference_lines(axes: Axes, metrics: Mapping[str, Any]) -> None:
  """Draws the student's and the teacher's quality as labelled level lines."""
  for name, gap, anchor in (("teacher", 3, "bottom"), ("student", -4, "top")):
    score = summary.reference_score(metrics, name)
    if score is None:
      continue
    axes.axhline(score, color=style.MUTED, linewidth=1.1, linestyle=(0, (5, 3)), zorder=1)
    axes.annotate(
        f"{summary.REFERENCE_TITLES[name].lower()} {style.number(score)}",
        (1.0, score),
        xycoords=("axes fraction", "data"),
        xytext=(-2, gap),
        textcoords="offset points",
        ha="right",
        va=anchor,
        color=style.MUTED,
        fontsize=10,
    )
  axes.margins(y=0.09)


def _legend(figure: Figure) -> None:
  handles, labels = figure.axes[0].get_legend_handles_labels()
  longest = max(map(len, labels), default=0)
  figure.legend(
      handles,
      labels,
      loc="outside lower center",
      ncols=max(1, min(3, len(labels), _columns(longest))),
      frameon=False,
      fontsize=10.5,
  )


def _columns(longest: int) -> int:
  return 3 if longest <= 22 else 2 if longest <= 40 else 1
