"""Colours, markers and number formats that plots, page and terminal share.

Each family of methods has a colour (from Okabe and Ito's colour-blind safe palette), and each
method of a family has its own marker, so that colour is never the only cue. Nothing here draws.
"""

from collections import Counter
from collections.abc import Sequence
import dataclasses
import math

from kdtw_jax.evaluation.record import Curve

PAPER = "#ffffff"
INK = "#1c2128"
MUTED = "#68707c"
GRID = "#e4e7eb"
ACCENT = "#d2500f"  # the handover and the teacher's tokens

# Each light colour and its replacement on a dark page, where the page's script puts it.
DARK = {
    PAPER: "#14171b",
    INK: "#e8eaed",
    MUTED: "#9aa3af",
    GRID: "#353b44",
    ACCENT: "#ff9457",
    "#0a6ab0": "#6db7f2",
    "#00855f": "#3fc79c",
    "#a8508c": "#e59acb",
    "#9a6c00": "#e8bb4a",
    "#3d8fb8": "#8ccbe8",
    "#7a5cc4": "#b7a2f2",
}

SERIES = (ACCENT, "#0a6ab0", "#00855f", "#a8508c", "#9a6c00", "#7a5cc4")  # runs, or parts of a log

MISSING = "–"


@dataclasses.dataclass(frozen=True)
class MethodStyle:
  """The look of a method: colour, marker, dash pattern, line width in points, drawing order."""

  colour: str
  marker: str
  dashes: str = "-"
  width: float = 1.6
  order: int = 3


_HANDOVER = MethodStyle(ACCENT, "o", width=3.0, order=6)
_BOUND = MethodStyle(INK, "*", "--", 1.3, 2)
_FAMILIES = {
    "schedules": MethodStyle(MUTED, "x", ":", 1.5, 2),
    "thresholds": MethodStyle("#0a6ab0", "s"),
    "speculative": MethodStyle("#9a6c00", "D"),
    "cascades": MethodStyle("#a8508c", "v"),
    "verify": MethodStyle("#00855f", "^"),
    "routing": MethodStyle("#3d8fb8", "X"),
    "worth": MethodStyle("#7a5cc4", "P", width=2.4, order=5),
}
_OTHER_FAMILIES = (MethodStyle("#7a5cc4", "P"), MethodStyle("#3d8fb8", "X"))
_FURTHER_DASHES = ("--", "-.", ":")
_FURTHER_MARKERS = ("s", "^", "v", "<", ">", "P", "X", "h", "p", "d")


def method_styles(curves: Sequence[Curve]) -> dict[str, MethodStyle]:
  """Gives each method its look: its family's colour, and a marker that is unique in the family.

  The first method of a family has the family's marker and a solid line; the others have thinner,
  broken lines. An unknown family gets a spare colour.

  Args:
    curves: curves of all methods that are drawn together.
  """
  styles: dict[str, MethodStyle] = {}
  members: Counter[str] = Counter()
  others: list[str] = []
  for curve in curves:
    if curve.is_handover or curve.bound:
      look = _HANDOVER if curve.is_handover else _BOUND
    elif curve.family in _FAMILIES:
      look = _FAMILIES[curve.family]
    else:
      if curve.family not in others:
        others.append(curve.family)
      look = _OTHER_FAMILIES[others.index(curve.family) % len(_OTHER_FAMILIES)]
    rank = members[look.colour]
    members[look.colour] += 1
    if rank:
      markers = [marker for marker in _FURTHER_MARKERS if marker != look.marker]
      marker = markers[(rank - 1) % len(markers)]
      look = dataclasses.replace(
          look,
          marker=marker,
          dashes=_FURTHER_DASHES[(rank - 1) % len(_FURTHER_DASHES)],
          width=min(look.width, 1.6),
          order=min(look.order, 4),
      )
    styles[curve.method] = look
  return styles


def number(value: float | int | None, digits: int = 1) -> str:
  """Formats a number with a fixed number of decimals; None becomes a dash."""
  return MISSING if value is None else f"{value:,.{digits}f}".replace("-", "−")


def signed(value: float, digits: int = 1) -> str:
  """Formats a difference with its sign, using a true minus."""
  return f"{value:+.{digits}f}".replace("-", "−")


def percent(share: float, digits: int = 0) -> str:
  """Formats a share of 0..1 as a percentage."""
  return f"{100 * share:.{digits}f}%".replace("-", "−")


def milliseconds(seconds: float) -> str:
  """Formats seconds as milliseconds with three significant digits."""
  value = 1000 * seconds
  digits = max(0, 2 - math.floor(math.log10(value))) if value > 0 else 0
  return f"{value:,.{min(digits, 3)}f} ms"


def duration(seconds: float) -> str:
  """Formats seconds as a duration: "42 s", "3 min 20 s", "1 h 05 min"."""
  if seconds < 10:
    return f"{seconds:.1f} s"
  whole = round(seconds)
  if whole < 60:
    return f"{whole} s"
  if whole < 3600:
    return f"{whole // 60} min {whole % 60:02d} s"
  return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
