"""The results of an evaluation as curves for TensorBoard: scores against teacher calls.

TensorBoard draws values over whole steps; here a step is one teacher call per 1000 output tokens.
"""

from kdtw_jax.evaluation.record import Metrics

PER = 1000  # tokens


def curves_by_run(metrics: Metrics) -> dict[str, dict[str, list[tuple[int, float]]]]:
  """Makes a run of each method and of each model alone.

  Args:
    metrics: the results.

  Returns:
    (calls per 1000 tokens, score) by tag, `evaluation/SPLIT/SCORE`, by run: the name of a method,
    or `NAME_alone`. The teacher alone has a call for each token, students alone have none.
  """
  runs = {}
  for who, alone in metrics.alone.items():
    calls = PER if who == "teacher" else 0
    runs[f"{who}_alone"] = {_tag("test", score): [(calls, v)] for score, v in alone.scores.items()}
  for split, curves in metrics.curves.items():
    for curve in curves:
      run = runs.setdefault(curve.method, {})
      for point in sorted(curve.points, key=lambda point: point.teacher_calls):
        for score, value in point.scores.items():
          step = round(PER * point.teacher_calls)
          run.setdefault(_tag(split, score), []).append((step, value))
  return runs


def _tag(split: str, score: str) -> str:
  return f"evaluation/{split}/{score}"
