"""Runs beside each other: which may be compared, and the figures of what each reaches.

Not here: the page (runs_page.py).
"""

from collections.abc import Sequence
import dataclasses
import os
from pathlib import Path

from kdtw_jax.evaluation.hull_record import Gap, HullComparison
from kdtw_jax.evaluation.record import Metrics
from kdtw_jax.report import charts, hulls, style, summary
from kdtw_jax.report.figures import Axis, Figure, Level, Line, Mark
from kdtw_jax.report.style import MethodStyle

_DASHES = ("-", "--", ":", "-.")
_MARKERS = ("o", "s", "^", "D")


@dataclasses.dataclass(frozen=True)
class Run:
  """A run among others.

  Attributes:
    name: what tells it from the others.
    metrics: its numbers.
    page: address of its own page; "" if it has none.
  """

  name: str
  metrics: Metrics
  page: str = ""


def names(folders: Sequence[Path]) -> list[str]:
  """Names runs by their folders, without what all paths have in common.

  Raises:
    ValueError: if a folder is there twice.
  """
  whole = [folder.resolve() for folder in folders]
  for i, folder in enumerate(whole):
    if folder in whole[:i]:
      raise ValueError(f"{folders[i]}: is given twice: give each run once")
  shared = os.path.commonpath([folder.parent for folder in whole])
  return [folder.relative_to(shared).as_posix() for folder in whole]


def check_comparable(runs: Sequence[Run]) -> None:
  """Checks that scores may stand beside each other.

  Args:
    runs: the runs.

  Raises:
    ValueError: if two runs have another metric, signature or test set; names both and the remedy.
  """
  first = runs[0]
  for run in runs[1:]:
    ours, theirs = run.metrics, first.metrics
    for what, a, b in (
        ("metric", ours.metric, theirs.metric),
        ("test.examples", ours.test.examples, theirs.test.examples),
        ("test.sha256", ours.test.sha256[:12], theirs.test.sha256[:12]),
        ("signature", ours.signature, theirs.signature),
    ):
      if a != b:
        raise ValueError(
            f"{run.name}: {what} is {a}, and {b} in {first.name}: scores are compared on one test "
            "set by one metric; report these runs one by one"
        )


def comparisons(runs: Sequence[Run]) -> list[HullComparison]:
  """Returns a comparison of each kind that some run has."""
  return list({hulls.kind(row): row for run in runs[::-1] for row in run.metrics.hulls}.values())


def same(run: Run, like: HullComparison) -> HullComparison | None:
  """Returns a run's comparison of the same kind."""
  kinds = {hulls.kind(row): row for row in run.metrics.hulls}
  return kinds.get(hulls.kind(like))


def heading(found: HullComparison) -> str:
  """Says what was equal; each run measured a ratio of its own."""
  if found.measured:
    return "At equal cost, a student step as dear as each run measured it"
  return hulls.equal_words(found)


def by_price(runs: Sequence[Run]) -> dict[str, list[HullComparison]]:
  """Groups the comparisons by the runs' own score by what was equal."""
  found: dict[str, list[HullComparison]] = {}
  for row in comparisons(runs):
    if row.score == runs[0].metrics.metric:
      found.setdefault(heading(row), []).append(row)
  return found


def hull_figures(runs: Sequence[Run]) -> list[Figure]:
  """Draws the hull of each run's families, one figure for each price."""
  figures = []
  for rows in by_price(runs).values():
    lines, near = [], []
    for i, run in enumerate(runs):
      for j, like in enumerate(rows):
        if (found := same(run, like)) is not None:
          scale = 100 if found.price == "calls" else 1
          near += [scale * v.price for v in found.ours.vertices if v.method != "teacher"]
          lines.append(
              Line(
                  title=f"{run.name}: {found.family}",
                  marks=[
                      dataclasses.replace(mark, says=(run.name, *mark.says))
                      for mark in charts.hull_marks(found.ours, found)
                  ],
                  look=_look(i, j),
              )
          )
    price, tab = charts.price_of(rows[0]), _tab(rows[0])
    figures.append(
        Figure(
            name=f"runs_{len(figures)}",
            tab=tab,
            caption=(
                "What each run’s families reach on test, mixed by a coin, the student alone and "
                "the teacher alone included. Validation chose the settings."
            ),
            x=dataclasses.replace(price.axis, high=1.08 * max(near, default=0.0) or None),
            y=Axis(summary.quality_title(runs[0].metrics)),
            lines=lines,
        )
    )
  return figures


def gain_figures(runs: Sequence[Run]) -> list[Figure]:
  """Draws what each run's first family gains on the best mixture of its other methods."""
  figures = []
  for rows in by_price(runs).values():
    like, lines = rows[0], []
    scale = 100 if like.price == "calls" else 1
    for i, run in enumerate(runs):
      if (found := same(run, like)) is not None:
        beside = scale * 0.003 * (i - (len(runs) - 1) / 2)  # so that bars do not cover each other
        lines.append(
            Line(
                title=run.name,
                marks=[
                    Mark(
                        scale * gap.at + beside, gap.delta, _says(run, found, gap), "", gap.interval
                    )
                    for gap in found.gaps
                ],
                look=dataclasses.replace(_look(i, 0), width=0.0),
            )
        )
    price = charts.price_of(like)
    figures.append(
        Figure(
            name=f"gains_{len(figures)}",
            tab=_tab(like),
            caption=(
                f"{like.family} less the best mixture of all other methods of its run, at equal "
                "price, with 95% intervals."
            ),
            x=price.axis,
            y=Axis(f"difference, {summary.METRIC_TITLES[like.score]}"),
            lines=lines,
            levels=[Level(0.0, "")],
        )
    )
  return figures


def _tab(found: HullComparison) -> str:
  return "Cost, c as measured" if found.measured else charts.price_of(found).tab


def _says(run: Run, found: HullComparison, gap: Gap) -> list[str]:
  low, high = map(style.signed, gap.interval)
  return [
      f"{run.name}: {found.family}",
      hulls.price_words(found, gap.at),
      f"{style.signed(gap.delta)} (95% interval {low} to {high}, p = {gap.p_value:.3f})",
      f"{style.number(gap.ours.scores[found.score])} against "
      f"{style.number(gap.others.scores[found.score])}",
  ]


def _look(run: int, family: int) -> MethodStyle:
  """Gives a run its colour, and a family its dashes."""
  return MethodStyle(
      style.SERIES[run % len(style.SERIES)],
      _MARKERS[run % len(_MARKERS)],
      _DASHES[family % len(_DASHES)],
      1.4 if family else 2.8,
      5 - bool(family),
  )
