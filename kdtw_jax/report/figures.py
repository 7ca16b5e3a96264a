"""What a figure shows, said once: `drawing` makes files of it, `interactive` what a page draws.

Nothing here draws, and nothing here knows a run.
"""

from collections.abc import Sequence
import dataclasses

from kdtw_jax.report.style import MethodStyle


@dataclasses.dataclass(frozen=True)
class Mark:
  """A point of a line.

  Attributes:
    x: position.
    y: position.
    says: what a reader who points at it is told, line by line.
    label: a word beside it.
    interval: ends of a bar through it.
  """

  x: float
  y: float
  says: Sequence[str] = ()
  label: str = ""
  interval: tuple[float, float] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
  """Marks in order.

  Attributes:
    title: its name in the legend.
    marks: its points.
    look: colour, marker, dashes and width; a width of 0 leaves the marks alone.
    hollow: True for marks that are not filled.
    shade: True if the area below it is shaded.
  """

  title: str
  marks: Sequence[Mark]
  look: MethodStyle
  hollow: bool = False
  shade: bool = False


@dataclasses.dataclass(frozen=True)
class Level:
  """A labelled level line, above or below which its label stands."""

  y: float
  label: str
  above: bool = True


@dataclasses.dataclass(frozen=True)
class Axis:
  """An axis.

  Attributes:
    title: what it counts.
    percent: True if values of 0..1 read as percentages.
    low: its lower end; None to fit the marks.
    high: its upper end; None to fit the marks.
  """

  title: str
  percent: bool = False
  low: float | None = None
  high: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
  """A figure.

  Attributes:
    name: its file stem.
    caption: the sentence below it.
    x: the horizontal axis.
    y: the vertical axis.
    lines: its lines.
    tab: its name among figures of which one is shown at a time.
    levels: its level lines.
    square: True if both axes have one scale.
    small: True for one of many beside each other.
  """

  name: str
  caption: str
  x: Axis
  y: Axis
  lines: Sequence[Line]
  tab: str = ""
  levels: Sequence[Level] = ()
  square: bool = False
  small: bool = False
