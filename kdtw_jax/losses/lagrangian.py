"""Asking as an action under a budget: rewards, entropy terms, duals, costs and gate targets.

Not here: the residual that combines rewards, entropies and values (`path_consistency.py`), and the
gate network.

    maximise E[ Σ_t (r_t − e_t) ]   subject to   E[ Σ_t c_t ] / E[ tokens ] <= B   for each budget B

c_t = 1 where the student asked. The price λ_B >= 0 of an ask is a piecewise-linear function of the
budget, given by its values at K knots. Liu et al. 2025, arXiv 2502.17717; the separate temperature
α_g of the gate is our addition.

Shape letters: B batch, T target length, K knots of the dual function.
"""

import math

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Real, ScalarLike
import optax

from kdtw_jax.base import ArrayLike
from kdtw_jax.losses.path_consistency import path_consistency_error


def lagrangian_rewards(
    teacher_log_probs: Float[ArrayLike, "B T"],
    asked: Bool[ArrayLike, "B T"],
    duals: Float[ArrayLike, " B"],
    teacher_entropies: Float[ArrayLike, "B T"],
    *,
    alpha: ScalarLike,
) -> Float[Array, "B T"]:
  """Computes the Lagrangian reward of each action.

      token:  log μ(y_t|s_t)
      ask:    −λ_B − (1 − α) H(μ(.|s_t))

  The teacher's choice has no divergence from itself, so only the entropy term remains, and only at
  α != 1.

  Args:
    teacher_log_probs: log μ of the emitted token, nats; clipped, if at all, no higher than
      `highest_clip_floor`.
    asked: True where the teacher wrote the token.
    duals: λ_B >= 0 of each row's budget, nats per ask.
    teacher_entropies: H(μ(.|s_t)), nats.
    alpha: entropy temperature α.

  Returns:
    Nats per token, float32, without gradient to any argument.
  """
  rewards = _float32(teacher_log_probs)
  prices = jnp.broadcast_to(_float32(duals)[:, None], rewards.shape)
  of_ask = -prices - (1.0 - alpha) * _float32(teacher_entropies)
  return lax.stop_gradient(jnp.where(jnp.asarray(asked), of_ask, rewards))


def highest_clip_floor(vocab_size: int) -> float:
  """Returns the highest floor of the token reward that does not reward junk.

      −(log V + 8)

  With all V tokens at the floor r, the soft optimum gives them the unnormalised mass V exp(r). This
  floor makes that exp(−8); r = −8 would make it 2.7 at V = 8000.

  Args:
    vocab_size: V.

  Returns:
    The floor in nats.
  """
  return -(math.log(vocab_size) + 8.0)


def gated_entropies(
    token_log_probs: Float[ArrayLike, "B T"],
    gate_logits: Float[ArrayLike, "B T"],
    asked: Bool[ArrayLike, "B T"],
    *,
    alpha: ScalarLike,
    gate_alpha: ScalarLike,
) -> Float[Array, "B T"]:
  """Computes the entropy term of each action of a policy factored into gate and language model.

      token:  α log π_LM(y_t|s_t) + α_g log(1 − g(s_t))
      ask:    α_g log g(s_t)

  With α = α_g = 1 and ℓ = z_τ − logsumexp_V(z), these are the log-probs of a single softmax over
  V ∪ {<τ>}.

  Args:
    token_log_probs: log π_LM of the emitted token, nats.
    gate_logits: log-odds ℓ of asking, g = sigmoid(ℓ).
    asked: True where the student asked.
    alpha: entropy temperature α of the tokens.
    gate_alpha: entropy temperature α_g of the gate.

  Returns:
    Nats per token, float32.
  """
  gate_logits = _float32(gate_logits)
  ask = gate_alpha * jax.nn.log_sigmoid(gate_logits)
  token = alpha * _float32(token_log_probs) + gate_alpha * jax.nn.log_sigmoid(-gate_logits)
  return jnp.where(jnp.asarray(asked), ask, token)


def hat_weights(
    knots: Float[ArrayLike, " K"], budgets: Float[ArrayLike, " B"]
) -> Float[Array, "B K"]:
  """Computes each knot's weight in each budget: hat functions, constant beyond the outer knots.

      w_k(B) = 1 at knot k, falling linearly to 0 at its neighbours;   Σ_k w_k(B) = 1

  Args:
    knots: budgets in ascending order.
    budgets: allowed shares of teacher tokens, 0..1.

  Returns:
    The weights w_k(B), float32.
  """
  knots, budgets = _float32(knots), _float32(budgets)
  bases = jnp.eye(knots.shape[0], dtype=jnp.float32)
  return jax.vmap(lambda basis: jnp.interp(budgets, knots, basis), out_axes=1)(bases)


def interpolate_duals(
    duals: Float[ArrayLike, " K"], knots: Float[ArrayLike, " K"], budgets: Float[ArrayLike, " B"]
) -> Float[Array, " B"]:
  """Interpolates the price of an ask at each row's budget.

      λ(B) = Σ_k w_k(B) λ_k,   w from `hat_weights`

  Args:
    duals: prices λ_k at the knots, nats per ask.
    knots: budgets in ascending order.
    budgets: allowed shares of teacher tokens, 0..1.

  Returns:
    Nats per ask, float32.
  """
  return jnp.interp(_float32(budgets), _float32(knots), _float32(duals))


def dual_ascent(
    duals: Float[ArrayLike, " K"],
    knots: Float[ArrayLike, " K"],
    budgets: Float[ArrayLike, " B"],
    asks: Real[ArrayLike, " B"],
    lengths: Real[ArrayLike, " B"],
    *,
    learning_rate: ScalarLike,
    max_dual: ScalarLike,
) -> Float[Array, " K"]:
  """Takes one dual step: moves the prices by how far on-policy rollouts miss their budgets.

      λ_k ← clip(λ_k + η Σ_b w_k(B_b) (asks_b − B_b n_b) / Σ_b w_k(B_b) n_b,  0, λ_max)

  Like the budget, the violation is a mean over tokens, not over sentences. A knot that no row
  touches keeps its price, and rows without tokens have no effect.

  Args:
    duals: prices λ_k, nats per ask.
    knots: budgets in ascending order.
    budgets: budget of each row, 0..1.
    asks: number of asks in each row.
    lengths: number n_b of tokens in each row.
    learning_rate: η, nats per unit of excess share.
    max_dual: λ_max, nats.

  Returns:
    The new λ_k in nats per ask, float32.
  """
  duals, budgets, lengths = _float32(duals), _float32(budgets), _float32(lengths)
  weights = hat_weights(knots, budgets)
  excess = jnp.einsum("bk,b->k", weights, _float32(asks) - budgets * lengths)
  tokens = jnp.einsum("bk,b->k", weights, lengths)
  violations = jnp.where(tokens > 0, excess / jnp.where(tokens > 0, tokens, 1.0), 0.0)
  return jnp.clip(duals + learning_rate * violations, 0.0, max_dual)


def initial_duals(
    difficulties: Float[ArrayLike, "B T"],
    mask: Bool[ArrayLike, "B T"],
    knots: Float[ArrayLike, " K"],
) -> Float[Array, " K"]:
  """Computes initial prices, which just the share B of the measured difficulties exceeds.

      λ_k = max(0, (1 − B_k)-quantile of difficulty over tokens)

  Guessed initial prices saturate the gate at always or never asking.

  Args:
    difficulties: gain of asking at each token, nats: a KL or a log-prob gap.
    mask: True at the tokens that count.
    knots: budgets, 0..1.

  Returns:
    λ_k in nats per ask, float32; zeros if the mask is empty.
  """
  mask = jnp.asarray(mask)
  counted = jnp.where(mask, _float32(difficulties), jnp.nan)
  return jnp.maximum(jnp.nan_to_num(jnp.nanquantile(counted, 1.0 - _float32(knots))), 0.0)


def cost_consistency_error(
    cost_values: Float[ArrayLike, "B T"],
    asked: Bool[ArrayLike, "B T"],
    mask: Bool[ArrayLike, "B T"],
    ended: Bool[ArrayLike, " B"],
) -> tuple[Float[Array, "B T"], Bool[Array, "B T"]]:
  """Computes the residual of the expected number of asks still to come.

      −V_C(s_i) + Σ_{t=i}^{T−1} c_t

  It is zero only in expectation over the policy's own actions, so count on-policy rows only. A row
  that was cut counts V_C of its last state, without gradient, for what follows.

  Args:
    cost_values: V_C(s_t), asks.
    asked: c_t, True where the student asked.
    mask: True at the tokens of the sequence; a prefix of the row.
    ended: True where the state after the sequence is terminal.

  Returns:
    `(errors, valid)`: the errors in asks, float32, are zero where not valid.
  """
  costs = jnp.asarray(asked).astype(jnp.float32)
  return path_consistency_error(
      cost_values,
      costs,
      jnp.zeros_like(costs),
      mask,
      ended,
      gamma=1.0,
      segment_length=None,
      stop_bootstrap=True,
  )


def gate_targets(
    difficulties: Float[ArrayLike, "B T"], duals: Float[ArrayLike, " B"], *, gate_alpha: ScalarLike
) -> Float[Array, "B T"]:
  """Computes the optimal probability of asking at a known difficulty: the computed gate credit.

      q_t = sigmoid((difficulty_t − λ_B) / α_g)

  Args:
    difficulties: gain of asking, nats: `reverse_kl` or `log_prob_gap`.
    duals: λ_B of each row's budget, nats per ask.
    gate_alpha: entropy temperature α_g of the gate, > 0.

  Returns:
    q_t in 0..1, float32, without gradient.
  """
  difficulties = _float32(difficulties)
  prices = jnp.broadcast_to(_float32(duals)[:, None], difficulties.shape)
  return lax.stop_gradient(jax.nn.sigmoid((difficulties - prices) / gate_alpha))


def gate_cross_entropy(
    gate_logits: Float[ArrayLike, "B T"], targets: Float[ArrayLike, "B T"]
) -> Float[Array, "B T"]:
  """Computes the KL of the gate from its target: cross-entropy minus the target's entropy.

      −q log g − (1 − q) log(1 − g) − H(q) = KL(q‖g) >= 0,   zero at g = q

  Args:
    gate_logits: log-odds of asking, g = sigmoid(ℓ).
    targets: q in 0..1; no gradient.

  Returns:
    Nats per token, float32.
  """
  gate_logits = _float32(gate_logits)
  targets = lax.stop_gradient(_float32(targets))
  cross = optax.sigmoid_binary_cross_entropy(gate_logits, targets)
  target_entropy = jax.scipy.special.entr(targets) + jax.scipy.special.entr(1.0 - targets)
  return cross - target_entropy


def gate_advantage_error(
    gate_logits: Float[ArrayLike, "B T"],
    difficulties: Float[ArrayLike, "B T"],
    duals: Float[ArrayLike, " B"],
    *,
    gate_alpha: ScalarLike,
) -> Float[Array, "B T"]:
  """Computes the squared error of the gate logit against the advantage of asking.

      ½ (α_g ℓ_t − (difficulty_t − λ_B))²

  This is the computed gate credit without saturation. The gate that maximises
  g (difficulty − λ_B) + α_g H(g), in expectation over what it cannot see, has
  ℓ = (E[difficulty] − λ_B) / α_g, and so does the minimum of this error. The minimum of
  `gate_cross_entropy` has σ(ℓ) = E[σ((difficulty − λ_B) / α_g)] instead, which ranks states by how
  often asking pays, not by how much.

  Args:
    gate_logits: log-odds of asking ℓ.
    difficulties: gain of asking, nats; no gradient.
    duals: λ_B of each row's budget, nats per ask; no gradient.
    gate_alpha: entropy temperature α_g of the gate, > 0.

  Returns:
    Nats² per token, float32.
  """
  advantage = lax.stop_gradient(_float32(difficulties) - _float32(duals)[:, None])
  return 0.5 * jnp.square(gate_alpha * _float32(gate_logits) - advantage)


def _float32(array: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
  return jnp.asarray(array).astype(jnp.float32)
