"""Relaxed acceptance as servers offer it: a draft stays if the teacher finds it likely enough.

Of TensorRT-LLM (among the top N and close to the top) and SGLang (two thresholds). Not here:
lenient speculation and typical acceptance (speculative.py).

Shape letters: B batch, V vocabulary; k drafts.
"""

from typing import ClassVar

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from kdtw_jax.decoding import sampling as sampling_lib
from kdtw_jax.decoding.policies.drafter import Drafter, Drafts, coin, draw_residual, of_draft
from kdtw_jax.decoding.policies.policy import Dial, per_row, static
from kdtw_jax.decoding.policies.registry import register
from kdtw_jax.decoding.sampling import Key, Sampling


@register("relaxed_24", "Relaxed acceptance, k = 24", k=24)
@register("relaxed", "Relaxed acceptance, k = 8")
@flax.struct.dataclass
class Relaxed(Drafter):
  """Relaxed acceptance of TensorRT-LLM: a draft stays if it is among the teacher's likeliest.

      keep v iff p(v) >= max p − δ and fewer than N tokens are likelier

  The teacher's own choice follows. Drawn, the output is distributed as the mixture π of cascades.py
  with this rule, because drafts are drawn from q̃ and replacements from p̃. `cascade_token_v2` has
  the same rule without N, aims at the same π, and rejects less. `relaxed_topk` and `relaxed_delta`
  in TensorRT-LLM, which relaxes the tokens of a reasoning phase alone.

  Attributes:
    k: most drafts in a round, static.
    delta: δ, 0..1; 0 keeps the teacher's choice alone.
    top: N, static.
  """

  k: int = static(8)
  delta: Dial = 0.6
  top: int = static(10)

  dial_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
  dial_name: ClassVar[str | None] = "delta"
  dials: ClassVar[tuple[float, ...]] = (0.1, 0.3, 0.6, 0.8, 0.9)
  source: ClassVar[str] = "TensorRT-LLM"

  def __post_init__(self):
    super().__post_init__()
    if self.top < 1:
      raise ValueError(f"policy.top={self.top}: at least 1 token must be acceptable")

  def stays(self, drafts: Drafts, key: Key, sampling: Sampling) -> Bool[Array, "B k"]:
    """Keeps the drafts among the likeliest tokens."""
    probs = jax.nn.softmax(drafts.teacher_logits, axis=-1)
    p = of_draft(probs, drafts.tokens)
    num_likelier = jnp.sum(probs > p[..., None], axis=-1)
    delta = per_row(self.delta, p)[:, None]
    return (p >= jnp.max(probs, axis=-1) - delta) & (num_likelier < self.top)


@register("accept_acc", "Accept by threshold_acc, k = 8", dial_name="acc", dials=())
@register("accept_single_24", "Accept by threshold_single, k = 24", k=24)
@register("accept_single", "Accept by threshold_single, k = 8")
@flax.struct.dataclass
class Accept(Drafter):
  """Acceptance by the two thresholds of SGLang.

      drawn   keep v with probability min(1, p̃(v)/θ_acc), or 1 where p̃(v) >= θ_single
      greedy   keep v iff v = argmax p or p(v) >= θ_single

  A rejected draft is drawn anew from p̃ without it. With a(v) the probability that v is kept, the
  drawn output is distributed as `q̃(v) a(v) + p̃(v) Σ_{u≠v} q̃(u)(1 − a(u))/(1 − p̃(u))`, which is p̃
  if both thresholds are 1, whoever drafts. SGLang itself has no thresholds when greedy; there
  θ_acc changes nothing here. `speculative_accept_threshold_single` and `_acc` in SGLang.

  Attributes:
    k: most drafts in a round, static.
    single: θ_single, 0..1; 1 is exact, 0 keeps everything.
    acc: θ_acc, 0..1; 1 is exact, 0 keeps all that the teacher could have drawn.
  """

  k: int = static(8)
  single: Dial = 1.0
  acc: Dial = 1.0

  dial_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
  dial_name: ClassVar[str | None] = "single"
  dials: ClassVar[tuple[float, ...]] = (0.004, 0.02, 0.1, 0.2, 0.4)
  source: ClassVar[str] = "SGLang"

  def stays(self, drafts: Drafts, key: Key, sampling: Sampling) -> Bool[Array, "B k"]:
    """Keeps the drafts above a threshold."""
    p = of_draft(sampling_lib.distribution(drafts.teacher_logits, sampling), drafts.tokens)
    single, acc = (per_row(dial, p)[:, None] for dial in (self.single, self.acc))
    kept = coin(key, p) * acc < p
    if sampling.greedy:
      p = of_draft(jax.nn.softmax(drafts.teacher_logits, axis=-1), drafts.tokens)
    return kept | (p >= single)

  def correct(self, teacher_logits, student_logits, refused, key, sampling):
    """Draws from the teacher's distribution without the rejected draft."""
    if sampling.greedy:
      return sampling_lib.choose_token(teacher_logits, key, sampling)
    p = sampling_lib.distribution(teacher_logits, sampling)
    return draw_residual(p, jax.nn.one_hot(refused, p.shape[-1]), refused, key, sampling)
