"""What an evaluation sweeps: the methods, the settings of their dials, and what a setting decodes.

The values of the dials are in the config (`evaluation.dials`). Not here: measuring (evaluator.py).
"""

from collections.abc import Callable
import dataclasses
import math
from typing import Any

from kdtw_jax import data, decoding


@dataclasses.dataclass(frozen=True)
class Method:
  """One way to spend teacher calls.

  Attributes:
    title: its name for readers.
    policy: a name in decoding.POLICIES.
    fields: values of the policy's other fields.
    dial: the field that is swept; "" for the policy's own dial.
    student: the method whose choice of student it shares; "" for one that chooses for itself.
    dials: settings that a sweep measures where the config has none.
  """

  title: str
  policy: str
  fields: tuple[tuple[str, Any], ...] = ()
  dial: str = ""
  student: str = ""
  dials: tuple[float, ...] = ()

  @property
  def dial_name(self) -> str:
    """What the dial is called."""
    return self.dial or decoding.POLICIES[self.policy][0].dial_name

  def make(self, dial: float) -> decoding.Policy:
    """The policy at a setting of the dial."""
    fields = dict(self.fields)
    if self.dial:
      return decoding.make_policy(self.policy, **{**fields, self.dial: dial})
    return decoding.make_policy(self.policy, dial, **fields)


def _speculating(title: str, policy: str, **fields: Any) -> Method:
  return Method(title, policy, tuple(fields.items()), student="speculative")


def _asking(title: str, policy: str, **fields: Any) -> Method:
  return Method(title, policy, tuple(fields.items()), student="max_prob")


METHODS: dict[str, Method] = {
    "random": Method("Random asking", "random"),
    "max_prob": Method("Max-prob threshold", "max_prob"),
    "entropy": Method("Entropy threshold", "entropy"),
    "margin": Method("Margin threshold", "margin"),
    "oracle": Method("Oracle (teacher's gap)", "oracle"),
    "speculative": Method("Speculative decoding (exact)", "speculative"),
    "periodic": _asking("Periodic asking", "periodic"),
    "prefix": _asking("Prefix asking", "prefix"),
    "span_max_prob": _asking("Max-prob threshold, spans of 3", "span_max_prob", span=3),
    "prompt_lookup": _speculating("Prompt lookup (exact)", "prompt_lookup"),
    "lenient": _speculating("Lenient speculation, k = 4", "lenient", k=4),
    "lenient_8": _speculating("Lenient speculation, k = 8", "lenient", k=8),
    "typical": _speculating("Typical acceptance, k = 4", "typical", k=4),
    "cascade_chow": _speculating("Speculative cascade, Chow", "cascade_chow", k=4),
    "cascade_diff": _speculating("Speculative cascade, Diff", "cascade_diff", k=4),
    "cascade_opt": _speculating("Speculative cascade, OPT", "cascade_opt", k=4),
    "cascade_token_v1": _speculating("Speculative cascade, token V1", "cascade_token_v1", k=4),
    "cascade_token_v2": _speculating("Speculative cascade, token V2", "cascade_token_v2", k=4),
    "cascade_token_v3": _speculating("Speculative cascade, token V3", "cascade_token_v3", k=4),
    "big_little": _asking("Big-Little decoder", "big_little", tolerance=2.0),
    "verify_max_prob": _asking(
        "Max-prob ask that checks", "verify_max_prob", tolerance=2.0, end=False
    ),
    "verify_max_prob_end": _asking(
        "Max-prob ask that checks, end too", "verify_max_prob", tolerance=2.0
    ),
    "verify_margin_end": _asking("Margin ask that checks, end too", "verify_margin", tolerance=2.0),
    "verify_end": Method(
        "Check at the end alone",
        "verify_prefix",
        (("dial", 0.0), ("k", 24)),
        "tolerance",
        student="max_prob",
    ),
}
_DIALS = {
    "periodic": (0.1, 0.2, 0.3, 0.5),
    "prefix": (1.0, 2.0, 4.0, 7.0),
    "span_max_prob": (0.05, 0.1, 0.2, 0.3),
    "prompt_lookup": (2.0,),
    "lenient": (0.05, 0.15, 0.3, 0.6),
    "lenient_8": (0.05, 0.15, 0.3, 0.6),
    "typical": (0.02, 0.1, 0.3, 0.6),
    "cascade_chow": (0.3, 0.6, 0.8),
    "cascade_diff": (0.0, 0.2, 0.4),
    "cascade_opt": (0.1, 0.3, 0.6),
    "cascade_token_v1": (0.2, 0.5, 0.8),
    "cascade_token_v2": (0.2, 0.4, 0.7),
    "cascade_token_v3": (0.4, 0.7, 0.9),
    "big_little": (0.1, 0.2, 0.35, 0.5),
    "verify_max_prob": (0.05, 0.1, 0.2, 0.3),
    "verify_max_prob_end": (0.05, 0.1, 0.2, 0.3),
    "verify_margin_end": (0.02, 0.06, 0.15),
    "verify_end": (4.0, 2.0, 1.0, 0.4),
}
METHODS = {
    name: dataclasses.replace(method, dials=_DIALS.get(name, ()))
    for name, method in METHODS.items()
}
HANDOVERS: dict[str, Method] = {  # swept over budgets in words, not over a dial
    "handover": Method("Handover (learned gate)", "handover"),
    "handover_checked": Method(
        "Handover that checks", "verify_handover", (("dial", 0.0),), "tolerance"
    ),
}


_FAMILIES = {
    **dict.fromkeys(("max_prob", "entropy", "margin"), "thresholds"),
    **dict.fromkeys(("random", "periodic", "prefix", "span_max_prob"), "schedules"),
    **dict.fromkeys(("lenient", "lenient_8", "typical"), "speculative"),
    **{name: "cascades" for name in METHODS if name.startswith("cascade")},
    **{name: "verify" for name in METHODS if name.startswith("verify")},
    "big_little": "verify",
    "prompt_lookup": "lookup",
}


@dataclasses.dataclass(frozen=True)
class Setting:
  """One way to decode a split.

  Attributes:
    method: a name in METHODS or HANDOVERS.
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
    return {**METHODS, **HANDOVERS}[self.method].make(self.dial)


@dataclasses.dataclass(frozen=True)
class Sweep:
  """A method with the settings that it is measured at.

  Attributes:
    method: name of the curve.
    title: its name for readers.
    dial_name: what is swept.
    settings: (dial, label, setting) of each point.
    continuous: True where any dial between them may be decoded too, by `at`.
    family: methods of one family have one look in plots.
    bound: True for an upper bound: it looks at the teacher's answer before it decides.
    by_token: True where it asks token by token, so that its share is what it spends.
    never: the dial at which it never asks, or a function of V to it; None where there is none.
    is_handover: True for the learned gate, in all its ways.
  """

  method: str
  title: str
  dial_name: str
  settings: tuple[tuple[float, str, Setting], ...]
  continuous: bool = False
  family: str = "handover"
  bound: bool = False
  by_token: bool = True
  never: float | Callable[[int], float] | None = None
  is_handover: bool = False

  def at(self, dial: float) -> Setting:
    """The setting of a dial: a measured one, or for a continuous method any."""
    for known, _, setting in self.settings:
      if known == dial:
        return setting
    return dataclasses.replace(self.settings[0][2], dial=dial)


def method_sweep(name: str, dials: tuple[float, ...], stage: str) -> Sweep:
  """The sweep of a method with a stage's student."""
  method, kind = METHODS[name], decoding.POLICIES[METHODS[name].policy][0]
  settings = tuple((dial, f"{dial:g}", Setting(name, dial, stage)) for dial in dials)
  return Sweep(
      name,
      method.title,
      method.dial_name,
      settings,
      continuous=not kind.whole_dial,
      family=_FAMILIES.get(name, name),
      bound=name == "oracle",
      by_token=not kind.drafts,
      never=None if kind.whole_dial else math.log if name == "entropy" else 0.0,
  )


def handover_sweeps(budgets: tuple[float, ...], tolerances: tuple[float, ...]) -> list[Sweep]:
  """The learned gate over budgets: alone, under the hard cap, and checking."""
  title = HANDOVERS["handover"].title

  def over_budgets(method: str, of_method: str, words: str, dial: float = 0.0, cap: str = "none"):
    return Sweep(
        method,
        words,
        "budget",
        tuple((b, f"{b:.0%}", Setting(of_method, dial, "wheels", b, cap)) for b in budgets),
        by_token=of_method == "handover",
        is_handover=True,
    )

  sweeps = [
      over_budgets("handover", "handover", title),
      over_budgets("handover_capped", "handover", "Handover, hard cap", cap="hard"),
  ]
  sweeps += [
      over_budgets(
          f"handover_checked_{tolerance:g}",
          "handover_checked",
          f"Handover that checks, tolerance {tolerance:g}",
          tolerance,
      )
      for tolerance in tolerances
  ]
  return sweeps


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
      continuous=True,
      is_handover=True,
  )


def check(section: Any) -> None:
  """Refuses methods and dials of the config's `evaluation` that cannot be.

  Raises:
    ValueError: an unknown method; names the field and those that are known.
  """
  for field, names in (("methods", section.methods), ("dials", section.dials)):
    unknown = [name for name in names if name not in METHODS and name != "all"]
    if unknown:
      raise ValueError(
          f"config.evaluation.{field}: {unknown[0]!r} is no method; known are {', '.join(METHODS)}"
      )
