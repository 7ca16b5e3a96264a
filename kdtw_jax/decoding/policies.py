"""All policies by name, and how one is made for a sweep.

The policies themselves: askers.py (token by token), drafters.py and copying.py (draft and verify).
"""

from typing import Any

import jax
import jax.numpy as jnp

from kdtw_jax.decoding import askers, copying, deferral, drafters
from kdtw_jax.decoding.policy import Dial, Policy

# Name -> record and the static fields that make it this policy.
POLICIES: dict[str, tuple[type[Policy], dict[str, Any]]] = {
    policy.name: (policy, {})
    for policy in (
        askers.StudentAlone,
        askers.TeacherAlone,
        askers.Handover,
        askers.RandomAsk,
        askers.MaxProb,
        askers.Entropy,
        askers.Margin,
        askers.Oracle,
        askers.Mixture,
        askers.Periodic,
        askers.Prefix,
        drafters.Speculative,
        drafters.Lenient,
        drafters.Typical,
        copying.PromptLookup,
    )
}
POLICIES |= {f"cascade_{rule}": (drafters.Cascade, {"rule": rule}) for rule in deferral.RULES}
POLICIES |= {f"span_{rule}": (askers.Span, {"rule": rule}) for rule in askers.RULES}
POLICIES |= {f"verify_{rule}": (drafters.Verify, {"rule": rule}) for rule in askers.RULES}
POLICIES["big_little"] = (
    drafters.Verify,
    {"rule": "max_prob", "measure": "surprisal", "k": 10, "end": False},
)


def make_policy(name: str, dial: Dial = None, **fields: Any) -> Policy:
  """Makes a policy by name, its dials as float32 arrays so that a sweep compiles once.

  Args:
    name: one of POLICIES.
    dial: value of the policy's dial: a float or `[B]`, or a whole number where the dial is static;
      None keeps the default.
    **fields: further fields by name, e.g. `sampled=True`.

  Returns:
    The policy.

  Raises:
    ValueError: unknown name, or a dial for a policy without one.

  Example:
    >>> make_policy("speculative", 5)
    Speculative(k=5, name='speculative')
  """
  if name not in POLICIES:
    raise ValueError(f"policy={name!r}: unknown; choose one of {', '.join(POLICIES)}")
  kind, variant = POLICIES[name]
  if dial is not None:
    if kind.dial_name is None:
      raise ValueError(f"dial={dial}: policy {name!r} has no dial; leave it out")
    fields = {kind.dial_name: int(dial) if kind.whole_dial else dial, **fields}
  policy = kind(**{**variant, "name": name, **fields})
  return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), policy)
