"""The page that compares runs: what differs in them, and what each reaches at equal prices.

The hulls and differences of each run are its own, as its metrics have them. Runs are not tested
against each other, since their metrics have no outputs.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kdtw_jax.evaluation.hull_record import Gap, HullComparison
from kdtw_jax.evaluation.record import Alone
from kdtw_jax.report import hulls, style, summary
from kdtw_jax.report import runs as runs_lib
from kdtw_jax.report.runs import Run
from kdtw_jax.report.template import render


def render_runs(runs: Sequence[Run]) -> str:
  """Returns the HTML of the page.

  Args:
    runs: two or more runs of one metric and test set.

  Raises:
    ValueError: see `check_comparable`.
  """
  runs_lib.check_comparable(runs)
  reached, gains = runs_lib.hull_figures(runs), runs_lib.gain_figures(runs)
  return render(
      "runs.html.jinja",
      [*reached, *gains],
      title=" · ".join(run.name for run in runs),
      headline=headline(runs),
      metric=runs[0].metrics.metric,
      quality=summary.quality_title(runs[0].metrics),
      kinds=list(dict.fromkeys(k for run in runs for k in summary.calibration(run.metrics))),
      at=hulls.HEADLINE_CALLS,
      runs=[Row.of(run) for run in runs],
      names=[run.name for run in runs],
      differences=differences({run.name: run.metrics.config for run in runs}),
      reached=reached,
      gains=gains,
      equals=equals(runs),
      test=runs[0].metrics.test,
      signature=runs[0].metrics.signature,
  )


def headline(runs: Sequence[Run]) -> str:
  """Says what each run's first family reaches at the headline's price, and how far that is."""
  found = [
      (run.name, gap, way) for run in runs for gap, way in [hulls.at_headline(run.metrics)] if gap
  ]
  if not found:
    return f"{len(runs)} runs compared."
  title = summary.quality_title(runs[0].metrics)
  score = runs[0].metrics.metric
  parts = [
      f"{name} reaches {style.number(gap.ours.scores[score])} {title}"
      + (f" ({style.percent(way)} of the way to its teacher)" if way is not None else "")
      for name, gap, way in found
  ]
  return f"With {100 * hulls.HEADLINE_CALLS:g} teacher calls per 100 tokens, {', '.join(parts)}."


class Row(NamedTuple):
  """A run in the table of runs.

  Attributes:
    run: the run.
    student: the student alone; None if it was not measured.
    teacher: the teacher alone.
    gap: its first family at the headline's price.
    way: that family's part of the way from student to teacher.
    promise: mean |use − budget| by kind of budget, 0..1.
  """

  run: Run
  student: Alone | None
  teacher: Alone | None
  gap: Gap | None
  way: float | None
  promise: Mapping[str, float]

  @classmethod
  def of(cls, run: Run) -> "Row":
    """Takes a run's row from its metrics."""
    alone = run.metrics.alone
    return cls(
        run,
        alone.get("student"),
        alone.get("teacher"),
        *hulls.at_headline(run.metrics),
        summary.calibration(run.metrics),
    )


def differences(configs: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, list[Any]]]:
  """Lists the fields that are not the same in all configs, with each config's value.

  Args:
    configs: configs by name of the run.

  Returns:
    (dotted field, values in the order of the configs); a field that a config lacks is a dash.
  """
  flat = [dict(summary.flatten(config)) for config in configs.values()]
  fields = dict.fromkeys(field for config in flat for field in config)
  rows = [(field, [config.get(field, style.MISSING) for config in flat]) for field in fields]
  return [(field, values) for field, values in rows if any(v != values[0] for v in values)]


class Equal(NamedTuple):
  """The gains of all runs at one price.

  Attributes:
    heading: what was equal.
    groups: (family and score in words, rows), each row the price in words and each run's gap.
  """

  heading: str
  groups: list[tuple[str, list[tuple[str, list[Gap | None]]], str]]


def equals(runs: Sequence[Run]) -> list[Equal]:
  """Puts the gains of the runs beside each other, price by price, teacher calls first."""
  found: dict[str, list[HullComparison]] = {}
  for row in runs_lib.comparisons(runs):
    found.setdefault(runs_lib.heading(row), []).append(row)
  return [
      Equal(
          heading,
          [
              (
                  f"{row.family}, {summary.METRIC_TITLES[row.score]}",
                  [
                      (hulls.price_words(row, gap.at), [_gap(run, row, i) for run in runs])
                      for i, gap in enumerate(row.gaps)
                  ],
                  row.score,
              )
              for row in rows
          ],
      )
      for heading, rows in found.items()
  ]


def _gap(run: Run, like: HullComparison, i: int) -> Gap | None:
  found = runs_lib.same(run, like)
  return found.gaps[i] if found is not None and i < len(found.gaps) else None
