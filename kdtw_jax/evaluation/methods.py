"""The sweeps of an evaluation: methods, the values of their dials, and the settings to decode.

A method is a registered policy (decoding/policies/). The values of its dial come from the config
(`evaluation.dials`) or from the policy. Not here: measuring (measure.py).
"""

from collections.abc import Iterator, Mapping
import dataclasses

import ml_collections

from kdtw_jax import data, decoding


class _Swept(Mapping[str, decoding.Method]):
  """The registered policies with dials to sweep; those whose student others share come first."""

  def __getitem__(self, name: str) -> decoding.Method:
    if name not in self:
      raise KeyError(name)
    return decoding.POLICIES[name]

  def __contains__(self, name: object) -> bool:
    return isinstance(name, str) and _has_dial(name) and bool(decoding.POLICIES[name].dials)

  def __iter__(self) -> Iterator[str]:
    swept = [name for name in decoding.POLICIES if name in self]
    return iter(sorted(swept, key=lambda name: bool(decoding.POLICIES[name].student)))

  def __len__(self) -> int:
    return len(list(iter(self)))


METHODS: Mapping[str, decoding.Method] = _Swept()


def check(section: ml_collections.ConfigDict) -> None:
  """Rejects methods and dials that cannot be measured, before anything is decoded.

  Args:
    section: `evaluation` of the config.

  Raises:
    ValueError: if a method is unknown or its policy rejects a dial; names field and remedy.
  """
  for field, names in (("methods", section.methods), ("dials", section.dials)):
    for name in names:
      if name != "all" and not _has_dial(name):
        raise ValueError(
            f"config.evaluation.{field}: {name!r} is not a method; choose one of "
            f"{', '.join(METHODS)}"
        )
      if field == "methods" and name != "all" and not dials_of(section, name):
        raise ValueError(
            f"config.evaluation.methods: {name!r} has no dials of its own; give it some in"
            f" config.evaluation.dials.{name}"
        )
  families = dict.fromkeys(method.family for method in decoding.POLICIES.values())
  for family in section.ours:
    if family not in families:
      raise ValueError(
          f"config.evaluation.ours: {family!r} is not a family; choose of {', '.join(families)}"
      )
  for name, dials in section.dials.items():
    method = decoding.POLICIES[name]
    low, high = method.dial_range
    for dial in dials:
      fault = "" if low <= dial <= high else f"{method.dial_name} must lie in [{low:g}, {high:g}]"
      try:
        method.make(dial)
      except ValueError as error:
        fault = str(error)
      if fault:
        raise ValueError(f"config.evaluation.dials.{name}={tuple(dials)}: {fault}")


def _has_dial(name: str) -> bool:
  """Returns True for a policy that is swept over a dial; the learned gate is over budgets."""
  method, gate = decoding.POLICIES.get(name), decoding.POLICIES["handover"]
  return method is not None and method.dial_name is not None and method.family != gate.family


def names_of(section: ml_collections.ConfigDict) -> tuple[str, ...]:
  """Returns the names of the config's methods."""
  return tuple(METHODS if "all" in section.methods else section.methods)


def reading_worth(section: ml_collections.ConfigDict) -> list[str]:
  """Returns the methods of the config that read what the student's head `worth` predicts."""
  policies = {
      name: decoding.POLICIES[name].make(dials_of(section, name)[0]) for name in names_of(section)
  }
  return [
      name
      for name, policy in policies.items()
      if isinstance(policy, decoding.Drafter) and policy.reads_worth
  ]


def dials_of(section: ml_collections.ConfigDict, name: str) -> tuple[float, ...]:
  """Returns the dials that a method is swept at: those of the config, or the policy's own."""
  return tuple(map(float, section.dials.get(name, decoding.POLICIES[name].dials)))


@dataclasses.dataclass(frozen=True)
class Setting:
  """One way to decode a split.

  Attributes:
    method: a policy's name.
    dial: value of its dial.
    stage: the stage whose student is used.
    budget: stated in the student's instruction, and what the form holds to.
    form: what the budget promises, one of decoding.FORMS.
    calls: most calls of an output, for the form `calls`.
    wording: how the instruction states the budget.
  """

  method: str
  dial: float
  stage: str
  budget: float = 0.0
  form: str = "share"
  calls: int = 0
  wording: data.Wording = data.TRAIN_WORDINGS[0]

  def policy(self) -> decoding.Policy:
    """Makes the policy."""
    return decoding.make_policy(self.method, self.dial)


@dataclasses.dataclass(frozen=True)
class Sweep:
  """A method with the settings at which it is measured.

  Attributes:
    method: name of the curve.
    title: its display name.
    dial_name: the field that is swept.
    settings: (dial, label, setting) of each point.
    family: methods of one family look alike in plots.
    bound: True if it sees the teacher's answer before it decides, so that it is only an upper
      bound.
    is_handover: True if the learned gate asks.
  """

  method: str
  title: str
  dial_name: str
  settings: tuple[tuple[float, str, Setting], ...]
  family: str
  bound: bool = False
  is_handover: bool = False


def method_sweep(name: str, dials: tuple[float, ...], stage: str) -> Sweep:
  """Makes the sweep of a method with a stage's student.

  Raises:
    ValueError: if the method is unknown.
  """
  if not _has_dial(name):
    raise ValueError(f"{name!r} is not a method; choose one of {', '.join(METHODS)}")
  method = decoding.POLICIES[name]
  return Sweep(
      name,
      method.title,
      method.dial_name or "",
      tuple((dial, f"{dial:g}", Setting(name, dial, stage)) for dial in dials),
      family=method.family,
      bound=method.bound,
  )


def handover_sweeps(budgets: tuple[float, ...], tolerances: tuple[float, ...]) -> list[Sweep]:
  """Makes the learned gate's sweeps over budgets: in three forms of budget, and checking."""

  def over_budgets(curve: str, title: str, policy: str, dial: float = 0.0, form: str = "share"):
    method = decoding.POLICIES[policy]
    return Sweep(
        curve,
        title,
        "budget",
        tuple((b, f"{b:.0%}", Setting(policy, dial, "wheels", b, form)) for b in budgets),
        family=method.family,
        is_handover=True,
    )

  title, checking = (decoding.POLICIES[p].title for p in ("handover", "handover_checked"))
  return [
      over_budgets("handover", title, "handover"),
      over_budgets("handover_paced", "Handover, paced", "handover", form="paced"),
      over_budgets("handover_hard", "Handover, hard budget", "handover", form="hard"),
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


def paced_sweep(sweep: Sweep, budgets: tuple[float, ...]) -> Sweep:
  """Makes the sweep of a method over paced budgets, at the middle of its dials.

  Args:
    sweep: the method's own sweep.
    budgets: budgets to hold.
  """
  _, _, middle = sweep.settings[len(sweep.settings) // 2]
  return dataclasses.replace(
      sweep,
      method=f"{sweep.method}_paced",
      title=f"{sweep.title}, paced",
      dial_name="budget",
      settings=tuple(
          (b, f"{b:.0%}", dataclasses.replace(middle, budget=b, form="paced")) for b in budgets
      ),
  )


def offset_sweep(budget: float, offsets: dict[float, float]) -> Sweep:
  """Makes the sweep of the learned gate's offset under one budget.

  Args:
    budget: stated in the instruction.
    offsets: offsets by the share that each should give.
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
      is_handover=True,
  )
