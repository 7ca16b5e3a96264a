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
from kdtw_jax.report.prices import price_of, right_end
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


def names(files: Sequence[Path]) -> list[str]:
  """Names runs by the folders of their metrics files, without what all paths have in common.

  Files that share a folder are named by their stems too.

  Raises:
    ValueError: if a file is there twice.
  """
  whole = [file.resolve() for file in files]
  for i, file in enumerate(whole):
    if file in whole[:i]:
      raise ValueError(f"{files[i]}: is given twice: give each run once")
  folders = [file.parent for file in whole]
  named = [
      file.with_suffix("") if folders.count(file.parent) > 1 else file.parent for file in whole
  ]
  if len(set(named)) < len(named):  # a/x.json, a/y.json and a/x/metrics.json
    named = whole
  shared = os.path.commonpath([path.parent for path in named])
  return [path.relative_to(shared).as_posix() for path in named]


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
  found: dict[tuple, HullComparison] = {}
  for run in runs:
    for row in run.metrics.hulls:
      found.setdefault(hulls.kind(row), row)
  return list(found.values())


def same(run: Run, like: HullComparison) -> HullComparison | None:
  """Returns a run's comparison of the same kind."""
  kinds = {hulls.kind(row): row for row in run.metrics.hulls}
  return kinds.get(hulls.kind(like))


def equals(runs: Sequence[Run]) -> list[hulls.Equal]:
  """Groups the comparisons by the runs' own score by what was equal."""
  own = [row for row in comparisons(runs) if row.score == runs[0].metrics.metric]
  return hulls.equals(own, several=True)


def hull_figures(runs: Sequence[Run]) -> list[Figure]:
  """Draws the hull of each run's families, one figure for each price."""
  figures = []
  for equal in equals(runs):
    lines, drawn = [], []
    for i, run in enumerate(runs):
      for j, like in enumerate(equal.found):
        if (found := same(run, like)) is not None:
          drawn.append(found.ours)
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
    price = price_of(equal.found[0])
    figures.append(
        Figure(
            name=f"runs_{len(figures)}",
            tab=equal.tab,
            caption=(
                "What each run’s families reach on test, mixed by a coin, the student alone and "
                "the teacher alone included. Validation chose the settings."
            ),
            x=dataclasses.replace(price.axis, high=right_end(price, drawn)),
            y=Axis(summary.quality_title(runs[0].metrics)),
            lines=lines,
        )
    )
  return figures


def gain_figures(runs: Sequence[Run]) -> list[Figure]:
  """Draws what each run's first family gains on the best mixture of its other methods.

  A price that a hull does not reach is left out, since nothing was equal there; so is a figure
  without marks.
  """
  figures = []
  for equal in equals(runs):
    like = equal.found[0]
    own = [same(run, like) for run in runs]
    lines = [
        Line(
            title=run.name,
            marks=_gains(run, found, i - (len(runs) - 1) / 2),
            look=dataclasses.replace(_look(i, 0), width=0.0),
        )
        for i, (run, found) in enumerate(zip(runs, own, strict=True))
        if found is not None and any(gap.reached for gap in found.gaps)
    ]
    if not lines:
      continue
    caption = (
        f"{like.family} less the best mixture of all other methods of its run, at equal price, "
        "with 95% intervals."
    )
    if not all(gap.reached for found in own if found is not None for gap in found.gaps):
      caption += " Prices that a hull does not reach are in the table alone."
    figures.append(
        Figure(
            name=f"gains_{len(figures)}",
            tab=equal.tab,
            caption=caption,
            x=price_of(like).axis,
            y=Axis(f"difference, {summary.METRIC_TITLES[like.score]}"),
            lines=lines,
            levels=[Level(0.0, "")],
        )
    )
  return figures


def _gains(run: Run, found: HullComparison, place: float) -> list[Mark]:
  """Returns a run's gains, moved aside by its place so that bars do not cover each other."""
  scale = price_of(found).scale
  return [
      Mark(
          scale * (gap.at + 0.003 * place), gap.delta, _says(run, found, gap), interval=gap.interval
      )
      for gap in found.gaps
      if gap.reached
  ]


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
