"""The paces of the pair: how strictly its gate is held to each form of a budget, by validation."""

from kdtw_jax import decoding
from kdtw_jax.evaluation.pacing import PACED_FORMS, pace_on_validation
from kdtw_jax.stages.stage import Run
from kdtw_jax.terminal import tracked


def chosen(run: Run) -> dict[str, float]:
  """Returns κ by form of budget, for the gate of the pair's student."""
  config = run.config
  if len(config.decode.paces) == 1:
    return dict.fromkeys(PACED_FORMS, float(config.decode.paces[0]))
  runner = run.runner("validation")
  gate, params = decoding.make_policy("handover"), run.params(run.pair_stage)
  return {
      form: pace_on_validation(runner, gate, params, form, config=config)
      for form in (PACED_FORMS[i] for i in tracked(range(len(PACED_FORMS)), "paces"))
  }
