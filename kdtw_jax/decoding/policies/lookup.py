"""Drafting without a student: tokens copied from the source and from the output.

Shape letters: B batch, S source length, V vocabulary; k drafts.
"""

from typing import ClassVar

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from kdtw_jax import base
from kdtw_jax.decoding import sampling as sampling_lib
from kdtw_jax.decoding.policies.drafter import Drafter, Drafts, coin, draw_residual, of_draft
from kdtw_jax.decoding.policies.policy import static
from kdtw_jax.decoding.policies.registry import register
from kdtw_jax.decoding.sampling import Key, Sampling


@register("prompt_lookup", "Prompt lookup (exact)", dials=(1.0, 2.0, 3.0, 4.0, 6.0))
@flax.struct.dataclass
class PromptLookup(Drafter):
  """Exact speculative decoding with copied drafts, without a student.

      draft what followed the last n <= 3 tokens where they stood before
      keep v with probability p̃(v), else draw from norm(max(0, p̃ − 1[v]))

  The last n tokens of the output are looked up in the source and the output. The longest match
  wins, then the latest. The k tokens after it are the drafts. Saxena 2023,
  github.com/apoorvumang/prompt-lookup-decoding.

  Attributes:
    k: most tokens to copy, static.
    ngram: most tokens to match, static.
  """

  k: int = static(8)
  ngram: int = static(3)

  needs_student: ClassVar[bool] = False
  dial_range: ClassVar[tuple[float, float]] = (1.0, 512.0)
  dial_name: ClassVar[str | None] = "k"
  whole_dial: ClassVar[bool] = True
  source: ClassVar[str] = "Saxena 2023"

  def propose(
      self, source: Int[Array, "B S"], tokens: Int[Array, "B inputs"], length: Int[Array, " B"]
  ) -> tuple[Int[Array, "B k"], Int[Array, " B"]]:
    """Copies what followed the newest tokens at an earlier place."""
    is_output = jnp.arange(tokens.shape[1])[None, :] <= length[:, None]
    text = jnp.concatenate([source, jnp.where(is_output, tokens, base.PAD_ID)], axis=1)
    last = jnp.pad(tokens, ((0, 0), (self.ngram, 0)))
    columns = length[:, None] + self.ngram - jnp.arange(self.ngram)[None, :]
    tail = jnp.take_along_axis(last, columns, axis=1)  # newest first
    # matched[b, i]: number of tokens before place i that equal the newest of the output.
    matched, running = jnp.zeros(text.shape, jnp.int32), jnp.ones(text.shape, bool)
    for j in range(self.ngram):
      before = jnp.pad(text, ((0, 0), (j + 1, 0)))[:, : text.shape[1]]
      running = running & (before == tail[:, j : j + 1]) & (before != base.PAD_ID)
      matched = matched + running
    place = jnp.arange(text.shape[1])[None, :]
    usable = (matched > 0) & (text != base.PAD_ID)
    best = jnp.argmax(jnp.where(usable, matched * text.shape[1] + place, -1), axis=1)
    copy = jnp.pad(text, ((0, 0), (0, self.k)))
    drafts = jnp.take_along_axis(copy, best[:, None] + jnp.arange(self.k)[None, :], axis=1)
    ended = jnp.pad(drafts == base.EOS_ID, ((0, 0), (1, 0)))[:, : self.k]
    real = jnp.cumprod(((drafts != base.PAD_ID) & ~ended).astype(jnp.int32), axis=1)
    return drafts, jnp.where(jnp.any(usable, axis=1), jnp.sum(real, axis=1), 0)

  def stays(self, drafts: Drafts, key: Key, sampling: Sampling) -> Bool[Array, "B k"]:
    """Keeps what the teacher would write; when sampling, keeps v with probability p(v)."""
    if sampling.greedy:
      return Drafter.stays(self, drafts, key, sampling)
    p = of_draft(sampling_lib.distribution(drafts.teacher_logits, sampling), drafts.tokens)
    return coin(key, p) < p

  def correct(self, teacher_logits, student_logits, refused, key, sampling):
    """Draws from the teacher's distribution without the rejected copy."""
    p = sampling_lib.distribution(teacher_logits, sampling)
    return draw_residual(p, jax.nn.one_hot(refused, p.shape[-1]), refused, key, sampling)
