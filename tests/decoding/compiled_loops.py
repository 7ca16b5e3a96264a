"""What a compiled program copies inside its loops: read off the optimised HLO text."""

import math
import re

COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
CALLEE = re.compile(
    r"\b(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)"
)
BRANCHES = re.compile(r"\bbranch_computations=\{([^}]*)\}")
BODY = re.compile(r"\bbody=%?([\w.\-]+)")
RESULT = re.compile(r"= \(?(\w+)\[([\d,]*)\][^=]*? (copy|copy-start|select)\(")


def computations(hlo: str) -> dict[str, list[str]]:
  """Lines of each computation by name."""
  found, name = {}, None
  for line in hlo.splitlines():
    header = COMPUTATION.match(line)
    if header:
      name = header.group(1)
      found[name] = []
    elif line.startswith("}"):
      name = None
    elif name is not None:
      found[name].append(line)
  return found


def callees(lines: list[str]) -> set[str]:
  """Names of the computations that these lines call."""
  names = set()
  for line in lines:
    names.update(CALLEE.findall(line))
    for group in BRANCHES.findall(line):
      names.update(part.strip().lstrip("%") for part in group.split(","))
  return names


def inside_loops(hlo: str) -> dict[str, list[str]]:
  """The computations that run inside some while loop, called ones included."""
  found = computations(hlo)
  bodies = [name for lines in found.values() for line in lines for name in BODY.findall(line)]
  reached, todo = set(), list(bodies)
  while todo:
    name = todo.pop()
    if name not in reached and name in found:
      reached.add(name)
      todo.extend(callees(found[name]))
  return {name: found[name] for name in reached}


def copies_in_loops(hlo: str, shapes: set[tuple[int, ...]]) -> list[str]:
  """Instructions inside loops that copy, or select over, a whole array of one of these shapes.

  Arrays are recognised by their number of elements, since XLA reshapes and transposes at will:
  choose sizes that no other array of the program has.

  Args:
    hlo: `jit(f).lower(...).compile().as_text()`.
    shapes: shapes of the arrays that must stay in place.

  Returns:
    The offending lines; a layout-changing copy counts, as does a copy inside a fusion.
  """
  sizes = {math.prod(shape) for shape in shapes}
  offending = []
  for lines in inside_loops(hlo).values():
    for line in lines:
      result = RESULT.search(line)
      if result and math.prod(int(d) for d in result.group(2).split(",") if d) in sizes:
        offending.append(line.strip())
  return offending
