"""What the comparisons with the hull of all other methods say, in rows of tables.

Nothing here formats HTML or draws.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from kdtw_jax.evaluation.hull_record import Coin, Gap, Hull, HullComparison
from kdtw_jax.evaluation.record import HEADLINE_CALLS, Metrics
from kdtw_jax.report import prices, style, summary


class Row(NamedTuple):
  """One family and the others at one price.

  Attributes:
    at: the price in words, e.g. "5 calls per 100 tokens".
    gap: the comparison.
    ours: the settings of the family's mixture in words.
    others: those of the others' mixture.
    way: position of the family's score between the student (0) and the teacher (1); None if the
      teacher is no better.
  """

  at: str
  gap: Gap
  ours: str
  others: str
  way: float | None


class Table(NamedTuple):
  """One comparison at all its prices, and in words what both hulls were chosen from."""

  found: HullComparison
  rows: list[Row]
  ours: str
  others: str


def table(metrics: Metrics, found: HullComparison) -> Table:
  """Returns the table of a comparison."""
  rows = [
      Row(
          price_words(found, gap.at),
          gap,
          coin_words(found.ours, gap.ours),
          coin_words(found.others, gap.others),
          way(metrics, found.score, gap.ours.scores[found.score]),
      )
      for gap in found.gaps
  ]
  return Table(found, rows, settings_words(found.ours), settings_words(found.others))


def what_was_equal(found: HullComparison) -> tuple:
  """Returns the price of a comparison, the same in all runs: each measured a ratio of its own."""
  return found.price, found.measured, None if found.measured else found.step_ratio


def kind(found: HullComparison) -> tuple:
  """Returns what a comparison has in common with that of another run."""
  return found.family, *what_was_equal(found), found.score


class Equal(NamedTuple):
  """The comparisons at one price, and what was equal, as a heading and as a tab."""

  heading: str
  tab: str
  found: list[HullComparison]


def equals(found: Iterable[HullComparison], *, several: bool = False) -> list[Equal]:
  """Groups comparisons by what was equal, in their order.

  Args:
    found: the comparisons.
    several: True if they stand for those of several runs.
  """
  grouped: dict[tuple, list[HullComparison]] = {}
  for row in found:
    grouped.setdefault(what_was_equal(row), []).append(row)
  return [Equal(*titles(rows[0], several=several), rows) for rows in grouped.values()]


def titles(found: HullComparison, *, several: bool = False) -> tuple[str, str]:
  """Says what was equal: as a heading, e.g. "At equal teacher calls", and as a tab, e.g. "Calls".

  Args:
    found: the comparison.
    several: True if it stands for those of several runs.
  """
  if found.measured and several:
    return "At equal cost, a student step as dear as each run measured it", "Cost, c as measured"
  what = "teacher calls" if found.price == "calls" else "share of teacher tokens"
  if found.step_ratio is not None:
    measured = ", as measured" if found.measured else ""
    what = f"cost, a student step at {found.step_ratio:.2g} teacher passes{measured}"
  return f"At equal {what}", prices.price_of(found).tab


def offered(found: HullComparison, gap: Gap) -> float:
  """Returns what a gap's price allows on top of a student step for each token.

  Costs are compared at c more than calls. Runs that measured a c of their own have this in common.
  """
  return round(gap.at - (found.step_ratio or 0.0), 6)


def beside(found: Sequence[HullComparison | None]) -> list[tuple[str, list[Gap | None]]]:
  """Puts the gaps of several runs beside each other, the lowest price first.

  Args:
    found: each run's comparison of one kind; None if it has none.

  Returns:
    (price in words, each run's gap there) for each price of any run; None where a run has no gap.
  """
  like = next((row for row in found if row is not None), None)
  if like is None:
    return []
  by_run = [{offered(row, gap): gap for gap in row.gaps} if row else {} for row in found]
  return [
      (_offered_words(like, at), [gaps.get(at) for gaps in by_run])
      for at in sorted({at for gaps in by_run for at in gaps})
  ]


def _offered_words(found: HullComparison, at: float) -> str:
  if found.measured:
    return f"a student step and {at:g} teacher passes"
  return price_words(found, at + (found.step_ratio or 0.0))


def main_comparison(metrics: Metrics) -> HullComparison | None:
  """Returns the first family's comparison at equal calls by the run's own score."""
  return next(
      (row for row in metrics.hulls if row.price == "calls" and row.score == metrics.metric), None
  )


def at_headline(metrics: Metrics) -> tuple[Gap | None, float | None]:
  """Returns the first family with HEADLINE_CALLS, None if not reached, and its part of the way."""
  found = main_comparison(metrics)
  gaps = found.gaps if found else ()
  gap = next((gap for gap in gaps if gap.at == HEADLINE_CALLS and gap.reached), None)
  return gap, way(metrics, metrics.metric, gap.ours.scores[metrics.metric]) if gap else None


def headline(metrics: Metrics) -> str:
  """Says what the first family reaches with HEADLINE_CALLS; "" if it was not compared there."""
  found, (gap, come) = main_comparison(metrics), at_headline(metrics)
  if found is None or gap is None:
    return ""
  score = gap.ours.scores[found.score]
  words = (
      f"With {100 * gap.at:g} teacher calls per 100 tokens, {_name(found)} reaches "
      f"{style.number(score)} {summary.METRIC_TITLES[found.score]}"
  )
  if come is not None:
    student, teacher = (metrics.alone[who].scores[found.score] for who in ("student", "teacher"))
    words += (
        f": {style.percent(come)} of the way from the student alone ({style.number(student)}) to "
        f"the teacher ({style.number(teacher)})"
    )
  direction = "above" if gap.delta >= 0 else "below"
  return (
      f"{words}, and {style.number(abs(gap.delta))} {direction} the best mixture of all other "
      f"methods (p = {gap.p_value:.3f})."
  )


def in_short(metrics: Metrics) -> str:
  """Says how far the first family is above all other methods at equal calls; "" if not compared."""
  found = main_comparison(metrics)
  if found is None or not found.gaps:
    return ""
  scores = ", ".join(style.number(gap.ours.scores[found.score]) for gap in found.gaps)
  gaps = ", ".join(
      f"{style.signed(gap.delta)} (p = {gap.p_value:.3f})" if gap.reached else "–"
      for gap in found.gaps
  )
  at = ", ".join(f"{100 * gap.at:g}" for gap in found.gaps)
  return (
      f"At {at} calls per 100 tokens: {scores} {summary.METRIC_TITLES[found.score]}; less the best "
      f"mixture of all other methods: {gaps}."
  )


def _name(found: HullComparison) -> str:
  """Names a family: by its method if it is one, in the middle of a sentence."""
  titles = {v.title for v in found.ours.vertices if v.method in found.ours.settings}
  title = titles.pop() if len(titles) == 1 else f"the family {found.family}"
  return title[0].lower() + title[1:]


def way(metrics: Metrics, score: str, value: float) -> float | None:
  """Returns how far a score has come from the student alone (0) to the teacher alone (1)."""
  if not {"student", "teacher"} <= set(metrics.alone):
    return None
  student, teacher = (metrics.alone[name].scores[score] for name in ("student", "teacher"))
  return (value - student) / (teacher - student) if teacher > student else None


def price_words(found: HullComparison, at: float) -> str:
  """Puts a price into words, e.g. "5 calls per 100 tokens"."""
  if found.price == "calls":
    return f"{round(100 * at, 1):g} calls per 100 tokens"
  if found.price == "share":
    return f"{round(100 * at, 1):g}% by the teacher"
  measured = ", measured" if found.measured else ""
  return f"{style.number(at, 2)} passes per token (c = {found.step_ratio:.2g}{measured})"


def coin_words(hull: Hull, coin: Coin) -> str:
  """Names what a coin mixes, e.g. "67% Student alone, 33% Margin threshold 0.15"."""
  shares = [(1 - coin.weight, coin.vertex), (coin.weight, coin.vertex + 1)]
  parts = [
      f"{style.percent(share)} {f'{vertex.title} {vertex.label}'.strip()}"
      for share, vertex in ((s, hull.vertices[v]) for s, v in shares if s > 0)
  ]
  return ", ".join(parts)


def settings_words(hull: Hull) -> str:
  """Says what a hull was chosen from, e.g. "24 methods of 5 to 6 settings"."""
  numbers = hull.settings.values()
  if not numbers:
    return "no methods"
  low, high = min(numbers), max(numbers)
  methods = "1 method" if len(numbers) == 1 else f"{len(numbers)} methods"
  return f"{methods} of {low if low == high else f'{low} to {high}'} settings"
