"""The sweeps of a run: every method with the student that serves it best, and every handover.

Each baseline uses the student of the run that gives it the best results on validation, so that none
is held back by how the handover's student was trained.
"""

from collections.abc import Iterable, Sequence
import functools

import numpy as np

from kdtw_jax import decoding
from kdtw_jax.evaluation import methods
from kdtw_jax.evaluation.measure import PAIR_STAGE, Measure
from kdtw_jax.evaluation.methods import Setting, Sweep
from kdtw_jax.evaluation.record import EXACT_METHOD, Curve
from kdtw_jax.evaluation.tradeoff import bisect_dial

PACED_FAMILY = "thresholds"  # baselines that are measured under paced budgets too


def baselines(measure: Measure, names: Iterable[str] | None = None) -> list[Sweep]:
  """Makes the sweeps of the config's methods, each with the student that serves it best.

  The student is chosen on validation among `evaluation.baseline_students`. Methods whose policy
  names another in `student` share that method's choice.

  Args:
    measure: measures the run.
    names: names in `methods.METHODS`; None for those of the config.
  """
  found: dict[str, Sweep] = {}
  for name, stages in _students(measure, names).items():
    if (student := decoding.POLICIES[name].student) in found:
      stages = [found[student].settings[0][2].stage]
    dials = methods.dials_of(measure.config.evaluation, name)
    candidates = [methods.method_sweep(name, dials, stage) for stage in stages]
    curves = [measure.curve("validation", sweep) for sweep in candidates[1:] and candidates]
    found[name] = candidates[best_student(curves, measure.key) if curves else 0]
  budgets = tuple(sorted(measure.config.budgets.seen))
  paced = [methods.paced_sweep(sweep, budgets) for name, sweep in found.items() if _is_paced(name)]
  return [*found.values(), *paced]


def num_points(measure: Measure) -> int:
  """Counts the points that the sweeps of a run will have on both splits.

  The choice of students measures further points on validation, which are counted too. Offsets that
  are the same for several shares are counted for each.
  """
  evaluation, budgets = measure.config.evaluation, tuple(measure.config.budgets.seen)
  on_both = len(evaluation.offset_shares)
  for sweep in methods.handover_sweeps(budgets, tuple(map(float, evaluation.tolerances))):
    on_both += len(sweep.settings)
  total = 0
  for name, stages in _students(measure, None).items():
    total += len(methods.dials_of(evaluation, name)) * (len(stages) + 1)
    on_both += len(budgets) * _is_paced(name)
  return total + 2 * on_both


def _students(measure: Measure, names: Iterable[str] | None) -> dict[str, list[str]]:
  """Returns the methods to sweep, and the stages whose students each is tried with.

  A method that shares the choice of another one in `names` comes after it, with one stage.
  """
  evaluation, found = measure.config.evaluation, {}
  names = methods.names_of(evaluation) if names is None else names
  every = [stage for stage in evaluation.baseline_students if stage in measure.students]
  for name in sorted(names, key=lambda name: bool(decoding.POLICIES[name].student)):
    student = decoding.POLICIES[name].student
    shared = student in found or student == "handover"  # the latter reads the pair's heads
    found[name] = [PAIR_STAGE] if shared else every
  return found


def _is_paced(name: str) -> bool:
  """Returns True for a method that is measured under paced budgets too."""
  return decoding.POLICIES[name].family == PACED_FAMILY and not decoding.POLICIES[name].bound


def best_student(curves: Sequence[Curve], key: str) -> int:
  """Returns the number of the curve with the best mean score over the calls that all come to.

  If outputs are exact, it is the one with the fewest passes of the teacher. Curves that have no
  number of calls in common are compared at their nearest ends.

  Args:
    curves: of one method with different students.
    key: the score, e.g. "bleu".
  """
  if curves[0].method == EXACT_METHOD:
    fewest = [min(point.teacher_passes for point in curve.points) for curve in curves]
    return int(np.argmin(fewest))
  lines = [
      np.array(sorted((point.teacher_calls, point.scores[key]) for point in curve.points)).T
      for curve in curves
  ]
  low = max(calls[0] for calls, _ in lines)
  high = max(low, min(calls[-1] for calls, _ in lines))
  probes = np.linspace(low, high, 10)
  return int(np.argmax([np.mean(np.interp(probes, calls, scores)) for calls, scores in lines]))


def handovers(measure: Measure) -> list[Sweep]:
  """Makes the sweeps of the learned gate, in every way that it is used.

  Args:
    measure: measures the run.
  """
  config = measure.config
  budgets = config.budgets.seen
  sweeps = methods.handover_sweeps(tuple(budgets), tuple(map(float, config.evaluation.tolerances)))
  if config.evaluation.offset_shares:
    budget = budgets[len(budgets) // 2]
    share_of = functools.partial(_offset_share, measure, budget)
    offsets = {share: bisect_dial(share_of, share) for share in config.evaluation.offset_shares}
    sweeps.append(methods.offset_sweep(budget, offsets))
  return sweeps


def _offset_share(measure: Measure, budget: float, offset: float) -> float:
  """Returns the teacher's share on validation with an offset added to the gate."""
  setting = Setting("handover", offset, PAIR_STAGE, budget)
  return measure.outputs("validation", setting).teacher_share
