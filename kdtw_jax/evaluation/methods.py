"""What an evaluation sweeps: methods, the settings of their dials, and what a setting decodes.

A method is a registered policy (decoding/policies/). The values of the dials are in the config
(`evaluation.dials`), or the policy's own. Not here: measuring (evaluator.py).
"""

from collections.abc import Callable, Iterator, Mapping
import dataclasses
import math

import ml_collections

from kdtw_jax import data, decoding


class _Swept(Mapping[str, decoding.Method]):
  """The registry's policies that a sweep has dials for; those whose student others share first."""

  def __getitem__(self, name: str) -> decoding.Method:
    if name not in self:
      raise KeyError(name)
    return decoding.POLICIES[name]

  def __contains__(self, name: object) -> bool:
    method = decoding.POLICIES.get(name) if isinstance(name, str) else None
    return method is not None and bool(method.dials)

  def __iter__(self) -> Iterator[str]:
    swept = [name for name in decoding.POLICIES if name in self]
    return iter(sorted(swept, key=lambda name: bool(decoding.POLICIES[name].student)))

  def __len__(self) -> int:
    return len(list(iter(self)))


METHODS: Mapping[str, decoding.Method] = _Swept()


def check(section: ml_collections.ConfigDict) -> None:
  """Refuses methods and dials that cannot be measured, before anything is.

  Args:
    section: `evaluation` of the config.

  Raises:
    ValueError: an unknown method, or a dial that its policy cannot have; names field and remedy.
  """
  for field, names in (("methods", section.methods), ("dials", section.dials)):
    unknown = [name for name in names if name not in METHODS and name != "all"]
    if unknown:
      raise ValueError(
          f"config.evaluation.{field}: {unknown[0]!r} is no method; known are {', '.join(METHODS)}"
      )
  for name, dials in section.dials.items():
    for dial in dials:
      try:
        decoding.make_policy(name, dial)
      except ValueError as error:
        raise ValueError(f"config.evaluation.dials.{name}={tuple(dials)}: {error}") from error


@dataclasses.dataclass(frozen=True)
class Setting:
  """One way to decode a split.

  Attributes:
    method: a policy's name.
    dial: its setting.
    stage: whose student is used.
    budget: stated in the student's instruction, and enforced by the cap `hard`.
    cap: `none` or `hard`.
    wording: how the instruction states it.
  """

  method: str
  dial: float
  stage: str
  budget: float = 0.0
  cap: str = "none"
  wording: data.Wording = data.TRAIN_WORDINGS[0]

  def policy(self) -> decoding.Policy:
    """Who writes."""
    return decoding.make_policy(self.method, self.dial)


@dataclasses.dataclass(frozen=True)
class Sweep:
  """A method with the settings that it is measured at.

  Attributes:
    method: name of the curve.
    title: its name for readers.
    dial_name: what is swept.
    settings: (dial, label, setting) of each point.
    family: methods of one family have one look in plots.
    by_token: True where it asks token by token: its share is what it spends.
    bound: True where it looks at the teacher before it decides: it competes with nobody.
    continuous: True where any dial between them may be decoded too, by `at`.
    never: the dial at which it never asks, or a function of V to it; None where none is finite.
    is_handover: True where the learned gate asks.
  """

  method: str
  title: str
  dial_name: str
  settings: tuple[tuple[float, str, Setting], ...]
  family: str
  by_token: bool
  bound: bool = False
  continuous: bool = False
  never: float | Callable[[int], float] | None = None
  is_handover: bool = False

  def at(self, dial: float) -> Setting:
    """The setting of a dial: a measured one, or for a continuous method any."""
    for known, _, setting in self.settings:
      if known == dial:
        return setting
    return dataclasses.replace(self.settings[0][2], dial=dial)


def method_sweep(name: str, dials: tuple[float, ...], stage: str) -> Sweep:
  """The sweep of a method with a stage's student.

  Raises:
    ValueError: no such method.
  """
  if name not in METHODS:
    raise ValueError(f"{name!r} is no method; known are {', '.join(METHODS)}")
  method = METHODS[name]
  never = method.never
  if isinstance(never, float) and math.isinf(never):
    never = None
  return Sweep(
      name,
      method.title,
      method.dial_name or "",
      tuple((dial, f"{dial:g}", Setting(name, dial, stage)) for dial in dials),
      family=method.family,
      by_token=method.by_token,
      bound=method.bound,
      continuous=method.continuous,
      never=never,
  )


def handover_sweeps(budgets: tuple[float, ...], tolerances: tuple[float, ...]) -> list[Sweep]:
  """The learned gate over budgets: alone, under the hard cap, and checking."""

  def over_budgets(curve: str, title: str, policy: str, dial: float = 0.0, cap: str = "none"):
    method = decoding.POLICIES[policy]
    return Sweep(
        curve,
        title,
        "budget",
        tuple((b, f"{b:.0%}", Setting(policy, dial, "wheels", b, cap)) for b in budgets),
        family=method.family,
        by_token=method.by_token,
        is_handover=True,
    )

  title, checking = (decoding.POLICIES[p].title for p in ("handover", "handover_checked"))
  return [
      over_budgets("handover", title, "handover"),
      over_budgets("handover_capped", "Handover, hard cap", "handover", cap="hard"),
      *(
          over_budgets(
              f"handover_checked_{tolerance:g}",
              f"{checking}, tolerance {tolerance:g}",
              "handover_checked",
              tolerance,
          )
          for tolerance in tolerances
      ),
  ]


def offset_sweep(budget: float, offsets: dict[float, float]) -> Sweep:
  """The learned gate under one budget, its offset the dial.

  Args:
    budget: stated in the instruction.
    offsets: by the share that each is meant to give.
  """
  settings = tuple(
      (offset, f"{share:.0%}", Setting("handover", offset, "wheels", budget))
      for share, offset in offsets.items()
  )
  return Sweep(
      "handover_offset",
      "Handover, offset dial",
      "offset",
      settings,
      family=decoding.POLICIES["handover"].family,
      by_token=True,
      continuous=True,
      is_handover=True,
  )
