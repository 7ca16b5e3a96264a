"""Colours, markers and number formats that plots, page and terminal share.

The palette is Okabe and Ito's (colour-blind safe), with marks that differ too, so that colour is
never the only cue. Nothing here draws.
"""

import dataclasses
import math
from typing import Any

INK = "#1c2128"
MUTED = "#68707c"
GRID = "#e4e7eb"
ACCENT = "#d2500f"  # the handover and the teacher's tokens

# Each light colour and what stands for it on a dark page; the page makes CSS variables of them.
DARK = {
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

MISSING = "–"


@dataclasses.dataclass(frozen=True)
class MethodStyle:
  """How a method looks: colour, marker, dash pattern, line width in points, drawing order."""

  colour: str
  marker: str
  dashes: str = "-"
  width: float = 1.6
  order: int = 3


_KNOWN = {
    "handover": MethodStyle(ACCENT, "o", "-", 3.0, 6),
    "random": MethodStyle(MUTED, "x", ":", 1.5, 2),
    "max_prob": MethodStyle("#0a6ab0", "s"),
    "entropy": MethodStyle("#00855f", "^"),
    "margin": MethodStyle("#a8508c", "v"),
    "oracle": MethodStyle(INK, "*", "--", 1.3, 2),
    "speculative": MethodStyle("#9a6c00", "D"),
    "student": MethodStyle(MUTED, "p"),
    "teacher": MethodStyle(INK, "H"),
}
_OTHERS = (
    MethodStyle("#7a5cc4", "P"),
    MethodStyle("#3d8fb8", "X"),
    MethodStyle("#a8508c", "<"),
    MethodStyle("#00855f", ">"),
    MethodStyle("#9a6c00", "h"),
)


def method_styles(methods: list[str]) -> dict[str, MethodStyle]:
  """Gives each method its look; unknown names take turns through the spare ones.

  Args:
    methods: names in code, e.g. "max_prob"; "exact_speculative" looks like "speculative".
  """
  styles: dict[str, MethodStyle] = {}
  num_others = 0
  for method in methods:
    known = _KNOWN.get(method)
    if known is None and "speculative" in method:
      known = _KNOWN["speculative"]
    if known is None or known in styles.values():
      known = _OTHERS[num_others % len(_OTHERS)]
      num_others += 1
    styles[method] = known
  return styles


def is_number(value: Any) -> bool:
  """True for a finite int or float that is no bool."""
  return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def number(value: Any, digits: int = 1) -> str:
  """Formats a number with a fixed count of decimals; a dash where there is none."""
  return f"{value:,.{digits}f}".replace("-", "−") if is_number(value) else MISSING


def signed(value: Any, digits: int = 1) -> str:
  """Formats a difference with its sign, a true minus included."""
  return f"{value:+.{digits}f}".replace("-", "−") if is_number(value) else MISSING


def percent(share: Any, digits: int = 0) -> str:
  """Formats a share of 0..1 as percent."""
  return f"{100 * share:.{digits}f}%".replace("-", "−") if is_number(share) else MISSING


def milliseconds(seconds: Any) -> str:
  """Formats seconds as milliseconds with three significant digits."""
  if not is_number(seconds):
    return MISSING
  value = 1000 * seconds
  digits = max(0, 2 - math.floor(math.log10(value))) if value > 0 else 0
  return f"{value:,.{min(digits, 3)}f} ms"


def duration(seconds: Any) -> str:
  """Formats seconds as a length of time that a person reads: "42 s", "3 min 20 s", "1 h 05 min"."""
  if not is_number(seconds):
    return MISSING
  if seconds < 10:
    return f"{seconds:.1f} s"
  whole = round(seconds)
  if whole < 60:
    return f"{whole} s"
  if whole < 3600:
    return f"{whole // 60} min {whole % 60:02d} s"
  return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def p_value(value: Any) -> str:
  """Formats a p-value; below 0.001 only that is said."""
  if not is_number(value):
    return MISSING
  return "< 0.001" if value < 0.001 else f"{value:.3f}"
