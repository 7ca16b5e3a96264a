"""A short table of the result for the terminal."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kdtw_jax.report import style, summary


def print_summary(
    metrics: Mapping[str, Any], page: Path | str | None = None, console: Console | None = None
) -> None:
  """Prints the headline, quality at equal teacher shares and where the page is.

  Args:
    metrics: the dict of metrics.json.
    page: path of the page to name at the end.
    console: where to print; standard output by default.
  """
  console = console or Console()
  words = f"{summary.headline(metrics)} {summary.lead(metrics)}".strip()
  console.print(escape(words), highlight=False)
  rows = summary.equal_share_table(metrics)
  if rows:
    console.print(_table(metrics, rows))
  errors = summary.calibration(metrics)
  if errors:
    words = ", ".join(f"{100 * error:.1f} points ({name})" for name, error in errors.items())
    console.print(f"Mean |use − budget|: {words}", highlight=False)
  if page is not None:
    console.print(f"Report: {escape(str(page))}", highlight=False, soft_wrap=True)


def _table(metrics: Mapping[str, Any], rows: list[dict[str, Any]]) -> Table:
  title = f"{summary.quality_title(metrics)} at equal teacher share"
  table = Table(title=title, title_justify="left")
  table.add_column("method")
  for share in summary.EQUAL_SHARES:
    table.add_column(style.percent(share), justify="right")
  table.add_column("area", justify="right")
  table.add_column("volume", justify="right")
  for row in rows:
    cells = []
    for cell in row["cells"]:
      text = style.number(cell["score"])
      cells.append(f"[bold]{text}[/bold]" if cell["best"] else text)
    table.add_row(
        escape(row["title"]), *cells, style.number(row["area"], 2), style.number(row["volume"], 2)
    )
  for name in ("student", "teacher"):
    score = summary.reference_score(metrics, name)
    if score is not None:
      words = f"{summary.REFERENCE_TITLES[name]}: {style.number(score)}"
      table.caption = f"{table.caption} · {words}" if table.caption else words
  return table
