"""The part of metrics.json on hulls: one family of methods against the best mixture of all others.

Never imports jax.
"""

from collections.abc import Mapping
import dataclasses
from typing import Literal

PriceKind = Literal["calls", "share", "cost"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vertex:
  """A setting that carries a hull.

  Attributes:
    method: its name in code; "student", "teacher", ... for a model alone.
    title: its display name.
    label: the setting in words; "" for a model alone.
    dial: value of the dial; 0 for a model alone.
    student: the stage whose student it uses; "" for the teacher alone.
    price: its price per output token on test.
    score: its score on test.
  """

  method: str
  title: str
  label: str
  dial: float
  student: str
  price: float
  score: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hull:
  """The upper hull of a group of methods and the models alone.

  Attributes:
    settings: number of settings that each method of the group offered, by its name in code.
    vertices: the settings that carry it, chosen on validation, the cheapest there first.
  """

  settings: Mapping[str, int]
  vertices: tuple[Vertex, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Coin:
  """A mixture that gives each sentence one of two neighbouring vertices by a coin.

  Attributes:
    vertex: index of the first of the two.
    weight: probability of the second, 0..1.
    price: the mixture's price per output token on test.
    scores: its scores on test, by name.
  """

  vertex: int
  weight: float
  price: float
  scores: Mapping[str, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gap:
  """Both sides at one price.

  Attributes:
    at: the price per output token.
    reached: True if both mixtures cost exactly that on test; a hull that ends before it gives its
      end.
    ours: the family's mixture.
    others: the mixture of all other methods.
    delta: ours − others, in the comparison's score.
    interval: 95% interval of the difference over paired resamples.
    p_value: two-sided, see `bootstrap.p_value`.
  """

  at: float
  reached: bool
  ours: Coin
  others: Coin
  delta: float
  interval: tuple[float, float]
  p_value: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class HullComparison:
  """One family against the hull of all methods outside it that are no upper bounds.

  Attributes:
    family: the family.
    price: calls to the teacher, share of tokens that it wrote, or sequential cost in teacher
      passes, each per output token.
    step_ratio: for a cost, that of a student step in teacher passes; else None.
    measured: True if `step_ratio` is the ratio measured on the run's machine.
    score: the score by which both hulls are chosen and compared.
    ours: the family's hull.
    others: the hull of the others.
    gaps: the comparisons, the lowest price first.
  """

  family: str
  price: PriceKind
  step_ratio: float | None
  measured: bool
  score: str
  ours: Hull
  others: Hull
  gaps: tuple[Gap, ...]
