"""Losses: arrays in, one float32 per token out, reduced once at the end."""

from kdtw_jax.losses.distillation import (
    cross_entropy,
    forward_kl,
    generalized_jsd,
    reverse_kl,
    taken_log_probs,
)
from kdtw_jax.losses.imitation import teacher_choice
from kdtw_jax.losses.lagrangian import (
    cost_consistency_error,
    dual_ascent,
    gate_advantage_error,
    gate_cross_entropy,
    gate_targets,
    gated_entropies,
    hat_weights,
    highest_clip_floor,
    initial_duals,
    interpolate_duals,
    lagrangian_rewards,
)
from kdtw_jax.losses.minillm import minillm
from kdtw_jax.losses.path_consistency import (
    average_reward,
    expected_consistency_loss,
    expected_rewards,
    logsumexp_values,
    path_consistency_error,
    path_consistency_loss,
)
from kdtw_jax.losses.reductions import Mean, RootMean, token_count, token_mean, token_sum
from kdtw_jax.losses.registry import (
    LOSSES,
    ROWS,
    WeightedLoss,
    Written,
    register_loss,
    register_sequence_loss,
    weighted_losses,
)
from kdtw_jax.losses.sequence_chunks import over_sequence_chunks
from kdtw_jax.losses.skew_kl import skew_kl, skew_reverse_kl
from kdtw_jax.losses.stored_scores import completed_logits

__all__ = (
    "LOSSES",
    "ROWS",
    "Mean",
    "RootMean",
    "WeightedLoss",
    "Written",
    "average_reward",
    "completed_logits",
    "cost_consistency_error",
    "cross_entropy",
    "dual_ascent",
    "expected_consistency_loss",
    "expected_rewards",
    "forward_kl",
    "gate_advantage_error",
    "gate_cross_entropy",
    "gate_targets",
    "gated_entropies",
    "generalized_jsd",
    "hat_weights",
    "highest_clip_floor",
    "initial_duals",
    "interpolate_duals",
    "lagrangian_rewards",
    "logsumexp_values",
    "minillm",
    "over_sequence_chunks",
    "path_consistency_error",
    "path_consistency_loss",
    "register_loss",
    "register_sequence_loss",
    "reverse_kl",
    "skew_kl",
    "skew_reverse_kl",
    "taken_log_probs",
    "teacher_choice",
    "token_count",
    "token_mean",
    "token_sum",
    "weighted_losses",
)
