"""The figures of one run: quality over what is paid for, hulls, budgets and learning.

Figures without numbers are left out. Those of `saved` are files too, under their names.
"""

from collections.abc import Callable, Sequence
import dataclasses

from kdtw_jax.evaluation.hull_record import Hull, HullComparison
from kdtw_jax.evaluation.record import EXACT_METHOD, Curve, Metrics, Point, Stage
from kdtw_jax.report import hulls, style, summary
from kdtw_jax.report.figures import Axis, Figure, Level, Line, Mark
from kdtw_jax.report.prices import CALLS, SHARE, TIME, Price, cost, passes, price_of, right_end
from kdtw_jax.report.style import MethodStyle

_OTHERS = MethodStyle(style.MUTED, ".", width=0.0, order=3)
_THEIR_HULL = MethodStyle(style.MUTED, "", width=1.8, order=2)
_OUR_HULL = MethodStyle(style.ACCENT, "o", width=3.0, order=6)
_CHORD = MethodStyle(style.INK, "", "--", 1.3, 4)
_DIAGONAL = MethodStyle(style.MUTED, "", "--", 1.2, 2)


def saved(metrics: Metrics) -> list[Figure]:
  """Returns the figures that are written as files beside the page."""
  measured = cost(metrics.step_ratio, measured=True)
  found = [quality(metrics, price) for price in (SHARE, CALLS, measured, TIME)]
  return [
      figure
      for figure in (*hull_figures(metrics)[:1], *found, budget_calibration(metrics))
      if figure is not None
  ]


def trade_offs(metrics: Metrics) -> list[Figure]:
  """Returns quality over each price: share, calls, cost at every step ratio, and time."""
  ratios = dict.fromkeys(
      row.step_ratio for row in metrics.hulls if row.step_ratio is not None and not row.measured
  )
  costs = [cost(ratio, measured=False) for ratio in ratios]
  priced = [SHARE, CALLS, *costs, cost(metrics.step_ratio, measured=True), TIME]
  return [figure for price in priced if (figure := quality(metrics, price)) is not None]


def says(metrics: Metrics, curve: Curve, point: Point, price: Price) -> list[str]:
  """Says everything about a point: method, dial, score and interval, share, calls, cost and time.

  The cost is at the price's ratio of a student step, and at the measured one beside other prices.
  """
  ratio = metrics.step_ratio if price.ratio is None else price.ratio
  score = f"{style.number(point.scores[metrics.metric])} {summary.quality_title(metrics)}"
  if point.interval is not None:
    low, high = map(style.number, point.interval)
    score += f" (95% interval {low} to {high})"
  lines = [
      curve.title,
      f"{curve.dial_name.replace('_', ' ')} {point.label}".strip(),
      score,
      f"{style.percent(point.teacher_share, 1)} of the tokens by the teacher",
      f"{style.number(100 * point.teacher_calls)} calls per 100 tokens",
      f"cost {style.number(passes(point, ratio), 2)} passes per token (c = {ratio:.2g})",
  ]
  if point.seconds_per_sentence is not None:
    lines.append(f"{style.milliseconds(point.seconds_per_sentence.mean)} per sentence")
  return lines


def quality(metrics: Metrics, price: Price) -> Figure | None:
  """Draws one line per method, in the order of its sweep; None if no point has the price."""
  found = [curve for curve in summary.plotted(metrics) if any(map(_known(price), curve.points))]
  if not found:
    return None
  looks, main = style.method_styles(found), summary.main_curve(found)
  lines = []
  for curve in found:
    marks = [
        Mark(
            x,
            point.scores[metrics.metric],
            says(metrics, curve, point, price),
            label=point.label if curve is main and price is SHARE else "",
        )
        for point in curve.points
        if (x := price.of(point)) is not None
    ]
    lines.append(Line(title=curve.title, marks=marks, look=looks[curve.method]))
  return Figure(
      name=f"quality_{price.name}",
      tab=price.tab,
      caption=f"{summary.quality_title(metrics)} over the {_CAPTIONS[price.name.split('_')[0]]}.",
      x=price.axis,
      y=Axis(summary.quality_title(metrics)),
      lines=lines,
      levels=_levels(metrics),
  )


_CAPTIONS = {
    "share": "share of output tokens that the teacher wrote, on test",
    "calls": "calls to the teacher, on test; a call may check the student’s tokens or write one",
    "cost": (
        "sequential cost, on test: teacher passes, and student steps at c of a teacher pass each"
    ),
    "latency": "measured time of one sentence at a time, on this machine",
}


def _known(price: Price) -> Callable[[Point], bool]:
  return lambda point: price.of(point) is not None


def hull_figures(metrics: Metrics) -> list[Figure]:
  """Returns the hull of the run's first family against that of all other methods, by price."""
  family = metrics.hulls[0].family if metrics.hulls else ""
  rows = [r for r in metrics.hulls if (r.family, r.score) == (family, metrics.metric)]
  return [_hull_figure(metrics, row) for row in rows]


def _hull_figure(metrics: Metrics, found: HullComparison) -> Figure:
  """Draws both hulls, the other methods' settings, and a coin with exact speculation."""
  price = price_of(found)
  curves = [c for c in summary.curves(metrics) if not c.bound and c.family != found.family]
  others = [
      Mark(x, point.scores[metrics.metric], says(metrics, curve, point, price))
      for curve in curves
      for point in curve.points
      if (x := price.of(point)) is not None
  ]
  theirs, ours = (hull_marks(hull, found) for hull in (found.others, found.ours))
  right = right_end(price, (found.others, found.ours))
  theirs.sort(key=lambda mark: mark.x)
  theirs.append(Mark(max(right, theirs[-1].x), theirs[-1].y))  # paying more never costs quality
  lines = [
      Line(title="settings of other methods", marks=others, look=_OTHERS),
      Line(title="hull of all other methods", marks=theirs, look=_THEIR_HULL, shade=True),
      Line(title=f"hull of {found.family}", marks=ours, look=_OUR_HULL),
      *_chord(metrics, price),
  ]
  return Figure(
      name="quality_hull" if found.price == "calls" else f"quality_hull_{price.name}",
      tab=price.tab,
      caption=(
          "Shaded: what all other methods reach on test, mixed by a coin. The settings of both "
          "hulls were chosen on validation."
      ),
      x=dataclasses.replace(price.axis, high=right),
      y=Axis(summary.quality_title(metrics)),
      lines=[line for line in lines if line.marks],
      levels=_levels(metrics),
  )


def hull_marks(hull: Hull, found: HullComparison) -> list[Mark]:
  """Returns the vertices of a hull as marks."""
  scale, title = price_of(found).scale, summary.METRIC_TITLES[found.score]
  return [
      Mark(
          scale * vertex.price,
          vertex.score,
          (
              f"{vertex.title} {vertex.label}".strip(),
              f"{style.number(vertex.score)} {title}",
              hulls.price_words(found, vertex.price),
          ),
      )
      for vertex in hull.vertices
  ]


def _chord(metrics: Metrics, price: Price) -> list[Line]:
  """Draws what a coin between the student alone and exact speculation gives."""
  student = summary.reference_score(metrics, "student")
  exact = next((c for c in summary.curves(metrics) if c.method == EXACT_METHOD), None)
  if exact is None or student is None or price.ratio is not None:
    return []
  end = min(exact.points, key=lambda point: price.of(point) or 0.0)
  marks = [Mark(0.0, student), Mark(price.of(end) or 0.0, end.scores[metrics.metric])]
  return [Line(title="student or exact speculation", marks=marks, look=_CHORD)]


def _levels(metrics: Metrics) -> list[Level]:
  """Returns the student's and the teacher's quality alone."""
  scores = {name: summary.reference_score(metrics, name) for name in ("teacher", "student")}
  return [
      Level(
          score,
          f"{summary.REFERENCE_TITLES[name].lower()} {style.number(score)}",
          above=name == "teacher",
      )
      for name, score in scores.items()
      if score is not None
  ]


def budget_calibration(metrics: Metrics) -> Figure | None:
  """Draws the realised teacher share over the budget that the instruction states."""
  rows = metrics.budgets
  if not rows:
    return None
  top = min(1.0, 1.12 * max(max(row.budget, row.realised) for row in rows) + 0.02)
  lines = [Line(title="use = budget", marks=[Mark(0.0, 0.0), Mark(top, top)], look=_DIAGONAL)]
  for kind, marker, hollow in zip(
      summary.BUDGET_KINDS, ("o", "D", "o"), (False, False, True), strict=True
  ):
    marks = [
        Mark(
            row.budget,
            row.realised,
            (
                row.template.strip().replace("{percent}", style.percent(row.budget)),
                f"teacher wrote {style.percent(row.realised, 1)}",
                f"{style.percent(row.violations)} of the sentences above it",
            ),
        )
        for row in rows
        if summary.budget_kind(row) == kind
    ]
    look = MethodStyle(style.ACCENT, marker, width=0.0, order=6)
    lines.append(Line(title=kind, marks=marks, look=look, hollow=hollow))
  return Figure(
      name="budget_calibration",
      caption="The share that the teacher wrote, over the budget in the instruction.",
      x=Axis("budget in the instruction", percent=True, low=0.0, high=top),
      y=Axis("output tokens written by the teacher", percent=True, low=0.0, high=top),
      lines=[line for line in lines if line.marks],
      square=True,
  )


# Title, axis and logged names of the small figures of a stage; those without a log are left out.
_LEARNING = (
    ("loss", "loss", ("loss",)),
    ("use", "share of tokens", ("asked", "budget")),
    ("prices", "λ, nats per ask", ("dual_",)),
    ("error of V", "root mean square, nats", ("residual",)),
    ("error of V_C", "½ error², asks²", ("loss_cost_value_loss",)),
)


def learning(stages: Sequence[Stage]) -> list[Figure]:
  """Draws what the stages logged: loss, use of the teacher, prices, and errors of both values."""
  figures = []
  for stage in stages:
    log = stage.log or {}
    for title, axis, starts in _LEARNING:
      names = [n for n in log for s in starts if n == s or (s.endswith("_") and n.startswith(s))]
      lines = [
          Line(
              title=f"λ at {float(name[5:]):.0%}" if name.startswith("dual_") else name,
              marks=[
                  Mark(step, y, (name, f"step {step:g}", f"{y:.4g}"))
                  for step, y in zip(log["step"], log[name], strict=True)
              ],
              look=MethodStyle(style.SERIES[i % len(style.SERIES)], "", width=1.8),
          )
          for i, name in enumerate(names)
      ]
      if lines:
        figures.append(
            Figure(
                name=f"learning_{stage.stage}_{title.replace(' ', '_')}",
                caption=f"{stage.stage}: {title}",
                x=Axis("step", low=0.0),
                y=Axis(axis, percent=title == "use"),
                lines=lines,
                small=True,
            )
        )
  return figures
