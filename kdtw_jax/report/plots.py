"""Figures of a run: quality over calls, teacher share, cost and latency, and budget calibration.

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

from kdtw_jax.evaluation.hull_record import HullComparison
from kdtw_jax.evaluation.record import EXACT_METHOD, Curve, Metrics, Point
from kdtw_jax.files import write_atomically
from kdtw_jax.report import hulls, style, summary

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


def all_figures(metrics: Metrics) -> dict[str, Figure]:
  """Draws every figure that the numbers allow.

  Args:
    metrics: the run's numbers.

  Returns:
    Figures by file stem.
  """
  makers: dict[str, Callable[[Metrics], Figure | None]] = {
      "quality_hull": quality_hull,
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
    figures: figures by file stem.
    folder: the folder to write to.

  Returns:
    The SVG text of each figure.
  """
  texts = {}
  for name, figure in figures.items():
    for kind in ("png", "svg"):
      buffer = io.BytesIO()
      with matplotlib.rc_context(_RC), warnings.catch_warnings():
        # Titles may have letters that the bundled font lacks but the page's font has.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        metadata = {"Date": None} if kind == "svg" else None
        figure.savefig(buffer, format=kind, dpi=160, metadata=metadata, facecolor="white")
      write_atomically(folder / f"{name}.{kind}", buffer.getvalue())
    texts[name] = buffer.getvalue().decode("utf-8")
  return texts


def quality_hull(metrics: Metrics) -> Figure | None:
  """Draws the first family's hull over calls, on top of the shaded hull of all other methods."""
  found = hulls.main_comparison(metrics)
  if found is None:
    return None
  figure = Figure(figsize=SIZE, layout="constrained")
  axes = _style_axes(figure.add_subplot())
  usable = [curve for curve in summary.curves(metrics) if not curve.bound]
  others = [p for curve in usable if curve.family != found.family for p in curve.points]
  axes.plot(
      [100 * point.teacher_calls for point in others],
      [point.scores[metrics.metric] for point in others],
      ".",
      color=style.MUTED,
      markersize=4,
      zorder=3,
      label="settings of other methods",
  )
  _draw_hulls(axes, found)
  _draw_chord(axes, metrics)
  axes.set_xlabel("teacher calls per 100 output tokens")
  axes.set_ylabel(summary.quality_title(metrics))
  _reference_lines(axes, metrics)
  _legend(figure)
  return figure


def quality_share(metrics: Metrics) -> Figure | None:
  """Draws quality over the share of tokens that the teacher wrote."""
  figure = _quality_figure(metrics, lambda point: point.teacher_share, label_points=True)
  if figure is not None:
    axes = figure.axes[0]
    axes.set_xlabel("output tokens written by the teacher")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
  return figure


def quality_calls(metrics: Metrics) -> Figure | None:
  """Draws quality over the teacher's calls per token, whoever wrote the token."""
  figure = _quality_figure(metrics, lambda point: point.teacher_calls)
  if figure is not None:
    figure.axes[0].set_xlabel("teacher calls per output token")
  return figure


def quality_cost(metrics: Metrics) -> Figure | None:
  """Draws quality over the sequential cost per token, in teacher passes."""
  figure = _quality_figure(metrics, lambda point: point.cost)
  if figure is not None:
    figure.axes[0].set_xlabel("sequential cost per output token (teacher passes)")
  return figure


def quality_latency(metrics: Metrics) -> Figure | None:
  """Draws quality over the seconds that one sentence takes at batch 1."""
  figure = _quality_figure(metrics, _mean_seconds)
  if figure is not None:
    axes = figure.axes[0]
    axes.set_xlim(left=0)
    axes.set_xlabel("time per sentence, one at a time (ms)")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{1000 * value:g}"))
  return figure


def budget_calibration(metrics: Metrics) -> Figure | None:
  """Draws the realised teacher share over the budget that the instruction states."""
  rows = metrics.budgets
  if not rows:
    return None
  figure = Figure(figsize=SIZE, layout="constrained")
  axes = _style_axes(figure.add_subplot())
  top = min(1.0, 1.12 * max(max(row.budget, row.realised) for row in rows) + 0.02)
  axes.plot(
      [0, top], [0, top], "--", color=style.MUTED, linewidth=1.2, zorder=2, label="use = budget"
  )
  marks = (("o", style.ACCENT), ("D", style.ACCENT), ("o", "white"))
  for kind, (mark, fill) in zip(summary.BUDGET_KINDS, marks, strict=True):
    points = [(row.budget, row.realised) for row in rows if summary.budget_kind(row) == kind]
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
          label=kind,
      )
  axes.set(xlim=(0, top), ylim=(0, top), aspect="equal")
  axes.set_xlabel("budget in the instruction")
  axes.set_ylabel("output tokens written by the teacher")
  for axis in (axes.xaxis, axes.yaxis):
    axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
  axes.legend(loc="upper left", frameon=False)
  return figure


def _draw_hulls(axes: Axes, found: HullComparison) -> None:
  """Draws the others' hull, shaded, and the family's; the teacher alone, at 100 calls, is off."""
  theirs, ours = (
      [(100 * vertex.price, vertex.score) for vertex in hull.vertices]
      for hull in (found.others, found.ours)
  )
  shown = max((price for price, _ in (*theirs, *ours) if price < 99), default=0.0)
  right = 1.08 * shown or 100.0
  theirs.sort()
  theirs.append((max(right, theirs[-1][0]), theirs[-1][1]))  # more calls never cost quality
  x, y = zip(*theirs, strict=True)
  axes.fill_between(x, y, min(y), color=style.GRID, zorder=1)
  axes.plot(x, y, color=style.MUTED, linewidth=1.8, zorder=2, label="hull of all other methods")
  x, y = zip(*ours, strict=True)
  label = f"hull of {found.family}"
  axes.plot(x, y, "o-", color=style.ACCENT, linewidth=3, zorder=6, label=label)
  axes.set_xlim(0, right)


def _draw_chord(axes: Axes, metrics: Metrics) -> None:
  """Draws what a coin between the student alone and exact speculation gives."""
  student = summary.reference_score(metrics, "student")
  found = [curve for curve in summary.curves(metrics) if curve.method == EXACT_METHOD]
  if found and student is not None:
    cheapest = min(found[0].points, key=lambda point: point.teacher_calls)
    axes.plot(
        [0, 100 * cheapest.teacher_calls],
        [student, cheapest.scores[metrics.metric]],
        "--",
        color=style.INK,
        linewidth=1.3,
        zorder=4,
        label="student or exact speculation",
    )


_Coordinates = Sequence[tuple[float, float, str]]  # x, y and label of a curve's points


def _coordinates(curve: Curve, x_of: Callable[[Point], float | None], key: str) -> _Coordinates:
  return [
      (x, point.scores[key], point.label)
      for point in curve.points
      if (x := x_of(point)) is not None
  ]


def _mean_seconds(point: Point) -> float | None:
  return point.seconds_per_sentence.mean if point.seconds_per_sentence else None


def _quality_figure(
    metrics: Metrics, x_of: Callable[[Point], float | None], *, label_points: bool = False
) -> Figure | None:
  """Draws one line per method, in the order of its sweep, the main method's points labelled."""
  found = [(curve, _coordinates(curve, x_of, metrics.metric)) for curve in summary.plotted(metrics)]
  found = [(curve, points) for curve, points in found if points]
  if not found:
    return None
  figure = Figure(figsize=SIZE, layout="constrained")
  axes = _style_axes(figure.add_subplot())
  axes.set_ylabel(summary.quality_title(metrics))
  drawn = [curve for curve, _ in found]
  styles, main = style.method_styles(drawn), summary.main_curve(drawn)
  for curve, points in found:
    look = styles[curve.method]
    _draw_line(axes, curve.title, points, look)
    if label_points and curve is main:
      _label_points(axes, points, look.colour)
  axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
  _reference_lines(axes, metrics)
  _legend(figure)
  return figure


def _style_axes(axes: Axes) -> Axes:
  axes.grid(True, color=style.GRID, linewidth=0.8)
  axes.set_axisbelow(True)
  axes.spines[["top", "right"]].set_visible(False)
  axes.tick_params(length=3)
  return axes


def _draw_line(axes: Axes, title: str, points: _Coordinates, look: style.MethodStyle) -> None:
  axes.plot(
      [x for x, _, _ in points],
      [y for _, y, _ in points],
      label=title,
      color=look.colour,
      marker=look.marker,
      linestyle=look.dashes,
      linewidth=look.width,
      markersize=7.5 if look.order > 5 else 6,
      zorder=look.order,
  )


def _label_points(axes: Axes, points: _Coordinates, colour: str) -> None:
  for x, y, label in points:
    axes.annotate(
        label,
        (x, y),
        xytext=(-5, 7),
        textcoords="offset points",
        ha="right",
        va="bottom",
        color=colour,
        fontsize=9.5,
        zorder=7,
    )


def _reference_lines(axes: Axes, metrics: Metrics) -> None:
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
