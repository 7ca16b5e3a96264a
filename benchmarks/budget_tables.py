"""Markdown tables of what `budgets.py` measured, and the figures by which forms are judged.

python -m benchmarks.budget_tables results/multi30k/budgets.json
"""

import argparse
import itertools
import json
from pathlib import Path

from kdtw_jax import decoding

Rows = list[dict]


def selected(rows: Rows, **fields) -> Rows:
  """Returns the rows with these values."""
  return [row for row in rows if all(row.get(name) == value for name, value in fields.items())]


def table(rows: Rows, cell) -> list[str]:
  """Tabulates forms and wordings against budgets; `cell` makes a cell of a row."""
  stated = {row["budget"]: row["budget_seen"] for row in rows if "budget" in row}
  head = ["form", "wording", *(f"{b:.0%}{'' if seen else '*'}" for b, seen in stated.items())]
  lines = [head, ["---"] * len(head)]
  for form, seen in itertools.product(dict.fromkeys(row["form"] for row in rows), (True, False)):
    found = {row["budget"]: row for row in selected(rows, form=form, wording_seen=seen)}
    if found:
      cells = [cell(found[budget]) if budget in found else "" for budget in stated]
      lines.append([form, "seen" if seen else "new", *cells])
  return [f"| {' | '.join(line)} |" for line in lines]


def use(row: dict) -> str:
  """Returns the use and the share of outputs above the budget, in percent."""
  return f"{100 * row['use']:.1f} ({100 * row['above']:.0f})"


def largest_distance(rows: Rows, form: str) -> str:
  """Returns the largest |use − budget| of a form, and where it was."""
  worst = max(selected(rows, form=form), key=lambda row: abs(row["use"] - row["budget"]))
  wording = "seen" if worst["wording_seen"] else "new"
  return (
      f"{100 * (worst['use'] - worst['budget']):+.1f} points ({worst['domain']}, "
      f"{worst['budget']:.0%}, {wording} wording)"
  )


def spent_of_allowed(rows: Rows) -> str:
  """Returns what `hard` spent of what it might, on test outputs of 10 to 14 tokens."""
  found = [row for row in selected(rows, form="hard", domain="test set") if row["typical_allowed"]]
  total = sum(r["typical_spent"] for r in found) / sum(r["typical_allowed"] for r in found)
  each = {
      budget: [r["typical_spent"] / r["typical_allowed"] for r in selected(found, budget=budget)]
      for budget in dict.fromkeys(row["budget"] for row in found)
  }
  parts = (f"{sum(v) / len(v):.2f} at {budget:.0%}" for budget, v in each.items())
  return f"{total:.2f} ({', '.join(parts)})"


def kept_gain(rows: Rows, form: str, key: str) -> str:
  """Returns the part of the gain of `share` over the student alone that a form keeps, on test."""
  test = selected(rows, domain="test set")
  alone = selected(test, form="student alone")[0][key]
  parts, gains = [], []
  for row in selected(test, form=form, wording_seen=True):
    [share] = selected(test, form="share", wording_seen=True, budget=row["budget"])
    gains.append((row[key] - alone, share[key] - alone))
    if gains[-1][1] > 0:
      parts.append(f"{gains[-1][0] / gains[-1][1]:.2f} at {row['budget']:.0%}")
  ours, theirs = (sum(side) for side in zip(*gains, strict=True))
  return f"{ours / theirs:.2f} ({', '.join(parts)})"


def summary(rows: Rows, key: str) -> list[str]:
  """Returns the figures by which the forms are judged, as list items."""
  forms = {row["form"] for row in rows}
  items = [
      f"largest distance of use from the budget, {form}: {largest_distance(rows, form)}"
      for form in ("share", "paced")
      if form in forms
  ]
  if "hard" in forms:
    items.append(f"hard, outputs of 10 to 14 tokens: spent of allowed {spent_of_allowed(rows)}")
  items += [
      f"{form}: part of the gain of share that it keeps {kept_gain(rows, form, key)}"
      for form in ("paced", "hard", "prefix", "ledger")
      if {form, "share"} <= forms
  ]
  for form in sorted(forms & {*decoding.PROMISES}):
    own = selected(rows, form=form)
    broken, outputs = (sum(row[count] for row in own) for count in ("violations", "outputs"))
    items.append(f"{form}: {broken} of {outputs:,} outputs break the promise")
  return [f"- {item}" for item in items]


def main(path: str) -> None:
  """Prints the tables of a file."""
  report = json.loads(Path(path).read_text(encoding="utf-8"))
  rows, key = report["rows"], report["metric"]
  print(
      "Calls per 100 output tokens; in brackets the percentage of outputs above the budget. *: no\n"
      "training instruction stated this budget."
  )
  for domain in dict.fromkeys(row["domain"] for row in rows):
    own = selected(rows, domain=domain)
    outputs = next(row["outputs"] for row in own if "outputs" in row)
    print(f"\n**{domain}**, {outputs} texts\n", *table(own, use), sep="\n")
  for domain in dict.fromkeys(row["domain"] for row in rows if key in row):
    own = selected(rows, domain=domain)
    alone = ", ".join(f"{row['form']} {row[key]:.1f}" for row in own if "budget" not in row)
    print(f"\n**{domain}**, {key}: {alone}\n", sep="\n")
    print(*table(own, lambda row: f"{row[key]:.1f}"), sep="\n")
  print("", *summary(rows, key), sep="\n")


if __name__ == "__main__":
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("budgets", help="file that budgets.py wrote")
  main(parser.parse_args().budgets)
