"""Path consistency: the residual of the soft-Bellman optimum along any path, and its loss.

Not here: rewards and entropy terms of asking (`lagrangian.py`), and the value network.

At the optimum C = 0 along every path of d tokens, whoever wrote it:

    C(s_i..s_{i+d}) = −V(s_i) + γ^d V(s_{i+d}) + Σ_{t=i}^{i+d−1} γ^{t−i} (r_t − e_t)

with e_t = α log π(a_t|s_t), or the sum of its gate and token parts. V is 0 after the end of the
sequence. Position t of a `[B, T]` array belongs to action a_t and to state s_t, the state before
token t. Masks are prefixes: a row of n tokens has n True entries, then False.

Asking makes the path random. After an ask the teacher draws the next token, so C = 0 holds only in
expectation over that draw. The gradient of ½C² is C ∇C. If both factors depend on the draw, its
mean is not E[C] E[∇C], and the optimum is no longer a stationary point. (This double-sampling bias
would flatten V over the teacher's possible tokens.) A segment's gradient therefore stops at its
first ask: everything after it, V(s_{i+d}) included, counts in the value of C but is a constant for
the gradient. What remains, E[C | path up to the ask] ∇(terms up to and including the ask), is zero
at the optimum, if the teacher draws from μ itself: rollouts at another temperature than 1 draw its
tokens from a tempered μ, over which this mean is not quite zero. Tokens after an ask get their
credit from segments that start after it.

Worked example, n = 4, d = 3, ask at t = 1 (x = r − e; brackets: no gradient):
    C_0 = −V_0 + x_0 + γ x_1 + [γ² x_2 + γ³ V_3]      C_1 = −V_1 + x_1 + [γ x_2 + γ² x_3 + 0]
    C_2 = −V_2 + x_2 + γ x_3 + 0                       C_3 = −V_3 + x_3 + 0

Shape letters: B batch, T target length, C chunk of positions, V vocabulary.
"""

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, ScalarLike
import optax

from kdtw_jax.base import ArrayLike
from kdtw_jax.distributions import log_softmax
from kdtw_jax.losses.reductions import token_mean


def path_consistency_error(
    values: Float[ArrayLike, "B T"],
    rewards: Float[ArrayLike, "B T"],
    entropies: Float[ArrayLike, "B T"],
    mask: Bool[ArrayLike, "B T"],
    ended: Bool[ArrayLike, " B"],
    *,
    gamma: ScalarLike,
    segment_length: int | None,
    stop_bootstrap: bool = False,
    asked: Bool[ArrayLike, "B T"] | None = None,
) -> tuple[Float[Array, "B T"], Bool[Array, "B T"]]:
  """Computes the path-consistency residual of the segment that starts at each position.

      C_i = −V(s_i) + γ^d V(s_{i+d}) + Σ_{t=i}^{i+d−1} γ^{t−i} (r_t − e_t)

  Nachum et al. 2017, arXiv 1702.08892, eq. 14; distillation reward: arXiv 2502.17717.
  A segment that reaches the end of the sequence is shorter and has V = 0 there. A sequence that was
  cut off goes on unseen: its segments end at its last known state, s_{n−1}, and count V(s_{n−1})
  for what follows, so that not ending is no way around a bad value. Its last token begins none.
  Time O(T log d), memory O(T log d) per row.

  Example:
    >>> import jax.numpy as jnp
    >>> errors, valid = path_consistency_error(
    ...     jnp.array([[-3.0, -2.0]]), jnp.array([[-1.0, -2.0]]), jnp.zeros((1, 2)),
    ...     jnp.array([[True, True]]), jnp.array([True]), gamma=1.0, segment_length=1)
    >>> errors.tolist()  # 3 − 2 − 1 and 2 + 0 − 2
    [[0.0, 0.0]]

  Args:
    values: V(s_t), nats.
    rewards: r_t, nats: log μ of a student token, minus the price of an ask.
    entropies: e_t, nats, with gradient: α log π of the action taken.
    mask: True at the tokens of the sequence, EOS included; a prefix of the row.
    ended: True where the state after the last unmasked token is terminal.
    gamma: discount γ.
    segment_length: d in tokens; None extends every segment to the end of its sequence.
    stop_bootstrap: True stops the gradient through V(s_{i+d}).
    asked: True where the teacher drew the token; the gradient of a segment stops at its first ask
      (see the module). None if the teacher drew no token.

  Returns:
    `(errors, valid)`: the errors in nats, float32, are zero where not valid.

  Raises:
    ValueError: if segment_length is below 1.
  """
  if segment_length is not None and segment_length < 1:
    raise ValueError(f"segment_length={segment_length}: must be >= 1, or None for whole sequences")
  mask = jnp.asarray(mask)
  length = mask.shape[1] if segment_length is None else min(segment_length, mask.shape[1])
  asked = jnp.zeros_like(mask) if asked is None else mask & jnp.asarray(asked)
  values = _masked(values, mask)
  last_of_cut = mask & ~_shift_left(mask, 1) & ~jnp.asarray(ended)[:, None]
  unseen = lax.stop_gradient(values) if stop_bootstrap else values
  terms = jnp.where(last_of_cut, unseen, _masked(rewards, mask) - _masked(entropies, mask))

  sums, crossed = _segment_sums(terms, asked, gamma=gamma, length=length)
  bootstrap = _shift_left(values, length)  # zero from the end of the sequence on
  bootstrap = lax.stop_gradient(bootstrap) if stop_bootstrap else _stop_where(crossed, bootstrap)
  errors = -values + jnp.asarray(gamma, jnp.float32) ** length * bootstrap + sums

  valid = mask & ~last_of_cut
  return jnp.where(valid, errors, 0.0), valid


def path_consistency_loss(
    errors: Float[ArrayLike, "B T"], valid: Bool[ArrayLike, "B T"], huber: float | None = None
) -> Float[Array, "B T"]:
  """Computes the loss of each segment: half the squared residual, or Huber's loss.

      ½ C²                               if |C| <= δ or δ is None
      δ (|C| − ½ δ)                      else

  Nachum et al. 2017, arXiv 1702.08892, eq. 15. Huber's loss keeps single tokens of very low log μ
  from dominating the batch, without clipping the reward.

  Args:
    errors: residuals C, nats.
    valid: True where the residual exists.
    huber: δ in nats, or None for the squared loss.

  Returns:
    The losses, float32, zero where not valid. `token_mean(losses, valid)` reduces them.

  Raises:
    ValueError: if huber is not positive.
  """
  if huber is not None and huber <= 0:
    raise ValueError(f"huber={huber}: must be > 0 nats, or None for the squared loss")
  errors = _masked(errors, jnp.asarray(valid))
  return 0.5 * jnp.square(errors) if huber is None else optax.huber_loss(errors, delta=huber)


def average_reward(
    terms: Float[ArrayLike, "B T"], mask: Bool[ArrayLike, "B T"] | Float[ArrayLike, "B T"]
) -> Float[Array, ""]:
  """Computes ρ, the mean of r_t − e_t over the tokens of a batch, without gradient.

      C(s_i..s_{i+d}) with r_t − ρ in place of r_t

  On total rewards a sequence pays for every token, so a student that stays behind the teacher
  everywhere gains by ending early. At ρ = E[Σ (r_t − e_t)] / E[n] for outputs of n tokens, a token
  as good as the average adds nothing, and the policy that is best for r_t − ρ maximises that ratio
  (Dinkelbach 1967, doi 10.1287/mnsc.13.7.492). V is then the differential value of average-reward
  reinforcement learning: what follows, less what as many average tokens bring.

  Args:
    terms: r_t − e_t, nats.
    mask: True at the tokens that count, or a weight >= 0 per token.

  Returns:
    Nats per token, a float32 scalar; 0 if nothing counts.
  """
  return lax.stop_gradient(token_mean(terms, mask).value())


def expected_rewards(
    teacher_logits: Float[ArrayLike, "B C V"],
    student_logits: Float[ArrayLike, "B C V"],
    *,
    alpha: ScalarLike,
    floor: ScalarLike,
) -> Float[Array, "B C"]:
  """Computes the immediate term of the student's own token in expectation, not for one sample.

      x_t = E_{a~π}[max(log μ(a|s_t), floor) − α log π(a|s_t)]

  At α = 1, without the floor, it is −KL(π‖μ).

  Args:
    teacher_logits: logits of μ.
    student_logits: logits of π.
    alpha: entropy temperature α.
    floor: lowest reward, nats.

  Returns:
    Nats, float32, with gradient to the student.
  """
  rewards = jnp.maximum(log_softmax(teacher_logits), floor)
  log_probs = log_softmax(student_logits)
  terms = rewards - jnp.asarray(alpha, jnp.float32) * log_probs
  return jnp.sum(jnp.exp(log_probs) * terms, axis=-1)


def expected_consistency_loss(
    errors: Float[ArrayLike, "B T"],
    valid: Bool[ArrayLike, "B T"],
    immediate: Float[ArrayLike, "B T"],
    log_probs: Float[ArrayLike, "B T"],
    *,
    alpha: ScalarLike,
    huber: float | None = None,
) -> Float[Array, "B T"]:
  """Computes the loss whose gradient takes the immediate term in expectation over the action.

      ½ C_t²  −  α x_t  −  α clip(C_t, ±δ) (log π(a_t) − [log π(a_t)])     in brackets: no gradient

  with C_t the residual of the terms x = `expected_rewards`, without gradient in the last term,
  which is 0 and has the gradient of log π alone. The gradient of one ½ C² on sampled terms is −α
  times the policy gradient of the return, with the sampled token's reward as a part of its own
  noise. Here that part is computed: x_t has the exact gradient of one step, and the token is
  credited with what follows it alone, Σ_{k>t} γ^{k−t} x_k, less the baseline V(s_t) − x_t. At γ = 0
  it is reverse KL on the student's own tokens. The same split of the first step, without V: Gu et
  al. 2023, arXiv 2306.08543.

  Summed over all starts, sampled terms credit token t in each segment that holds it: min(t + 1, d)
  times at γ = 1, if V is the student's own value, and once here. So the expected gradients of the
  two losses are the same at d = 1 alone. Both expectations are over the student's own tokens, drawn
  at temperature 1; at another temperature they are off this distribution.

  Args:
    errors: residuals C, nats, with gradient to the values alone.
    valid: True where the residual exists.
    immediate: x_t, nats, with gradient.
    log_probs: log π of the token taken, with gradient.
    alpha: entropy temperature α.
    huber: δ in nats, or None for the squared loss and no clipping.

  Returns:
    The losses, float32, zero where not valid.
  """
  valid = jnp.asarray(valid)
  credit = lax.stop_gradient(_masked(errors, valid))
  if huber is not None:
    credit = jnp.clip(credit, -huber, huber)
  log_probs = _masked(log_probs, valid)
  gained = _masked(immediate, valid) + credit * (log_probs - lax.stop_gradient(log_probs))
  return path_consistency_loss(errors, valid, huber) - jnp.asarray(alpha, jnp.float32) * gained


def logsumexp_values(
    logits: Float[ArrayLike, "B C V"],
    gate_logits: Float[ArrayLike, "B C"] | None = None,
    *,
    alpha: ScalarLike,
    gate_alpha: ScalarLike = 1.0,
) -> Float[Array, "B C"]:
  """Computes state values from the policy's own logits ("unified" path consistency).

      V_LM = α logsumexp(z),    V = V_LM + α_g log(1 + exp(ℓ))

  It reads the policy's logits z as action values over the temperature, Q/α, and the log-odds ℓ of
  asking as (Q_τ − V_LM)/α_g. Then e_t = Q − V for tokens and asks alike.
  Nachum et al. 2017, arXiv 1702.08892, section 4.3.

  Args:
    logits: logits of π_LM.
    gate_logits: log-odds ℓ of asking; None for a student that cannot ask.
    alpha: entropy temperature α of the tokens.
    gate_alpha: entropy temperature α_g of the gate.

  Returns:
    Nats, float32.
  """
  values = jax.nn.logsumexp(jnp.asarray(logits).astype(jnp.float32), axis=-1) * alpha
  if gate_logits is None:
    return values
  return values + jax.nn.softplus(jnp.asarray(gate_logits).astype(jnp.float32)) * gate_alpha


def _masked(array: Float[ArrayLike, "B T"], mask: Bool[Array, "B T"]) -> Float[Array, "B T"]:
  """Returns a float32 copy with zeros where masked, even over NaN."""
  return jnp.where(mask, jnp.asarray(array).astype(jnp.float32), 0.0)


def _shift_left(array: Array, steps: int) -> Array:
  """Moves row element i + steps to position i; fills the right end with zeros (False)."""
  return jnp.pad(array[:, steps:], ((0, 0), (0, min(steps, array.shape[1]))))


def _stop_where(stop: Bool[Array, "B T"], array: Float[Array, "B T"]) -> Float[Array, "B T"]:
  """Returns the array, with no gradient where `stop` is True."""
  return jnp.where(stop, lax.stop_gradient(array), array)


def _segment_sums(
    terms: Float[Array, "B T"], asked: Bool[Array, "B T"], *, gamma: ScalarLike, length: int
) -> tuple[Float[Array, "B T"], Bool[Array, "B T"]]:
  """Sums `length` discounted terms from each position on, and tells if an ask is among them.

  A segment of k + m tokens is one of k followed by one of m. So the sums of 1, 2, 4, ... tokens are
  built by doubling, and those in the binary digits of `length` are joined. Nothing is divided by
  γ^t and no long sums are subtracted from each other, so small residuals keep their digits.
  """
  discount = jnp.asarray(gamma, jnp.float32)

  def join(left, left_length, right):
    (left_sums, left_asked), (right_sums, right_asked) = left, right
    behind = _stop_where(left_asked, _shift_left(right_sums, left_length))
    sums = left_sums + discount**left_length * behind
    return sums, left_asked | _shift_left(right_asked, left_length)

  power, power_length = (terms, asked), 1
  result, result_length = None, 0
  while True:
    if length & power_length:
      result = power if result is None else join(result, result_length, power)
      result_length += power_length
    if 2 * power_length > length:
      assert result is not None  # the highest digit is 1
      return result
    power, power_length = join(power, power_length, power), 2 * power_length
