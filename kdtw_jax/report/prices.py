"""What is paid for: what a horizontal axis counts, and what a point and a hull pay of it.

Nothing here draws, and nothing here knows a run.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from kdtw_jax.evaluation.hull_record import Hull, HullComparison
from kdtw_jax.evaluation.record import Point
from kdtw_jax.report.figures import Axis


class Price(NamedTuple):
  """What a horizontal axis counts.

  Attributes:
    name: end of a file stem.
    tab: its name among other prices.
    axis: the axis.
    of: what a point cost; None if that was not measured.
    scale: units of the axis in a price per output token.
    ratio: for a cost, that of a student step in teacher passes; else None.
  """

  name: str
  tab: str
  axis: Axis
  of: Callable[[Point], float | None]
  scale: float = 1.0
  ratio: float | None = None


SHARE = Price(
    "share",
    "Share",
    Axis("output tokens written by the teacher", percent=True, low=0.0),
    lambda point: point.teacher_share,
)
CALLS = Price(
    "calls",
    "Calls",
    Axis("teacher calls per 100 output tokens", low=0.0),
    lambda point: 100 * point.teacher_calls,
    scale=100.0,
)
TIME = Price(
    "latency",
    "Time",
    Axis("time per sentence, one at a time (ms)", low=0.0),
    lambda p: 1000 * p.seconds_per_sentence.mean if p.seconds_per_sentence else None,
)


def cost(ratio: float, *, measured: bool) -> Price:
  """Returns the cost in teacher passes, with student steps at `ratio` of one."""
  return Price(
      "cost" if measured else f"cost_{ratio:g}",
      f"Cost, c = {ratio:.2g}{' (measured)' if measured else ''}",
      Axis("sequential cost per output token (teacher passes)", low=0.0),
      lambda point: passes(point, ratio),
      ratio=ratio,
  )


def passes(point: Point, ratio: float) -> float:
  """Returns what a point cost in teacher passes per token, student steps at `ratio` of one."""
  return ratio * point.student_steps + point.teacher_passes


def price_of(found: HullComparison) -> Price:
  """Returns what a comparison of hulls counts."""
  if found.step_ratio is not None:
    return cost(found.step_ratio, measured=found.measured)
  return CALLS if found.price == "calls" else SHARE


def right_end(price: Price, found: Iterable[Hull]) -> float:
  """Returns where an axis of hulls ends.

  The teacher alone, at a call for each token, is far off to the right.
  """
  near = [v.price for hull in found for v in hull.vertices if v.method != "teacher"]
  return price.scale * (1.08 * max(near, default=0.0) or 1.0)
