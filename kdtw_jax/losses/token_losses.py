"""Registry of token losses: the names that a stage's config section `losses` can give a weight.

A token loss compares teacher and student at each position of the sequences that a stage trains on.
To add your own, write a function in a module that `config.plugins` names:

    @losses.register_loss("total_variation")
    def total_variation(teacher_logits, student_logits, tokens):
      return 0.5 * jnp.sum(jnp.abs(softmax(teacher_logits) - softmax(student_logits)), axis=-1)

and give it a weight: `config.warm_start.losses.total_variation = {"weight": 1.0}`. Any other key of
that entry is passed to the function as a keyword argument.

Shape letters: B batch, C chunk of positions, V vocabulary.
"""

from collections.abc import Callable, Mapping
import functools
import inspect
import math
from typing import Any

from jaxtyping import Array, Float

from kdtw_jax.losses import distillation

# (teacher_logits [B, C, V], student_logits [B, C, V], tokens [B, C], **options) -> [B, C] nats
TokenLoss = Callable[..., Float[Array, "B C"]]

TOKEN_LOSSES: dict[str, TokenLoss] = {}


def register_loss(name: str) -> Callable[[TokenLoss], TokenLoss]:
  """Registers a function as a token loss that configs can name.

  Args:
    name: name in a stage's `losses`.

  Returns:
    A decorator that returns the function unchanged.

  Raises:
    ValueError: if the name is taken or is not an identifier.
  """
  if not name.isidentifier():
    raise ValueError(f"loss {name!r}: must be a name of letters, digits and underscores")

  def register(fn: TokenLoss) -> TokenLoss:
    taken = TOKEN_LOSSES.get(name)
    if taken is not None and taken.__module__ != fn.__module__:
      raise ValueError(f"loss {name!r}: {taken.__module__} has registered it; choose another name")
    TOKEN_LOSSES[name] = fn
    return fn

  return register


def weighted_losses(
    section: Mapping[str, Mapping[str, Any]], *, field: str = "losses"
) -> dict[str, tuple[float, TokenLoss]]:
  """Returns a stage's losses of nonzero weight, with their options bound.

  Args:
    section: maps each name to `{"weight": w, **options}`.
    field: name of the section in the config, for errors.

  Returns:
    Each name with its weight and a function of teacher logits, student logits and tokens.

  Raises:
    ValueError: if a name or an option is unknown, or a weight is negative or not finite.
  """
  found = {}
  for name, entry in section.items():
    options = dict(entry)
    weight = options.pop("weight", 0.0)
    if name not in TOKEN_LOSSES:
      raise ValueError(
          f"{field}.{name}: unknown loss; registered are {', '.join(TOKEN_LOSSES)}. One of your own"
          " is registered by a module named in config.plugins"
      )
    if not (math.isfinite(weight) and weight >= 0):
      raise ValueError(f"{field}.{name}.weight={weight}: must be finite and >= 0")
    known = list(inspect.signature(TOKEN_LOSSES[name]).parameters)[3:]
    unknown = [option for option in options if option not in known]
    if unknown:
      raise ValueError(
          f"{field}.{name}.{unknown[0]}: unknown option; it has {', '.join(known) or 'none'}"
      )
    if weight:
      found[name] = (weight, functools.partial(TOKEN_LOSSES[name], **options))
  return found


@register_loss("cross_entropy")
def _cross_entropy(teacher_logits, student_logits, tokens):
  """Computes the cross-entropy of the tokens; ignores the teacher."""
  del teacher_logits
  return distillation.cross_entropy(student_logits, tokens)


@register_loss("forward_kl")
def _forward_kl(teacher_logits, student_logits, tokens):
  """Computes KL(μ‖π)."""
  del tokens
  return distillation.forward_kl(teacher_logits, student_logits)


@register_loss("reverse_kl")
def _reverse_kl(teacher_logits, student_logits, tokens):
  """Computes KL(π‖μ)."""
  del tokens
  return distillation.reverse_kl(teacher_logits, student_logits)


@register_loss("generalized_jsd")
def _generalized_jsd(teacher_logits, student_logits, tokens, *, beta: float = 0.5):
  """Computes JSD_β."""
  del tokens
  return distillation.generalized_jsd(teacher_logits, student_logits, beta=beta)
