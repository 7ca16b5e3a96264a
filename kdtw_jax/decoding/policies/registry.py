"""All policies by name. A new policy is one file: a class, registered where it is defined.

    @decoding.register("sometimes", "Asks sometimes", dials=(0.1, 0.3))
    @flax.struct.dataclass
    class Sometimes(decoding.Policy):
      ...

The file may be in this folder, or anywhere if `kdtw_jax.plugins` imports it. Not here: the base of
a policy (policy.py, drafter.py), and sweeps (evaluation/methods.py).
"""

from collections.abc import Callable, Mapping
import dataclasses
import inspect
import math
import re
import types
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from kdtw_jax.decoding.policies.policy import Dial, Never, Policy

Kind = TypeVar("Kind", bound=type)

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_BY_NAME: dict[str, "Method"] = {}


@dataclasses.dataclass(frozen=True)
class Method:
  """A registered policy: its class, its distinguishing fields, and facts for sweeps and readers.

  Attributes:
    name: its name in configs, metrics and plots.
    title: its display name.
    policy: its class.
    fields: values of the fields that are fixed.
    dial_name, dials, never, student, source: as in Policy, unless the registration overrides them.
    family: policies of one family look alike in plots.
    equation: its rule in symbols, on one line.
  """

  name: str
  title: str
  policy: type[Policy]
  fields: Mapping[str, Any]
  dial_name: str | None
  dials: tuple[float, ...]
  never: Never
  student: str
  source: str
  family: str
  equation: str

  @property
  def bound(self) -> bool:
    """True if it sees the teacher's answer before it decides, so that it is only an upper bound."""
    return self.policy.needs_student and self.policy.teacher_every_step

  @property
  def by_token(self) -> bool:
    """True if it asks token by token, so that the teacher's share is its use."""
    return not self.policy.drafts

  @property
  def dial_range(self) -> tuple[float, float]:
    """The smallest and largest dial that a sweep may take; a rule's dial has the rule's range."""
    by_rule = self.dial_name == "dial" and self.fields.get("rule") in POLICIES
    return find(self.fields["rule"]).dial_range if by_rule else self.policy.dial_range

  @property
  def _is_whole(self) -> bool:
    return self.policy.whole_dial and self.dial_name == self.policy.dial_name

  def make(self, dial: Dial = None, **fields: Any) -> Policy:
    """Makes the policy, with its dials as float32 arrays so that a sweep compiles once.

    Args:
      dial: value of the dial: a float or `[B]`, or a whole number if the dial is static; None keeps
        the default.
      **fields: further fields by name, e.g. `sampled=True`.

    Raises:
      ValueError: if the policy has no dial, or its dial is a whole number and this is none of its
        range.
    """
    if dial is not None:
      if self.dial_name is None:
        raise ValueError(f"dial={dial}: policy {self.name!r} has no dial; leave it out")
      low, high = self.dial_range
      whole = isinstance(dial, int | float) and float(dial).is_integer()
      if self._is_whole and not (whole and low <= dial <= high):
        raise ValueError(
            f"dial={dial}: {self.dial_name} of policy {self.name!r} is a whole number from {low:g} "
            f"to {high:g}"
        )
      fields = {self.dial_name: int(dial) if self._is_whole else dial, **fields}
    policy = self.policy(**{**self.fields, "name": self.name, **fields})
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), policy)


POLICIES: Mapping[str, Method] = types.MappingProxyType(_BY_NAME)


def register(
    name: str,
    title: str,
    *,
    dial_name: str | None = None,
    dials: tuple[float, ...] | None = None,
    never: Never = None,
    source: str | None = None,
    family: str | None = None,
    equation: str | None = None,
    **fields: Any,
) -> Callable[[Kind], Kind]:
  """Registers a policy under a name; may be used several times on one class, for its variants.

  The class provides whatever is not given here.

  Args:
    name: lower-case letters, digits and `_`.
    title: its display name.
    dial_name: as in Policy.
    dials: as in Policy.
    never: as in Policy.
    source: as in Policy.
    family: policies of one family look alike in plots; by default the file's name.
    equation: its rule in symbols; by default the indented lines of the class's docstring.
    **fields: values of the policy's fields that define this variant.

  Returns:
    A decorator that returns the class unchanged.

  Raises:
    ValueError: if the name is taken or invalid, or the class is not a policy.
  """

  def add(policy: Kind) -> Kind:
    _refuse_what_is_no_policy(name, policy)
    method = Method(
        name=name,
        title=title,
        policy=policy,
        fields=fields,
        dial_name=policy.dial_name if dial_name is None else dial_name,
        dials=policy.dials if dials is None else dials,
        never=policy.never if never is None else never,
        student=policy.student,
        source=policy.source if source is None else source,
        family=family or policy.__module__.rpartition(".")[2],
        equation=_equation(policy) if equation is None else equation,
    )
    _refuse_bad_facts(method)
    _BY_NAME[name] = method
    return policy

  return add


def find(name: str) -> Method:
  """Returns the policy of a name.

  Raises:
    ValueError: if the name is unknown.
  """
  if name not in POLICIES:
    raise ValueError(f"policy={name!r}: unknown; choose one of {', '.join(POLICIES)}")
  return POLICIES[name]


def make_policy(name: str, dial: Dial = None, **fields: Any) -> Policy:
  """Makes a policy by name; see `Method.make`.

  Raises:
    ValueError: if the name is unknown, or the dial does not suit the policy.

  Example:
    >>> make_policy("speculative", 5)
    Speculative(name='speculative', k=5)
  """
  return find(name).make(dial, **fields)


def asking_rule(name: str, dial: Dial) -> Policy:
  """Makes the rule by which another policy asks, at a value of its dial.

  Raises:
    ValueError: if the rule is unknown, drafts, looks at the teacher, or runs one model alone.
  """
  method = find(name)
  if not method.by_token or method.bound or method.dial_name is None:
    raise ValueError(
        f"rule={name!r}: must ask token by token, without a look at the teacher, e.g. 'max_prob'"
    )
  return method.make(dial)


def table(*, drafts: bool) -> str:
  """Returns the registered policies as a Markdown table, for the page on policies.

  Args:
    drafts: True for those that draft and check, False for those that ask token by token.
  """
  rows = [("name", "for readers", "what it does", "dial", "never asks at", "source"), ("---",) * 6]
  above = None
  for method in POLICIES.values():
    if method.policy.drafts == drafts:
      equation = "the same" if method.equation == above else method.equation
      fixed = ", ".join(f"`{field}={value}`" for field, value in method.fields.items())
      rows.append(
          (
              f"`{method.name}`",
              method.title,
              "; ".join(filter(None, (equation, fixed))),
              f"`{method.dial_name}`" if method.dial_name else "",
              _written(method.never),
              method.source,
          )
      )
      above = method.equation
  return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in rows)


def _written(never: Never) -> str:
  if callable(never):
    return f"{never.__name__} V"
  return "" if never is None else f"{never:g}".replace("inf", "∞").replace("-", "−")


def _equation(policy: type[Policy]) -> str:
  """Returns the indented lines of a docstring's body, e.g. "`ask iff max q < θ`"."""
  text = inspect.cleandoc(policy.__doc__ or "").split("\nAttributes:")[0]
  lines = [line.strip() for line in text.splitlines() if line.startswith("    ")]
  return "; ".join(f"`{re.sub(' {2,}', ': ', line)}`" for line in lines)


def _refuse_what_is_no_policy(name: str, policy: Any) -> None:
  if not (inspect.isclass(policy) and issubclass(policy, Policy)):
    raise ValueError(f"register({name!r}): {policy!r} is no policy; derive it from decoding.Policy")
  where = f"register({name!r}): {policy.__qualname__}"
  if "_flax_dataclass" not in policy.__dict__:
    raise ValueError(f"{where} is not a record; put @flax.struct.dataclass under the registration")
  asks = policy.needs_student and policy.needs_teacher and not policy.drafts
  if asks and policy.score is Policy.score:
    raise ValueError(f"{where} does not say when it asks; define `score`, or draft as a Drafter")


def _refuse_bad_facts(method: Method) -> None:
  where = f"register({method.name!r}):"
  if not _NAME.fullmatch(method.name):
    raise ValueError(f"{where} a name must begin with a letter and have only a-z, 0-9 and _")
  taken = POLICIES[method.name].policy if method.name in POLICIES else method.policy
  again = (taken.__module__, taken.__qualname__)  # a module that is reloaded registers its own anew
  if again != (method.policy.__module__, method.policy.__qualname__):
    raise ValueError(
        f"{where} the name is taken by {taken.__module__}.{taken.__qualname__}; choose another"
    )
  known = [field.name for field in dataclasses.fields(method.policy) if field.name != "name"]
  unknown = {*method.fields, *filter(None, [method.dial_name])} - set(known)
  if unknown:
    raise ValueError(
        f"{where} {', '.join(sorted(unknown))} is no field of {method.policy.__qualname__}; it has "
        f"{', '.join(known) or 'none'}"
    )
  if not method.title:
    raise ValueError(f"{where} title='': readers need a name")
  if not all(isinstance(dial, (int, float)) and math.isfinite(dial) for dial in method.dials):
    raise ValueError(f"{where} dials={method.dials!r}: must be finite numbers")
  if method.dials and method.dial_name is None:
    raise ValueError(f"{where} dials={method.dials!r}: name the field that they set by dial_name")
