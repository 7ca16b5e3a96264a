"""Short tables of the results for the terminal."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kdtw_jax.evaluation.record import HEADLINE_CALLS, Metrics
from kdtw_jax.report import hulls, style, summary


def print_summary(
    metrics: Metrics, page: Path | str | None = None, console: Console | None = None
) -> None:
  """Prints the gap to all other methods, the headline, quality at equal shares and the page's path.

  Args:
    metrics: the run's numbers.
    page: path of the page to name at the end.
    console: where to print; standard output by default.
  """
  console = console or Console()
  if words := f"{hulls.headline(metrics)} {hulls.in_short(metrics)}".strip():
    console.print(escape(words), highlight=False)
  console.print(escape(summary.headline(metrics)), highlight=False)
  if words := summary.time_saved(metrics):
    console.print(escape(words), highlight=False)
  rows = summary.equal_share_table(metrics)
  if rows:
    console.print(_table(metrics, rows))
  errors = summary.calibration(metrics)
  if errors:
    words = ", ".join(f"{100 * error:.1f} points for {kind}" for kind, error in errors.items())
    console.print(f"Mean |use − budget|: {words}", highlight=False)
  if page is not None:
    console.print(f"Report: {escape(str(page))}", highlight=False, soft_wrap=True)


def print_runs(
    found: Sequence[tuple[Path, Metrics]], page: Path, console: Console | None = None
) -> None:
  """Prints a line for each run, and the page's path.

  Args:
    found: path and numbers of each run.
    page: path of the page to name at the end.
    console: where to print; standard output by default.
  """
  console = console or Console()
  title = summary.quality_title(found[0][1])
  calls = f"{100 * HEADLINE_CALLS:g} calls"
  table = Table("run", "seed", "student", "teacher", calls, title=title, title_justify="left")
  for path, metrics in found:
    gap, _ = hulls.at_headline(metrics)
    alone = (summary.reference_score(metrics, name) for name in ("student", "teacher"))
    table.add_row(
        escape(str(path)),
        str(metrics.seed),
        *map(style.number, alone),
        style.number(gap.ours.scores[metrics.metric] if gap else None),
    )
  console.print(table)
  console.print(f"Report: {escape(str(page))}", highlight=False, soft_wrap=True)


def _table(metrics: Metrics, rows: Sequence[summary.EqualShares]) -> Table:
  title = f"{summary.quality_title(metrics)} at equal teacher share"
  table = Table(title=title, title_justify="left")
  table.add_column("method")
  for share in summary.EQUAL_SHARES:
    table.add_column(style.percent(share), justify="right")
  table.add_column("area", justify="right")
  table.add_column("volume", justify="right")
  for row in rows:
    cells = [
        f"[bold]{style.number(score)}[/bold]" if i in row.best else style.number(score)
        for i, score in enumerate(row.scores)
    ]
    table.add_row(
        escape(row.curve.title), *cells, style.number(row.area, 2), style.number(row.volume, 2)
    )
  for name in ("student", "teacher"):
    score = summary.reference_score(metrics, name)
    if score is not None:
      words = f"{summary.REFERENCE_TITLES[name]}: {style.number(score)}"
      table.caption = f"{table.caption} · {words}" if table.caption else words
  return table
