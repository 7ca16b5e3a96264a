"""FLy: speculation that forgives a mismatch where the teacher is uncertain and agrees again.

Shape letters: B batch, V vocabulary; k drafts.
"""

import math
from typing import ClassVar

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from kdtw_jax.decoding import sampling as sampling_lib
from kdtw_jax.decoding.policies.drafter import Drafts, of_draft
from kdtw_jax.decoding.policies.policy import Dial, per_row, static
from kdtw_jax.decoding.policies.registry import register
from kdtw_jax.decoding.policies.speculative import Speculative
from kdtw_jax.decoding.sampling import Key, Sampling


@register("fly_2", "FLy, window of 2, k = 8", k=8, window=2)
@register("fly", "FLy, window of 6, k = 25")
@flax.struct.dataclass
class Fly(Speculative):
  """Speculation in which a rejected draft stays if the teacher is uncertain, then agrees again.

      keep v iff exact speculation does, or H₃(p) >= θ and it keeps the next w drafts

  H₃ is the entropy of the teacher's three likeliest tokens, `−Σ p log p`, at most log 3 and small
  again where many tokens are equally likely. The w drafts must lie in the same round: a mismatch
  whose window passes the end of the draft is rejected, as in the authors' code and in vLLM. Drawn,
  exact speculation decides by its coin and the token after a rejection is drawn from its residual;
  what results is not p, and has no closed form because it depends on the drafts that follow. Li et
  al. 2025, arXiv 2511.22972.

  Attributes:
    k: most drafts in a round, static.
    entropy: θ, nats; above log 3 it is exact speculation.
    window: w, number of drafts that must agree after a mismatch, >= 1, static.
    top: number of likeliest tokens in the entropy, static.
  """

  k: int = static(25)
  entropy: Dial = 0.3
  window: int = static(6)
  top: int = static(3)

  dial_range: ClassVar[tuple[float, float]] = (0.0, math.inf)
  dial_name: ClassVar[str | None] = "entropy"
  whole_dial: ClassVar[bool] = False
  dials: ClassVar[tuple[float, ...]] = (0.8, 0.5, 0.3, 0.1, 0.0)
  student: ClassVar[str] = "speculative"
  source: ClassVar[str] = "arXiv 2511.22972"

  def __post_init__(self):
    super().__post_init__()
    if self.window < 1:
      raise ValueError(f"policy.window={self.window}: at least 1 draft must agree")

  def stays(self, drafts: Drafts, key: Key, sampling: Sampling) -> Bool[Array, "B k"]:
    """Keeps what exact speculation keeps, and forgives lone mismatches."""
    kept = Speculative.stays(self, drafts, key, sampling) & drafts.real
    agrees_again = jnp.ones_like(kept)
    for i in range(1, self.window + 1):
      agrees_again &= jnp.pad(kept[:, i:], ((0, 0), (0, min(i, kept.shape[1]))))
    if sampling.greedy:
      p = jax.nn.softmax(drafts.teacher_logits, axis=-1)
    else:
      p = sampling_lib.distribution(drafts.teacher_logits, sampling)
    uncertain = self._entropy(p) >= per_row(self.entropy, kept)[:, None]
    return kept | (agrees_again & uncertain & (of_draft(p, drafts.tokens) > 0))

  def _entropy(self, p: Float[Array, "B k V"]) -> Float[Array, "B k"]:
    likeliest, _ = jax.lax.top_k(p, min(self.top, p.shape[-1]))
    return jnp.sum(jax.scipy.special.entr(likeliest), axis=-1)
