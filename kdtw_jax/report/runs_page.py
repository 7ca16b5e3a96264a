"""The page that compares runs: what differs in them, and what each reaches at equal prices.

The hulls and differences of each run are its own, as its metrics have them. Runs are not tested
against each other, since their metrics have no outputs.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kdtw_jax.evaluation.hull_record import Gap
from kdtw_jax.evaluation.record import HEADLINE_CALLS, Alone
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
  rows = [Row.of(run) for run in runs]
  reached, gains = runs_lib.hull_figures(runs), runs_lib.gain_figures(runs)
  return render(
      "runs.html.jinja",
      [*reached, *gains],
      title=" · ".join(run.name for run in runs),
      headline=headline(runs),
      metric=runs[0].metrics.metric,
      quality=summary.quality_title(runs[0].metrics),
      kinds=[kind for kind in summary.BUDGET_KINDS if any(kind in row.promise for row in rows)],
      at=HEADLINE_CALLS,
      runs=rows,
      names=[run.name for run in runs],
      differences=differences([run.metrics.config for run in runs]),
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
  return f"With {100 * HEADLINE_CALLS:g} teacher calls per 100 tokens, {', '.join(parts)}."


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


def differences(configs: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[Any]]]:
  """Lists the fields that are not the same in all configs, with each config's value.

  Args:
    configs: the config of each run.

  Returns:
    (dotted field, values in the order of the configs); a field that a config lacks is a dash.
  """
  flat = [dict(summary.flatten(config)) for config in configs]
  fields = dict.fromkeys(field for config in flat for field in config)
  rows = [(field, [config.get(field, style.MISSING) for config in flat]) for field in fields]
  return [(field, values) for field, values in rows if any(v != values[0] for v in values)]


class Gains(NamedTuple):
  """What a family gains in each run, price by price.

  Attributes:
    title: the family and the score in words.
    score: the score's name in code.
    rows: see `hulls.beside`.
  """

  title: str
  score: str
  rows: list[tuple[str, list[Gap | None]]]


def equals(runs: Sequence[Run]) -> list[tuple[str, list[Gains]]]:
  """Puts the gains of the runs beside each other under headings that say what was equal."""
  return [
      (
          equal.heading,
          [
              Gains(
                  f"{row.family}, {summary.METRIC_TITLES[row.score]}",
                  row.score,
                  hulls.beside([runs_lib.same(run, row) for run in runs]),
              )
              for row in equal.found
          ],
      )
      for equal in hulls.equals(runs_lib.comparisons(runs), several=True)
  ]
