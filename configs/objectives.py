"""The zoo of distillation: each objective is a config of the stage `distillation`.

    python -m kdtw_jax.main --config=configs/multi30k.py:objective=gkd ...

All start from the same student and take the same steps and batches. Half of the rows are the
student's own where a method has such rows; how a paper mixes, warms up or stores them otherwise is
said at the method. kdtw_jax/losses/README.md has all in one table; benchmarks/objectives.py
compares them.
"""

from collections.abc import Callable

import ml_collections


def path_consistency(stage: ml_collections.ConfigDict) -> None:
  """Path consistency with the immediate term in expectation, and forward KL on references.

  Nachum et al. 2017, arXiv 1702.08892; arXiv 2502.17717; the expectation is ours.
  """
  _with_values(stage)
  stage.update(path_consistency=1.0, immediate="expected", consistency_rows="on_policy")
  stage.losses.forward_kl.update(weight=1.0, rows="off_policy")


def average_path_consistency(stage: ml_collections.ConfigDict) -> None:
  """Path consistency for nats per token in place of nats per output, which pay for brevity.

  The average-reward criterion; ours for distillation. See `losses.average_reward`.
  """
  path_consistency(stage)
  stage.average_reward = True


def sampled_path_consistency(stage: ml_collections.ConfigDict) -> None:
  """Path consistency on sampled terms, on own rows and references alike, as in the paper.

  arXiv 2502.17717.
  """
  _with_values(stage)
  stage.update(path_consistency=1.0, immediate="sampled", consistency_rows="all")


def references(stage: ml_collections.ConfigDict) -> None:
  """Cross-entropy of the references: no teacher."""
  _token_loss(stage, "cross_entropy", on_policy_fraction=0.0)


def seq_kd(stage: ml_collections.ConfigDict) -> None:
  """Cross-entropy of the teacher's own outputs; greedy ones here, of beam search in the paper.

  Kim and Rush 2016, arXiv 1606.07947.
  """
  _token_loss(stage, "cross_entropy", on_policy_fraction=0.0)
  stage.update(off_policy="teacher", rollout_temperature=0.0)


def forward_kl(stage: ml_collections.ConfigDict) -> None:
  """Word-level distillation: forward KL on references.

  Hinton et al. 2015, arXiv 1503.02531; Kim and Rush 2016, arXiv 1606.07947.
  """
  _token_loss(stage, "forward_kl", on_policy_fraction=0.0)


def reverse_kl(stage: ml_collections.ConfigDict) -> None:
  """Reverse KL on references."""
  _token_loss(stage, "reverse_kl", on_policy_fraction=0.0)


def gkd(stage: ml_collections.ConfigDict) -> None:
  """Generalised knowledge distillation: JSD with β = ½, on own rows and references.

  Agarwal et al. 2023, arXiv 2306.13649. Its λ is `on_policy_fraction`, its β an option of the loss.
  """
  _token_loss(stage, "generalized_jsd")


def on_policy_reverse_kl(stage: ml_collections.ConfigDict) -> None:
  """Reverse KL on own rows and references: GKD at the end of β where it seeks modes.

  Agarwal et al. 2023, arXiv 2306.13649.
  """
  _token_loss(stage, "reverse_kl")


def imit_kd(stage: ml_collections.ConfigDict) -> None:
  """The teacher's choice in the states of own rows and references; the mixture does not change.

  Lin et al. 2020, arXiv 2009.07253.
  """
  _without_values(stage)
  stage.losses.teacher_choice = {"weight": 1.0}


def minillm(stage: ml_collections.ConfigDict) -> None:
  """Policy gradient of the sequence's reverse KL, and cross-entropy of the references.

  Gu et al. 2023, arXiv 2306.08543.
  """
  _without_values(stage)
  stage.teacher_mixing = 0.2
  stage.losses.minillm = {"weight": 1.0, "rows": "on_policy"}
  stage.losses.cross_entropy.update(weight=1.0, rows="off_policy")


def distillm(stage: ml_collections.ConfigDict) -> None:
  """Skew KL on own rows and references, without the paper's replay buffer.

  Ko et al. 2024, arXiv 2402.03898.
  """
  _without_values(stage)
  stage.losses.skew_kl = {"weight": 1.0, "skew": 0.1}


OBJECTIVES: dict[str, Callable[[ml_collections.ConfigDict], None]] = {
    fn.__name__: fn
    for fn in (
        path_consistency,
        average_path_consistency,
        sampled_path_consistency,
        references,
        seq_kd,
        forward_kl,
        reverse_kl,
        gkd,
        on_policy_reverse_kl,
        imit_kd,
        minillm,
        distillm,
    )
}


def use(config: ml_collections.ConfigDict, name: str) -> None:
  """Gives the stage `distillation` an objective, in place.

  Args:
    config: an unlocked config.
    name: of `OBJECTIVES`; "" for GKD, which did no harm wherever it was measured.

  Raises:
    ValueError: if there is none of the name.
  """
  name = name or gkd.__name__
  if name not in OBJECTIVES:
    raise ValueError(f"objective={name}: is unknown; there are {', '.join(OBJECTIVES)}")
  config.distillation.average_reward = False
  for loss in config.distillation.losses.values():
    loss.update(weight=0.0, rows="all")
  OBJECTIVES[name](config.distillation)


def _token_loss(
    stage: ml_collections.ConfigDict, name: str, *, on_policy_fraction: float | None = None
) -> None:
  """Gives a stage one token loss on all rows, in place."""
  _without_values(stage)
  stage.losses[name].weight = 1.0
  if on_policy_fraction is not None:
    stage.on_policy_fraction = on_policy_fraction


def _with_values(stage: ml_collections.ConfigDict) -> None:
  """Lets values learn alone for a fifth of the steps, unless a stage says for how many."""
  stage.value_warmup_steps = stage.value_warmup_steps or stage.steps // 5


def _without_values(stage: ml_collections.ConfigDict) -> None:
  """Takes path consistency out of a stage, and the steps in which only values learn, in place."""
  stage.update(path_consistency=0.0, value_warmup_steps=0)
