"""The report as one self-contained HTML page: inlined SVG, style and script, nothing fetched.

Numbers become text here and in `page.html.jinja`; every text is escaped by the template engine. A
section without numbers is left out.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
import re
from typing import Any

import jinja2
from markupsafe import Markup

from kdtw_jax.evaluation.area import AREA_UP_TO
from kdtw_jax.report import samples, style, summary

CAPTIONS = {
    "quality_share": "Quality over the share of output tokens that the teacher wrote (test split).",
    "quality_calls": (
        "Quality over the teacher's calls per output token (test split). A call may check tokens "
        "of the student's as well as write one."
    ),
    "quality_cost": (
        "Quality over sequential cost: teacher passes per output token, with student steps counted "
        "at their price."
    ),
    "quality_latency": "Quality over measured time per sentence, one sentence at a time.",
    "budget_calibration": "Realised teacher share over the budget stated in the instruction.",
}
POINT_COLUMNS = (  # key, heading, format
    ("label", "Setting", str),
    ("dial", "Dial", lambda value: f"{value:.4g}"),
    ("asked_share", "Asked", lambda value: style.percent(value, 1)),
    ("teacher_share", "Teacher wrote", lambda value: style.percent(value, 1)),
    ("bleu", "BLEU", style.number),
    ("chrf", "chrF", style.number),
    ("rouge1", "R-1", style.number),
    ("rouge2", "R-2", style.number),
    ("rougeL", "R-L", style.number),
    ("rougeLsum", "R-Lsum", style.number),
    ("length_ratio", "Length", lambda value: style.number(value, 2)),
    ("teacher_calls", "Calls", lambda value: style.number(value, 3)),
    ("teacher_passes", "Passes", lambda value: style.number(value, 3)),
    ("teacher_tokens", "Teacher tokens", lambda value: style.number(value, 2)),
    ("student_steps", "Student steps", lambda value: style.number(value, 2)),
    ("cost", "Cost", lambda value: style.number(value, 3)),
    ("mean", "Time", style.milliseconds),
    ("tokens_per_second", "Tokens/s", lambda value: style.number(value, 0)),
)


def render_page(metrics: Mapping[str, Any], figures: Mapping[str, str]) -> str:
  """Returns the page's HTML.

  Args:
    metrics: the dict of metrics.json, plain values only.
    figures: SVG text by file stem.
  """
  environment = jinja2.Environment(
      loader=jinja2.FileSystemLoader(Path(__file__).parent),
      autoescape=True,
      undefined=jinja2.ChainableUndefined,
      trim_blocks=True,
      lstrip_blocks=True,
  )
  environment.filters |= {
      "number": style.number,
      "signed": style.signed,
      "percent": style.percent,
      "milliseconds": style.milliseconds,
      "duration": style.duration,
      "p_value": style.p_value,
  }
  inlined = {name: inline_svg(text, name, CAPTIONS[name]) for name, text in figures.items()}
  titles = summary.method_titles(metrics)
  quality = summary.quality_title(metrics)
  return environment.get_template("page.html.jinja").render(
      m=metrics,
      title=metrics.get("name") or "run",
      headline=summary.headline(metrics),
      lead=summary.lead(metrics),
      quality=quality,
      quality_key=summary.quality_key(metrics),
      figures=inlined,
      captions=CAPTIONS,
      titles=titles,
      tiles=_tiles(metrics, quality),
      equal_shares=summary.EQUAL_SHARES,
      equal_rows=summary.equal_share_table(metrics),
      frontier=summary.frontier(metrics),
      calibration=summary.calibration(metrics),
      budgets=[{**row, "kind": summary.budget_kind(row)} for row in metrics.get("budgets") or ()],
      budget_kinds=summary.BUDGET_KINDS,
      area_up_to=AREA_UP_TO,
      comparisons=_comparisons(metrics, titles),
      points=_points(metrics),
      difficulty=_difficulty(metrics),
      latency=_latency(metrics),
      samples=_samples(metrics),
      references=_references(metrics),
      config=summary.flatten(metrics.get("config") or {}),
      css=Markup(_css_variables()),
  )


def inline_svg(text: str, name: str, caption: str) -> Markup:
  """Makes a figure's SVG fit to stand in a page beside others.

  Ids get the figure's name, the fixed size and the metadata go, and the palette's colours become
  CSS variables that the page can darken.

  Args:
    text: a whole SVG file as matplotlib writes it.
    name: the figure's file stem.
    caption: read out by screen readers.
  """
  text = text[text.index("<svg") :]
  text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
  text = re.sub(r'\bid="', f'id="{name}-', text)
  text = re.sub(r'((?:xlink:)?href=")#', rf"\1#{name}-", text)
  text = re.sub(r"url\(#", f"url(#{name}-", text)
  text = re.sub(r"font: ([^;\"]*?)'DejaVu Sans'[^;\"]*", r"font: \1inherit", text)
  text = re.sub(r"font-family: 'DejaVu Sans'[^;\"]*", "font-family: inherit", text)
  for colour in (*style.DARK, "#ffffff"):
    text = text.replace(colour, f"var({_variable(colour)})")
  head, _, body = text.partition(">")
  head = re.sub(r' (?:width|height|xmlns(?::\w+)?|version)="[^"]*"', "", head)
  body = body.replace("xlink:href", "href")
  label = Markup('<svg role="img" aria-label="{}"').format(caption)
  return label + Markup(head.removeprefix("<svg") + ">" + body)


def _variable(colour: str) -> str:
  return f"--c-{colour.removeprefix('#')}"


def _css_variables() -> str:
  light = "".join(f"{_variable(colour)}:{colour};" for colour in style.DARK)
  dark = "".join(f"{_variable(colour)}:{other};" for colour, other in style.DARK.items())
  return (
      f":root{{{light}--c-ffffff:#ffffff}}"
      f"@media (prefers-color-scheme:dark){{:root{{{dark}--c-ffffff:#1b1f25}}}}"
      f"@media print{{:root{{{light}--c-ffffff:#ffffff}}}}"
  )


def _tiles(metrics: Mapping[str, Any], quality: str) -> list[tuple[str, str, str]]:
  """Returns the few numbers at the top: value, unit, words."""
  tiles = []
  for name in ("student", "teacher"):
    score = summary.reference_score(metrics, name)
    if score is not None:
      tiles.append((style.number(score), quality, summary.REFERENCE_TITLES[name].lower()))
  rows = {row["method"]: row for row in summary.equal_share_table(metrics)}
  main = summary.main_method(list(rows))
  if main:
    cell = rows[main]["cells"][summary.EQUAL_SHARES.index(summary.HEADLINE_SHARE)]
    if cell["score"] is not None:
      at = style.percent(summary.HEADLINE_SHARE)
      tiles.append((style.number(cell["score"]), quality, f"handover at {at} teacher share"))
    if rows[main]["area"] is not None:
      words = "handover’s area between student (0) and teacher (1)"
      tiles.append((style.number(rows[main]["area"], 2), "", words))
  for name, error in summary.calibration(metrics).items():
    tiles.append((style.number(100 * error), "points", f"mean |use − budget|, {name} budgets"))
  return tiles


def _comparisons(metrics: Mapping[str, Any], titles: Mapping[str, str]) -> list[dict[str, Any]]:
  """Adds titles and the places (in percent of the width) of each interval's bar."""
  rows = [dict(row) for row in metrics.get("comparisons") or () if row.get("baseline")]
  ends = [0.0]
  for row in rows:
    ends += [v for v in (row.get("delta"), *(row.get("interval") or ())) if style.is_number(v)]
  low, high = min(ends), max(ends)
  margin = 0.06 * (high - low) or 1.0
  low, span = low - margin, high - low + 2 * margin
  for row in rows:
    row["title"] = titles.get(row["baseline"], row["baseline"])
    row["bound"] = summary.is_upper_bound(row["baseline"])
    interval = row.get("interval")
    known = isinstance(interval, Sequence) and len(interval) == 2
    row["interval"] = interval if known and all(map(style.is_number, interval)) else None
    if style.is_number(row.get("delta")) and row["interval"]:
      left, right = ((v - low) / span * 100 for v in row["interval"])
      places = {"left": left, "width": right - left, "dot": (row["delta"] - low) / span * 100}
      row["bar"] = places | {"zero": -low / span * 100}
      row["verdict"] = "better" if interval[0] > 0 else "worse" if interval[1] < 0 else "unclear"
  return rows


def _points(metrics: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the table of all points: headings, and rows of (text, sort value) cells."""
  records = [
      (record.get("title") or record["method"], point | (point.get("seconds_per_sentence") or {}))
      for record in metrics.get("methods") or ()
      for point in record.get("points") or ()
  ]
  columns = [c for c in POINT_COLUMNS if any(p.get(c[0]) not in (None, "") for _, p in records)]
  rows = []
  for title, point in records:
    cells = [(title, title)]
    for key, _, show in columns:
      value = point.get(key)
      known = value not in (None, "") and (show is str or style.is_number(value))
      cells.append((show(value) if known else style.MISSING, value if known else ""))
    rows.append(cells)
  return {"headings": ["Method", *(heading for _, heading, _ in columns)], "rows": rows}


def _difficulty(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
  """Groups the difficulty map by word kind, the most asked-for first."""
  kinds: dict[str, list[Mapping[str, Any]]] = {}
  for row in metrics.get("difficulty") or ():
    if style.is_number(row.get("asked")):
      kinds.setdefault(str(row.get("kind")), []).append(row)
  groups = []
  for kind, rows in kinds.items():
    weights = [row.get("tokens") or 1 for row in rows]
    mean = sum(w * row["asked"] for w, row in zip(weights, rows, strict=True)) / sum(weights)
    ordered = sorted(rows, key=lambda row: str(row.get("frequency")))
    groups.append({"kind": kind.replace("_", " "), "rows": ordered, "mean": mean})
  return sorted(groups, key=lambda group: -group["mean"])


def _latency(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
  """Names each measured setting as its point does, "20%" rather than 0.2."""
  labels = summary.setting_labels(metrics)
  rows = []
  for row in metrics.get("latency") or ():
    dial = row.get("dial")
    spare = f"{dial:.3g}" if style.is_number(dial) else style.MISSING
    rows.append({**row, "label": labels.get((row.get("method"), dial)) or spare})
  return rows


def _samples(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
  rows = []
  for sample in metrics.get("samples") or ():
    tokens = sample.get("tokens") or []
    written, total = samples.teacher_tokens(tokens)
    counts = {"written": written, "total": total}
    rows.append({**sample, **counts, "runs": samples.author_runs(tokens)})
  return rows


def _references(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
  known = metrics.get("reference") or {}
  return [
      {"title": summary.REFERENCE_TITLES.get(name, name), **(scores or {})}
      for name, scores in known.items()
  ]
