"""Asking as an action under a budget: rewards, entropy terms, duals, costs and gate targets.

Not here: the residual that joins rewards, entropies and values (`path_consistency.py`), and the
gate network.

    maximise E[ Σ_t (r_t − e_t) ]   subject to   E[ Σ_t c_t ] / E[ tokens ] <= B   for each budget B

c_t = 1 where the student asked. The price λ_B >= 0 of an ask is a piecewise-linear function of the
budget, given by its values at K knots; budgets between knots fall between their prices.
Liu et al. 2025, arXiv 2502.17717; the gate's own temperature α_g is this project's.

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
    teacher_entropies: Float[ArrayLike, "B T"] | None = None,
    *,
    alpha: ScalarLike,
    clip_floor: float | None = None,
) -> Float[Array, "B T"]:
  """Reward per action of the Lagrangian.

      token:  log μ(y_t|s_t)
      ask:    −λ_B − (1 − α) H(μ(.|s_t))

  The teacher's own choice has no divergence from itself; what is left of it at α != 1 is the
  entropy term. Without `teacher_entropies` its one-sample estimate (1 − α) log μ(y_t|s_t) stands
  in, whose mean over y_t ~ μ is the same.

  Args:
    teacher_log_probs: `[B, T]` log μ of the emitted token, nats.
    asked: `[B, T]` True where the teacher wrote the token.
    duals: `[B]` λ_B >= 0 of each row's budget, nats per ask; no gradient.
    teacher_entropies: `[B, T]` H(μ(.|s_t)), nats; None to estimate.
    alpha: entropy temperature α.
    clip_floor: lower bound of the token reward, nats, or None. Above −(log V + 8) the clip pays
      for junk: see `highest_clip_floor`.

  Returns:
    `[B, T]` float32, nats, without gradient.
  """
  asked = jnp.asarray(asked)
  rewards = jnp.asarray(teacher_log_probs).astype(jnp.float32)
  if clip_floor is not None:
    rewards = jnp.maximum(rewards, clip_floor)
  own = rewards if teacher_entropies is None else -_float32(teacher_entropies)
  prices = jnp.broadcast_to(_float32(duals)[:, None], rewards.shape)
  return lax.stop_gradient(jnp.where(asked, (1.0 - alpha) * own - prices, rewards))


def highest_clip_floor(vocab_size: int) -> float:
  """Highest lower bound of the token reward that does not reward junk.

      −(log V + 8)

  The soft optimum gives all V tokens at the floor r the unnormalised mass V exp(r): with this
  floor exp(−8), while r = −8 itself would give 2.7 at V = 8000.

  Args:
    vocab_size: V.

  Returns:
    The floor, nats.
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
  """Entropy term of the action taken by a policy that is a gate times a language model.

      token:  α log π_LM(y_t|s_t) + α_g log(1 − g(s_t))
      ask:    α_g log g(s_t)

  With α = α_g = 1 and ℓ = z_τ − logsumexp_V(z) these are the log-probs of one softmax over
  V ∪ {<τ>}.

  Args:
    token_log_probs: `[B, T]` log π_LM of the emitted token, nats.
    gate_logits: `[B, T]` log-odds ℓ of asking, g = sigmoid(ℓ).
    asked: `[B, T]` True where the student asked.
    alpha: entropy temperature α of the tokens.
    gate_alpha: entropy temperature α_g of the gate.

  Returns:
    `[B, T]` float32, nats.
  """
  gate_logits = _float32(gate_logits)
  ask = gate_alpha * jax.nn.log_sigmoid(gate_logits)
  token = alpha * _float32(token_log_probs) + gate_alpha * jax.nn.log_sigmoid(-gate_logits)
  return jnp.where(jnp.asarray(asked), ask, token)


def hat_weights(
    knots: Float[ArrayLike, " K"], budgets: Float[ArrayLike, " B"]
) -> Float[Array, "B K"]:
  """Share of each knot in each budget: hat functions, constant beyond the outer knots.

      w_k(B) = 1 at knot k, falling linearly to 0 at its neighbours;   Σ_k w_k(B) = 1

  Args:
    knots: `[K]` budgets in ascending order.
    budgets: `[B]` allowed shares of teacher tokens, 0..1.

  Returns:
    `[B, K]` float32.
  """
  knots, budgets = _float32(knots), _float32(budgets)
  bases = jnp.eye(knots.shape[0], dtype=jnp.float32)
  return jax.vmap(lambda basis: jnp.interp(budgets, knots, basis), out_axes=1)(bases)


def interpolate_duals(
    duals: Float[ArrayLike, " K"], knots: Float[ArrayLike, " K"], budgets: Float[ArrayLike, " B"]
) -> Float[Array, " B"]:
  """Price of an ask for each row's budget.

      λ(B) = Σ_k w_k(B) λ_k,   w of `hat_weights`

  Args:
    duals: `[K]` prices λ_k at the knots, nats per ask.
    knots: `[K]` budgets in ascending order.
    budgets: `[B]` allowed shares of teacher tokens, 0..1.

  Returns:
    `[B]` float32, nats per ask.
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
  """One step of the prices towards the budgets, from the use in on-policy rollouts.

      λ_k ← clip(λ_k + η Σ_b w_k(B_b) (asks_b − B_b n_b) / Σ_b w_k(B_b) n_b,  0, λ_max)

  The violation is a mean over tokens, not over sentences, as is the budget. Knots that no row
  touches, and rows of no tokens, change nothing.

  Args:
    duals: `[K]` prices λ_k, nats per ask.
    knots: `[K]` budgets in ascending order.
    budgets: `[B]` budget of each row, 0..1.
    asks: `[B]` number of asks in each row.
    lengths: `[B]` number n_b of tokens in each row.
    learning_rate: η, nats per unit of excess share.
    max_dual: λ_max, nats.

  Returns:
    `[K]` float32, nats per ask.
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
  """Prices to start from: what lets just the share B of the measured difficulties pass.

      λ_k = max(0, (1 − B_k)-quantile of difficulty over tokens)

  Prices that start at guesses saturate the gate at always or never.

  Args:
    difficulties: `[B, T]` gain of asking at each token, nats: a KL or a log-prob gap.
    mask: `[B, T]` True at tokens that count.
    knots: `[K]` budgets, 0..1.

  Returns:
    `[K]` float32, nats per ask; zeros when the mask is empty.
  """
  mask = jnp.asarray(mask)
  counted = jnp.where(mask, _float32(difficulties), jnp.nan)
  return jnp.maximum(jnp.nan_to_num(jnp.nanquantile(counted, 1.0 - _float32(knots))), 0.0)


def cost_consistency_error(
    cost_values: Float[ArrayLike, "B T"],
    asked: Bool[ArrayLike, "B T"],
    mask: Bool[ArrayLike, "B T"],
    ended: Bool[ArrayLike, " B"],
    *,
    segment_length: int | None = 1,
) -> tuple[Float[Array, "B T"], Bool[Array, "B T"]]:
  """Residual of the expected number of asks still to come.

      −V_C(s_i) + V_C(s_{i+d}) + Σ_{t=i}^{i+d−1} c_t

  Holds in expectation over the policy's own actions, so only on-policy rows should count, and
  V_C(s_{i+d}) carries no gradient.

  Args:
    cost_values: `[B, T]` V_C(s_t), asks.
    asked: `[B, T]` c_t, True where the student asked.
    mask: `[B, T]` True at the tokens of the sequence; a prefix of the row.
    ended: `[B]` True where the sequence holds its EOS.
    segment_length: d: 1 bootstraps from the next state; None is Monte Carlo, the counted asks up to
      the end, without bias but with more variance and only for ended sequences.

  Returns:
    errors `[B, T]` float32 in asks, zero where not valid; valid `[B, T]`.
  """
  costs = jnp.asarray(asked).astype(jnp.float32)
  return path_consistency_error(
      cost_values,
      costs,
      jnp.zeros_like(costs),
      mask,
      ended,
      gamma=1.0,
      segment_length=segment_length,
      stop_bootstrap=True,
  )


def gate_targets(
    difficulties: Float[ArrayLike, "B T"], duals: Float[ArrayLike, " B"], *, gate_alpha: ScalarLike
) -> Float[Array, "B T"]:
  """Probability of asking that is optimal for a known difficulty: the computed gate credit.

      q_t = sigmoid((difficulty_t − λ_B) / α_g)

  Args:
    difficulties: `[B, T]` gain of asking, nats: `reverse_kl` or `log_prob_gap`.
    duals: `[B]` λ_B of each row's budget, nats per ask.
    gate_alpha: entropy temperature α_g of the gate, > 0.

  Returns:
    `[B, T]` float32 in 0..1, without gradient.
  """
  difficulties = _float32(difficulties)
  prices = jnp.broadcast_to(_float32(duals)[:, None], difficulties.shape)
  return lax.stop_gradient(jax.nn.sigmoid((difficulties - prices) / gate_alpha))


def gate_cross_entropy(
    gate_logits: Float[ArrayLike, "B T"], targets: Float[ArrayLike, "B T"]
) -> Float[Array, "B T"]:
  """Divergence of the gate from its target: cross-entropy less the target's own entropy.

      −q log g − (1 − q) log(1 − g) − H(q) = KL(q‖g) >= 0,   zero at g = q

  Args:
    gate_logits: `[B, T]` log-odds of asking, g = sigmoid(ℓ).
    targets: `[B, T]` q in 0..1; no gradient.

  Returns:
    `[B, T]` float32, nats.
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
  """Squared distance of the gate from the advantage of asking: the computed credit, unsaturated.

      ½ (α_g ℓ_t − (difficulty_t − λ_B))²

  A gate that maximises g (difficulty − λ_B) + α_g H(g) in expectation over what it cannot see has
  ℓ = (E[difficulty] − λ_B) / α_g, and so has the minimum of this error. `gate_cross_entropy` has
  σ(ℓ) = E[σ((difficulty − λ_B) / α_g)] instead, which ranks states by how often, not by how much,
  asking pays.

  Args:
    gate_logits: `[B, T]` log-odds of asking ℓ.
    difficulties: `[B, T]` gain of asking, nats; no gradient.
    duals: `[B]` λ_B of each row's budget, nats per ask; no gradient.
    gate_alpha: entropy temperature α_g of the gate, > 0.

  Returns:
    `[B, T]` float32, nats².
  """
  advantage = lax.stop_gradient(_float32(difficulties) - _float32(duals)[:, None])
  return 0.5 * jnp.square(gate_alpha * _float32(gate_logits) - advantage)


def _float32(array: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
  return jnp.asarray(array).astype(jnp.float32)
